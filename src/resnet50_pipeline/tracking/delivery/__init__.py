"""Delivers results to MLflow, even if the server is down or the process dies."""
