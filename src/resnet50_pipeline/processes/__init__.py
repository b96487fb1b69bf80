"""Wraps operating system services: background threads, signals, file locks, parent processes and users."""
