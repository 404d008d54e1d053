"""What a daemon bears: many clients at once, while it is changed, restarted, and for long."""
