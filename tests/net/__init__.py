"""Tests of the sockets: legs, listeners, the relay, and attacks on the wire."""
