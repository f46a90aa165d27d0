"""Attestations of a finished image (SBOMs, provenance) and its signature."""
