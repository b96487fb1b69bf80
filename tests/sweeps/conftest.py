"""What the tests of sweeps share."""

from __future__ import annotations

from sweep_project import hold  # noqa: F401
