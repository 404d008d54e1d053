"""Names for the tests: zones that are signed when they are written, and unbound serving them."""
