"""Twisted: legs, TLS contexts, listeners and the relay."""
