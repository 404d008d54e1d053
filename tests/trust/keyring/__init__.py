"""Tests of `proxy.trust.keyring`."""
