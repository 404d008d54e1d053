"""Several processes that share the listening ports, and the one that leads them."""
