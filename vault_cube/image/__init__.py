"""From a checkout to a golden image; `recipe.py` names the steps, read it first."""
