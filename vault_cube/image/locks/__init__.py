"""Resolve packages and wheels, and read and write the lock files."""
