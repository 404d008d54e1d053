"""Tests of `proxy.session`."""
