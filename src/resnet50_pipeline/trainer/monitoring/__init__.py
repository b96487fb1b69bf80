"""Measures what a training run reports besides loss and accuracy."""
