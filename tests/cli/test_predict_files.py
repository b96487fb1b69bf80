"""`kedro predict` finds the images in folders, counts skipped files, and can print any file name."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from resnet50_pipeline.commands.predict import _as_json, find_images, show_text
from resnet50_pipeline.exceptions import DatasetNotFoundError
from resnet50_pipeline.imagenet.lists.generation import IMAGE_SUFFIXES


def make(folder: Path, *names: str | bytes) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        with open(os.fsencode(folder) + b"/" + os.fsencode(name), "wb"):  # noqa: PTH123 - names are bytes
            pass


def test_folder_gives_its_images_and_counts_the_rest(tmp_path: Path) -> None:
    """All image suffixes are found; other and hidden files are counted by suffix, in one note per folder."""
    make(tmp_path / "a", *(f"image{suffix}" for suffix in IMAGE_SUFFIXES), "b.HEIC", "c.heic", "notes.txt", "README")
    make(tmp_path / "a" / "below", "._d.JPEG", "d.JPEG")
    make(tmp_path / "b", "only.JPEG")
    found = find_images(tmp_path, ["a", "b", "missing.JPEG"])
    assert len(found.images) == len(IMAGE_SUFFIXES) + 3
    assert found.images[-1] == tmp_path / "missing.JPEG"
    (note,) = found.notes
    assert "2 .heic, 1 .txt, 1 hidden, 1 without suffix" in note


def test_folder_without_images_names_what_it_contains(tmp_path: Path) -> None:
    """The error counts the files that were found instead."""
    make(tmp_path, "a.heic", "b.heic")
    with pytest.raises(DatasetNotFoundError, match=r"2 \.heic"):
        find_images(tmp_path, ["."])


def test_name_that_is_not_utf8_can_be_shown(tmp_path: Path) -> None:
    """The name is printed with an escape, but preserved in JSON, so that the file can be opened."""
    make(tmp_path, b"caf\xe9.JPEG", "z.JPEG")
    first, last = find_images(tmp_path, ["."]).images
    assert show_text(first.name) == r"caf\xe9.JPEG"
    assert show_text(last.name) == "z.JPEG"
    line = _as_json({"path": str(first)})
    assert line.isascii()
    assert Path(json.loads(line)["path"]).is_file()
    assert _as_json({"path": "é"}) == '{"path": "é"}'
