"""Measures the accuracy on corrupted images."""
