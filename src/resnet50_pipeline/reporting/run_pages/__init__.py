"""Renders the pages of runs and sweeps, with the words and links that MLflow also shows."""
