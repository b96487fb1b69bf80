"""Renders the pages of runs and sweeps, and the descriptions of runs in MLflow."""
