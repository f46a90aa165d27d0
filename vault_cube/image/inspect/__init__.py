"""Inspect a finished image: contents, differences, signatures and vulnerabilities."""
