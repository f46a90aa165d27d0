"""Fetch the locked files, and re-resolve those that no server has any more."""
