"""Checks a dataset before training: validates its manifest with Great Expectations, and writes the results."""
