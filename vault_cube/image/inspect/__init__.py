"""Questions about an image that exists: contents, differences, soundness, vulnerabilities."""
