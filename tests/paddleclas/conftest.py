"""Imports the fixtures that tests with stub ranks share."""

from __future__ import annotations

from stub_ranks import canary, stub_launch  # noqa: F401
