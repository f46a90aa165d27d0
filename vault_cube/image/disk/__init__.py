"""A bootable disk and its file formats, made of finished layers."""
