"""Measures Bascule beside HAProxy and stunnel, in one run on one machine: ``make bench``."""
