"""Whom to believe: the ladder of policies, the keyring, and what operators and sites must say."""
