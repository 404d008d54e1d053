"""The language: XMPP's streams as bytes and values, without I/O."""
