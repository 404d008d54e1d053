"""Metrics and health: what the daemon counts, and the page on which both are read."""
