"""Shares fixtures with the sweep tests."""

from __future__ import annotations

from sweep_project import hold  # noqa: F401
