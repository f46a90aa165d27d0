"""Statements about a finished image: SBOMs, provenance, signature."""
