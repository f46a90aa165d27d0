"""Layer keys, and the finished layers that are stored under them."""
