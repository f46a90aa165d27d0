"""From a checkout to a golden image; `build.py` is the recipe, read it first."""
