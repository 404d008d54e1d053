"""The keyring: which certificates each domain has shown, and what was decided about them."""
