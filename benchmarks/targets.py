"""What a benchmark measured, and the bound that it must keep: one line a target."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


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
