"""Implements the project's commands for `kedro`, with one module per command."""
