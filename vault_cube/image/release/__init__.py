"""Verify that an image is reproducible, rebuild the image of somebody else, and write a release."""
