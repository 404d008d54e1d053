"""Who may be believed: identities, policies, pins and the verdict, without I/O."""
