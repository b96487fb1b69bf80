"""Where the parts of an ImageNet folder are: `train/`, `val/` and the two list files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from resnet50_pipeline.exceptions import DatasetNotFoundError, ListFileError
from resnet50_pipeline.imagenet.list_files import SPLITS, PrefixedList, Split, prefix_list, read_list_file

EXPECTED_LAYOUT = """\
  <root>/train/n01440764/n01440764_10026.JPEG …    a folder a class
  <root>/val/n01440764/….JPEG, or flat: val/ILSVRC2012_val_00000001.JPEG …
  <root>/{train_list}    one `path label` line an image, paths relative to train/ or to the root
  <root>/{val_list}"""


@dataclass(frozen=True)
class DatasetLayout:
    """The parts of one dataset folder, all of which exist.

    Attributes:
        root: the folder; may itself be a symbolic link.
        lists: list file of each split.
    """

    root: Path
    lists: Mapping[Split, Path]


def find_layout(root: Path, train_list: str = "train_list.txt", val_list: str = "val_list.txt") -> DatasetLayout:
    """Return the parts of the dataset at `root`.

    Args:
        root: folder of train/ and val/.
        train_list: list file of train/, relative to `root`.
        val_list: list file of val/, relative to `root`.

    Raises:
        DatasetNotFoundError: with every part that is missing, and the layout that is expected.
    """
    lists: dict[Split, Path] = {"train": root / train_list, "val": root / val_list}
    if not root.is_dir():
        missing = [f"{root} is {'not a folder' if root.exists() else 'not there'}"]
    else:
        missing = [f"the folder {root / split} is missing" for split in SPLITS if not (root / split).is_dir()]
        missing += [f"the list file {path} is missing" for path in lists.values() if not path.is_file()]
    if missing:
        layout = EXPECTED_LAYOUT.format(train_list=train_list, val_list=val_list)
        raise DatasetNotFoundError(
            "no data set of ImageNet's layout: " + "; ".join(missing) + f". Expected:\n{layout}\n"
            "→ set dataset.root (`--params dataset.root=/path/to/imagenet`), dataset.train_list and dataset.val_list"
        )
    return DatasetLayout(root, lists)


def read_lists(layout: DatasetLayout, class_num: int, label_base: Literal[0, 1] = 0) -> dict[Split, PrefixedList]:
    """Read, check and prefix the list files of both splits; the files stay as they are.

    Returns:
        By split, the entries with paths relative to the dataset root and 0-based labels.

    Raises:
        ListFileError: with the problems of both lists.
    """
    lists: dict[Split, PrefixedList] = {}
    problems: list[str] = []
    for split, path in layout.lists.items():
        try:
            lists[split] = prefix_list(read_list_file(path, class_num, label_base), split)
        except ListFileError as error:
            problems += error.problems
    if problems:
        raise ListFileError(problems)
    return lists


def describe_lists(lists: Mapping[Split, PrefixedList]) -> list[str]:
    """Return a sentence for each thing about the lists that was put right while reading, for the report."""
    notices = []
    for split, prefixed in lists.items():
        entries = prefixed.entries
        name = Path(entries.source).name
        notices += [f"{name}: {notice}" for notice in entries.notices]
        if 0 < prefixed.added_count < len(entries):
            notices.append(
                f"{name}: {prefixed.added_count} of {len(entries)} paths had no {split}/ in front, "
                "the others had; it was added where it was missing"
            )
    return notices
