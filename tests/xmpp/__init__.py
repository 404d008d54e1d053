"""Tests of the language: framing, headers, features, domains, errors, text."""
