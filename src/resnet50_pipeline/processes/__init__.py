"""Wraps services of the operating system: background threads, signals, file locks, parent processes and users."""
