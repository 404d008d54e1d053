"""The service under a real systemd, in a container."""
