"""Starts, watches and stops the ranks of a training run."""
