"""Build, prove and keep AI workstations: the plain Python that Salt modules and the image builder share."""

__version__ = "1.0.0"
