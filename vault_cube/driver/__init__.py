"""The driver on a live box: does it come up, and what to do when it does not."""
