"""Python environments of the frameworks, created from their locks."""
