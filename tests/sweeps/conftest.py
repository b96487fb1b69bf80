"""Shares fixtures with the tests of sweeps."""

from __future__ import annotations

from sweep_project import hold  # noqa: F401
