"""Implements the project's `kedro` commands, one module each."""
