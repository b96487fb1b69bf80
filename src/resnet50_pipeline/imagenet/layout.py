"""Where the parts of an ImageNet folder are: `train/`, `val/` and the two list files, or what stands for them."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from resnet50_pipeline.exceptions import DatasetNotFoundError, ListFileError
from resnet50_pipeline.imagenet.ground_truth import META_FILE
from resnet50_pipeline.imagenet.list_files import SPLITS, PrefixedList, Split, prefix_list, read_list_file
from resnet50_pipeline.imagenet.list_generation import (
    find_folder_labels,
    list_folders,
    list_ground_truth,
    number_classes,
)
from resnet50_pipeline.imagenet.split_images import LooseImages, SplitImages
from resnet50_pipeline.parameters import DatasetParameters

if TYPE_CHECKING:
    from resnet50_pipeline.imagenet.archived_images import ArchivedImages

DEFAULT_LISTS: Mapping[Split, str] = {"train": "train_list.txt", "val": "val_list.txt"}
EXPECTED_LAYOUT = """\
  <root>/train/n01440764/n01440764_10026.JPEG …    a folder a class
  <root>/val/n01440764/….JPEG, or flat: val/ILSVRC2012_val_00000001.JPEG …
  <root>/{train_list}    one `path label` line an image, paths relative to train/ or to the root
  <root>/{val_list}
Without list files the class folders say what is in them (sorted, the first is label 0); for a flat val/ then set
dataset.val_ground_truth (ILSVRC2012_validation_ground_truth.txt, LOC_val_solution.csv, or a synset a line).
Instead of train/ and val/ there may be archives: set dataset.train_archive (ILSVRC2012_img_train.tar) and
dataset.val_archive (ILSVRC2012_img_val.tar)"""


@dataclass(frozen=True)
class DatasetLayout:
    """The parts of one dataset folder; a list that is not there can be made from the folders.

    Attributes:
        root: the folder; may itself be a symbolic link.
        lists: list file of each split.
        val_ground_truth: file with the class of each val image, in place of val's list file.
        val_ground_truth_meta: the devkit's meta.mat, if it does not lie beside `val_ground_truth`.
        archives: of the splits whose images are read from archives, see `imagenet.archives.find_archive_parts`.
    """

    root: Path
    lists: Mapping[Split, Path]
    val_ground_truth: Path | None = None
    val_ground_truth_meta: Path | None = None
    archives: Mapping[Split, Path] = field(default_factory=dict)

    @property
    def meta(self) -> Path | None:
        """The devkit's meta.mat, which has names of the classes, where there is one."""
        if self.val_ground_truth is None:
            return None
        path = self.val_ground_truth_meta or self.val_ground_truth.with_name(META_FILE)
        return path if path.is_file() else None


def find_dataset(root: Path, dataset: DatasetParameters) -> DatasetLayout:
    """Return the parts of the dataset at `root` that the parameters name; see `find_layout`."""
    return find_layout(
        root,
        dataset.train_list,
        dataset.val_list,
        dataset.val_ground_truth,
        dataset.val_ground_truth_meta,
        archives={
            split: path
            for split, path in zip(SPLITS, (dataset.train_archive, dataset.val_archive), strict=True)
            if path is not None
        },
    )


def find_layout(
    root: Path,
    train_list: str = DEFAULT_LISTS["train"],
    val_list: str = DEFAULT_LISTS["val"],
    val_ground_truth: Path | None = None,
    val_ground_truth_meta: Path | None = None,
    *,
    archives: Mapping[Split, Path] | None = None,
) -> DatasetLayout:
    """Return the parts of the dataset at `root`.

    Args:
        root: folder of train/ and val/.
        train_list: list file of train/, relative to `root`. May be missing under its default name only, and only where
            there are class folders to make a list from.
        val_list: list file of val/, relative to `root`; as `train_list`.
        val_ground_truth: file with the class of each val image, relative to `root` or absolute, if there is one.
        val_ground_truth_meta: the devkit's meta.mat, likewise; by default beside `val_ground_truth`.
        archives: of the splits whose images are in archives, likewise; their folders need not be there, and what is in
            an archive is not looked at here.

    Raises:
        DatasetNotFoundError: with every part that is missing, and the layout that is expected.
    """
    layout = DatasetLayout(
        root,
        {"train": root / train_list, "val": root / val_list},
        root / val_ground_truth if val_ground_truth is not None else None,
        root / val_ground_truth_meta if val_ground_truth_meta is not None else None,
        {split: root / path for split, path in (archives or {}).items()},
    )
    missing = list(_find_missing(layout))
    if missing:
        expected = EXPECTED_LAYOUT.format(train_list=train_list, val_list=val_list)
        raise DatasetNotFoundError(
            "no data set of ImageNet's layout: " + "; ".join(missing) + f". Expected:\n{expected}\n"
            "→ set dataset.root (`--params dataset.root=/path/to/imagenet`), dataset.train_list and dataset.val_list"
        )
    return layout


def _find_missing(layout: DatasetLayout) -> Iterator[str]:
    """Yield a few words for each part that is not there."""
    root, ground_truth = layout.root, layout.val_ground_truth
    if not root.is_dir():
        yield f"{root} is {'not a folder' if root.exists() else 'not there'}"
        return
    for split in SPLITS:
        if split in layout.archives:
            if not layout.archives[split].exists():
                yield f"the archive {layout.archives[split]} is missing"
        elif not (root / split).is_dir():
            yield f"the folder {root / split} is missing"
    for split, path in layout.lists.items():
        if path.is_file() or (split == "val" and ground_truth is not None):
            continue
        # A name that was chosen, a broken link or a FIFO: then a list was meant, and none is made in its stead.
        is_meant = path != root / DEFAULT_LISTS[split] or os.path.lexists(path)
        if is_meant or not (split in layout.archives or _has_class_folders(root / split)):
            yield f"the list file {path} is {'not a file' if os.path.lexists(path) else 'missing'}"
    for file in (ground_truth, layout.val_ground_truth_meta):
        if file is not None and not file.is_file():
            yield f"the file {file} is missing"


def read_lists(
    layout: DatasetLayout,
    class_num: int,
    label_base: Literal[0, 1] = 0,
    *,
    repair: bool = False,
    archived: Mapping[Split, ArchivedImages] | None = None,
) -> dict[Split, PrefixedList]:
    """Read, check and prefix the lists of both splits, or make those that are missing; nothing is written.

    Args:
        layout: the parts of the dataset.
        class_num: number of classes.
        label_base: what labels count from in the given list files.
        repair: take away what `sed` put too much in them, see `prefix_list`.
        archived: what is in the archives of the layout; by default they are looked at where a list is made from them.

    Returns:
        By split, the entries with paths relative to the dataset root and 0-based labels.

    Raises:
        ListFileError: with the problems of both lists.
        DatasetError: as `imagenet.archived_images.index_archives`.
    """

    @functools.cache
    def images(split: Split) -> SplitImages:
        if split not in layout.archives:
            return LooseImages(layout.root / split)
        if archived is not None and split in archived:
            return archived[split]
        # Here, for what a run checks first of all, the layout, needs no Pillow.
        from resnet50_pipeline.imagenet.archived_images import index_archives

        return index_archives({split: layout.archives[split]})[split]

    lists: dict[Split, PrefixedList] = {}
    problems: list[str] = []
    makers: dict[Split, Callable[[], PrefixedList]] = {
        "train": lambda: list_folders(images("train"), "train", class_num, number_classes(images("train"), class_num)),
        "val": lambda: _make_val_list(layout, class_num, lists.get("train"), images),
    }
    for split, path in layout.lists.items():
        try:
            if path.is_file() and not (split == "val" and layout.val_ground_truth):
                lists[split] = prefix_list(read_list_file(path, class_num, label_base), split, repair=repair)
            else:
                lists[split] = makers[split]()
        except ListFileError as error:
            problems += error.problems
    if problems:
        raise ListFileError(problems)
    return lists


def _make_val_list(
    layout: DatasetLayout, class_num: int, train: PrefixedList | None, images: Callable[[Split], SplitImages]
) -> PrefixedList:
    """Return val's list by the classes of the train list that is given, or else of the sorted folders of train/."""
    if train is not None and layout.lists["train"].is_file():
        labels = find_folder_labels(train.entries)
    else:
        labels = number_classes(images("train"), class_num)
    if layout.val_ground_truth is None:
        return list_folders(images("val"), "val", class_num, labels)
    return list_ground_truth(images("val"), layout.val_ground_truth, layout.val_ground_truth_meta, class_num, labels)


def _has_class_folders(split_folder: Path) -> bool:
    return split_folder.is_dir() and bool(LooseImages(split_folder).find_class_folders())


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
        if prefixed.repaired_count:
            notices.append(
                f"{name}: {prefixed.repaired_count} of {len(entries)} paths had {split}/ in front more than once, as "
                "`sed` run twice leaves it; it was left there once (dataset.repair)"
            )
    return notices
