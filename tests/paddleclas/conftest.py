"""Shares fixtures with the tests that supervise stub ranks."""

from __future__ import annotations

from stub_ranks import canary, stub_launch  # noqa: F401
