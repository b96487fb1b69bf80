"""Implements the commands that work with MLflow: its UI, the champion, and delayed uploads."""
