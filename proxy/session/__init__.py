"""The negotiation: events in, commands out, without I/O."""
