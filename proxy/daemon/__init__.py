"""The daemon: conf, command line, service, log and demo."""
