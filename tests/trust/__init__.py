"""Tests of `proxy.trust`."""
