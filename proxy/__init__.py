"""Bascule, a transparent TLS-upgrading XMPP proxy."""
