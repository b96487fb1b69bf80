"""Explains predictions."""
