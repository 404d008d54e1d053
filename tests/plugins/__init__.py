"""Tests of the plugins that come with Bascule."""
