"""Reads the encoded images in a list by row number, whether the images are separate files or packed."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from resnet50_pipeline.exceptions import ImageDecodeError
from resnet50_pipeline.imagenet.lists.files import ListEntries


class ImageSource(Protocol):
    """The encoded images in a list file, read by row number.

    Sources must be picklable, because they are sent to DataLoader workers.
    """

    def read(self, row: int) -> bytes:
        """Return the encoded bytes of an image.

        Raises:
            ImageDecodeError: if the bytes cannot be read; the message identifies the image.
        """
        ...

    def name(self, row: int) -> str:
        """Return where an image is stored, for error messages."""
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
                f"{path} cannot be read: {error.strerror} → restore the file if it was moved, or run data_validation "
                "again"
            ) from error

    def name(self, row: int) -> str:
        """Return the path of the image file."""
        return str(self._path(row))

    def _path(self, row: int) -> Path:
        return self._image_root / self._entries.paths[row]
