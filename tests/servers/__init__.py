"""Tests against real servers, clients and auditors."""
