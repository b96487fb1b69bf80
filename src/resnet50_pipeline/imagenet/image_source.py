"""Reads the encoded images of a list by row number, from separate files or from another store."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from resnet50_pipeline.exceptions import ImageDecodeError
from resnet50_pipeline.imagenet.lists.files import ListEntries


class ImageSource(Protocol):
    """Encoded images of a list file, read by row number.

    Sources must be picklable, because they are sent to DataLoader workers.
    """

    def read(self, row: int) -> bytes:
        """Return the encoded bytes of an image.

        Raises:
            ImageDecodeError: if the bytes cannot be read; the message identifies the image.
        """
        ...

    def name(self, row: int) -> str:
        """Return the location of an image's bytes, for use in messages."""
        ...


class LooseFiles:
    """Images stored as separate files below `image_root`."""

    def __init__(self, entries: ListEntries, image_root: Path) -> None:
        self._entries, self._image_root = entries, image_root

    def read(self, row: int) -> bytes:
        """Return the bytes of an image file.

        Raises:
            ImageDecodeError: if the file cannot be read.
        """
        path = self._path(row)
        try:
            return path.read_bytes()
        except OSError as error:
            raise ImageDecodeError(
                f"{path} cannot be read: {error.strerror} → restore it if it was moved, or run data_validation again"
            ) from error

    def name(self, row: int) -> str:
        """Return the path of the image file."""
        return str(self._path(row))

    def _path(self, row: int) -> Path:
        return self._image_root / self._entries.paths[row]
