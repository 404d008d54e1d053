"""What becomes of an alert: the log, and hooks that reach an administrator."""
