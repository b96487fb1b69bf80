"""Reads text files that come with a dataset."""

from __future__ import annotations

from pathlib import Path

from resnet50_pipeline.exceptions import ListFileError


def read_text_file(path: Path) -> str:
    """Return the text of a UTF-8 file, without a byte-order mark.

    Raises:
        ListFileError: if the file is not UTF-8.
    """
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ListFileError([f"{path}: byte {error.start} is not UTF-8 → save the file as UTF-8"]) from error
