"""Recognizes the names that datasets use for their splits, such as `valid`, `train.X1` or `val_list.txt`."""

from __future__ import annotations

import re
from collections.abc import Mapping

from resnet50_pipeline.imagenet.lists.files import Split

_SPLIT_NAMES: Mapping[Split, str] = {
    "train": r"train(ing)?([_-]?set)?(\.x?[0-9]+)?",
    "val": r"(val(id(ation)?)?|dev|eval)([_-]?set)?(\.x?[0-9]*)?",
    "test": r"test(ing)?([_-]?set)?(\.x?[0-9]*)?",
}
LIST_NAMES: Mapping[Split, tuple[str, ...]] = {
    "train": ("train_list.txt", "train.txt"),
    "val": ("val_list.txt", "val.txt", "valid.txt", "validation.txt"),
    "test": ("test_list.txt", "test.txt"),
}


def split_of_name(name: str) -> Split | None:
    """Return the split that a folder name or value such as `Valid` or `train.X1` refers to, or None."""
    return next((split for split, form in _SPLIT_NAMES.items() if re.fullmatch(form, name.strip().lower())), None)
