"""Tests of Bascule; the rooms of `proxy` have their own folders."""
