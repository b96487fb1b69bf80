"""Metrics, pictures and the report of an evaluation: pure functions over its tables."""
