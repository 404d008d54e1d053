"""The control socket: what a running daemon tells its operators, and does for them."""
