"""Tests of what becomes of an alert."""
