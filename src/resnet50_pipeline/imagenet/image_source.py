"""Where the bytes of a list's images come from: files of their own, or anything else that knows a list's rows."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from resnet50_pipeline.exceptions import ImageDecodeError
from resnet50_pipeline.imagenet.list_files import ListEntries


class ImageSource(Protocol):
    """The encoded images of a list file, by row; it is copied into loader processes."""

    def read(self, row: int) -> bytes:
        """Return the bytes of an image's file.

        Raises:
            ImageDecodeError: they cannot be read; the message names the image.
        """
        ...

    def name(self, row: int) -> str:
        """Return what messages call an image: where its bytes are found."""
        ...


class LooseFiles:
    """Every image is a file below `image_root`."""

    def __init__(self, entries: ListEntries, image_root: Path) -> None:
        self._entries, self._image_root = entries, image_root

    def read(self, row: int) -> bytes:
        """Return the bytes of an image's file.

        Raises:
            ImageDecodeError: they cannot be read.
        """
        path = self._path(row)
        try:
            return path.read_bytes()
        except OSError as error:
            raise ImageDecodeError(
                f"{path}: cannot be read: {error.strerror}; was it moved since validation?"
            ) from error

    def name(self, row: int) -> str:
        """Return the file's path."""
        return str(self._path(row))

    def _path(self, row: int) -> Path:
        return self._image_root / self._entries.paths[row]
