"""What a benchmark measured, and the bound that it must keep: one line a target."""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Target:
    """A figure and the bound that it must keep."""

    name: str
    measured: float
    bound: float
    at_least: bool = False

    @property
    def holds(self) -> bool:
        """Whether the bound is kept."""
        return self.measured >= self.bound if self.at_least else self.measured <= self.bound

    def __str__(self) -> str:
        sign = ">=" if self.at_least else "<="
        return f"{self.name} | {self.measured:.3f} | {sign} {self.bound:g} | {'yes' if self.holds else 'NO'}"


def report(targets: Sequence[Target], *, is_checked: bool) -> int:
    """Print the targets, and return the exit code: 1 where one does not hold and that is asked for."""
    print("target | measured | bound | holds")
    for target in targets:
        print(target)
    return 1 if is_checked and not all(target.holds for target in targets) else 0


def measure_parts(description: str, parts: Mapping[str, Callable[[Path], list[Target]]]) -> int:
    """Read the command line, measure the parts, each in a temporary folder of its own, and return the exit code."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="exit with 1 when a target does not hold")
    parser.add_argument("--only", nargs="+", choices=tuple(parts), default=tuple(parts), help="parts that are measured")
    options = parser.parse_args()
    targets: list[Target] = []
    for part in options.only:
        with tempfile.TemporaryDirectory(prefix=f"benchmark-{part}-") as folder:
            targets += parts[part](Path(folder))
    return report(targets, is_checked=options.check)
