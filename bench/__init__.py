"""Measures Bascule beside HAProxy, stunnel and direct clients, on one machine: ``make bench``."""
