"""Where the images of a split lie: loose in folders, or in archives. Lists are made from either alike."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol


class SplitImages(Protocol):
    """What lists are made from."""

    @property
    def place(self) -> str:
        """How messages name it."""
        ...

    def find_class_folders(self) -> list[str]:
        """Return the names of the class folders, sorted: a class's place in train/'s is its label."""
        ...

    def find_names(self, folder: str = "") -> Iterable[str]:
        """Return the names of what lies in a class folder, or in none; in any order."""
        ...


@dataclass(frozen=True)
class LooseImages:
    """The images of a split that are files of their own, below `folder`."""

    folder: Path

    @property
    def place(self) -> str:
        """How messages name it."""
        return str(self.folder)

    def find_class_folders(self) -> list[str]:
        """Return the names of the class folders, sorted. Hidden ones are none."""
        with os.scandir(self.folder) as entries:
            return sorted(entry.name for entry in entries if entry.is_dir() and not entry.name.startswith("."))

    def find_names(self, folder: str = "") -> Iterable[str]:
        """Return the names of what lies in a class folder, or in none; whatever it is, the scan looks at that."""
        with os.scandir(self.folder / folder) as entries:
            return [entry.name for entry in entries]
