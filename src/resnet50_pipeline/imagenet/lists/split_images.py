"""Reads the file names of a split, from folders or archives, to generate its list."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from resnet50_pipeline.exceptions import DatasetError
from resnet50_pipeline.imagenet.folder_walk import is_class_folder


class SplitImages(Protocol):
    """File names of one split, from which a list can be generated."""

    @property
    def display_name(self) -> str:
        """Name used in messages."""
        ...

    def list_class_folders(self) -> list[str]:
        """Return the sorted names of the class folders. In train/, the position of a name is its label."""
        ...

    def list_file_names(self, folder: str = "") -> Iterable[str]:
        """Return the unsorted file names in a class folder, or directly in the split folder if `folder` is empty."""
        ...

    def find_nested_images(self, folder: str) -> Iterable[str]:
        """Return the files in the subfolders of a class folder, as paths relative to the class folder."""
        ...


@dataclass(frozen=True)
class LooseImages:
    """Images of a split that are separate files below `folder`."""

    folder: Path

    @property
    def display_name(self) -> str:
        """Name used in messages."""
        return str(self.folder)

    def list_class_folders(self) -> list[str]:
        """Return the sorted names of the class folders. Folders that `is_class_folder` excludes are ignored."""
        with _reading(self.folder), os.scandir(self.folder) as entries:
            return sorted(entry.name for entry in entries if entry.is_dir() and is_class_folder(entry.name))

    def list_file_names(self, folder: str = "") -> Iterable[str]:
        """Return the names of all entries in a folder. The scan checks their types later."""
        with _reading(self.folder / folder), os.scandir(self.folder / folder) as entries:
            return [entry.name for entry in entries]

    def find_nested_images(self, folder: str) -> Iterable[str]:
        """Return the files in the subfolders of a class folder, as paths relative to the class folder."""
        top = self.folder / folder
        return [path.relative_to(top).as_posix() for path in top.glob("*/*")]


@contextlib.contextmanager
def _reading(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise DatasetError(f"{folder} cannot be read: {error.strerror} → make the folder readable") from error
