"""Compares measured figures with their bounds and prints one line per target."""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Target:
    """A measured figure and its bound: a maximum, or a minimum if `at_least` is true."""

    name: str
    measured: float
    bound: float
    at_least: bool = False

    @property
    def is_met(self) -> bool:
        """Whether the figure is within the bound."""
        return self.measured >= self.bound if self.at_least else self.measured <= self.bound

    def __str__(self) -> str:
        sign = ">=" if self.at_least else "<="
        return f"{self.name} | {self.measured:.3f} | {sign} {self.bound:g} | {'yes' if self.is_met else 'NO'}"


def peak_memory_bytes() -> int:
    """Return the peak resident memory of this process in bytes.

    `ru_maxrss` of getrusage(2) would include the memory of the process that started this one, as it was before exec.
    """
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM:")) * 1024


def report(targets: Sequence[Target], *, is_checked: bool) -> int:
    """Print the targets and return the exit code: 1 if `is_checked` is true and a target is missed, otherwise 0."""
    print("target | measured | bound | met")
    for target in targets:
        print(target)
    return 1 if is_checked and not all(target.is_met for target in targets) else 0


def measure_parts(description: str, parts: Mapping[str, Callable[[Path], list[Target]]]) -> int:
    """Parse the command line, measure each part in a separate temporary folder, and return the exit code."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="exit with 1 if a target is missed")
    parser.add_argument("--only", nargs="+", choices=tuple(parts), default=tuple(parts), help="parts to measure")
    options = parser.parse_args()
    targets: list[Target] = []
    for part in options.only:
        with tempfile.TemporaryDirectory(prefix=f"benchmark-{part}-") as folder:
            targets += parts[part](Path(folder))
    return report(targets, is_checked=options.check)
