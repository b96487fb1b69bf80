"""Registers model versions, judges them with the quality gate, and sets the champion alias."""
