"""A benchmark result as pages for people."""
