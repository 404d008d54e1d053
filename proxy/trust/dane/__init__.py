"""DANE: servers prove themselves by what DNSSEC says of their certificates (RFC 6698)."""
