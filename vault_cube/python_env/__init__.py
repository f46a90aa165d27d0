"""Python environments of frameworks, made exactly as their lock says."""
