"""Reads class names from a file with one class per line, such as `n01440764 tench, Tinca tinca`."""

from __future__ import annotations

from pathlib import Path

from resnet50_pipeline.exceptions import ListFileError

# Kaggle's copy of ImageNet uses the second file name.
NAME_FILES = ("synset_words.txt", "LOC_synset_mapping.txt")


def find_name_file(root: Path) -> Path | None:
    """Return the first of `NAME_FILES` in a dataset folder, or None if there is none."""
    return next((path for name in NAME_FILES if (path := root / name).is_file()), None)


def read_synset_names(root: Path) -> dict[str, str]:
    """Return the names, keyed by synset, from the first of `NAME_FILES` in `root`, or {} if there is none.

    Raises:
        ListFileError: if the file is not UTF-8 or cannot be read.
    """
    path = find_name_file(root)
    if path is None:
        return {}
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        byte = error.object[error.start]
        raise ListFileError(
            [f"{path}: byte {error.start}: 0x{byte:02x} is not UTF-8 → save the file as UTF-8, or move it elsewhere"]
        ) from error
    except OSError as error:
        raise ListFileError(
            [f"{path} cannot be read: {error.strerror} → make the file readable, or move it elsewhere"]
        ) from error
    fields = [line.strip().split(maxsplit=1) for line in lines if line.strip()]
    return {synset: names[0] if names else synset for synset, *names in fields}
