"""Locates `train/`, `val/` and the list files in an ImageNet folder, or the archives and files that replace them."""

from __future__ import annotations

import functools
import itertools
import os
import shlex
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from resnet50_pipeline.exceptions import DatasetNotFoundError, ListFileError
from resnet50_pipeline.imagenet.lists.class_file import ListedClass, read_class_file
from resnet50_pipeline.imagenet.lists.files import (
    SPLITS,
    ListEntries,
    PrefixedList,
    Split,
    prefix_list,
    read_list_file,
)
from resnet50_pipeline.imagenet.lists.generation import (
    find_folder_labels,
    list_folders,
    list_ground_truth,
    number_classes,
)
from resnet50_pipeline.imagenet.lists.ground_truth import META_FILE
from resnet50_pipeline.imagenet.lists.patches import Patch, apply_patches, read_patches
from resnet50_pipeline.imagenet.lists.split_images import LooseImages, SplitImages
from resnet50_pipeline.imagenet.lists.synset_names import read_synset_names
from resnet50_pipeline.parameters import DatasetParameters

if TYPE_CHECKING:
    from resnet50_pipeline.imagenet.archives.images import ArchivedImages

DEFAULT_LISTS: Mapping[Split, str] = {"train": "train_list.txt", "val": "val_list.txt"}
TEST_LIST = "test_list.txt"
CLASS_FILE = "classes.txt"
EXPECTED_LAYOUT = """\
  <root>/train/n01440764/n01440764_10026.JPEG …    one folder per class
  <root>/val/n01440764/….JPEG, or flat: val/ILSVRC2012_val_00000001.JPEG …
  <root>/{train_list}    one `path label` line per image, paths relative to train/ or to the root
  <root>/{val_list}
Without list files, labels come from the class folders (in sorted order, starting at 0). For a flat val/, also set
dataset.val_ground_truth (ILSVRC2012_validation_ground_truth.txt, LOC_val_solution.csv or a file of synsets).
Archives can replace train/ and val/: set dataset.train_archive (ILSVRC2012_img_train.tar) and
dataset.val_archive (ILSVRC2012_img_val.tar)"""


@dataclass(frozen=True)
class DatasetLayout:
    """The parts of one dataset folder. A missing list can be generated from the folders.

    Attributes:
        root: the dataset folder; may be a symbolic link.
        lists: path of each split's list file.
        val_ground_truth: file with the class of each val image, used instead of val's list file.
        val_ground_truth_meta: the devkit's meta.mat, if it is not in the same folder as `val_ground_truth`.
        archives: path of each archived split's archive; see `archives.parts.find_archive_parts`.
        classes: the classes in label order if `dataset.lists` is set, otherwise None. With `dataset.lists`, image
            folders do not define labels, and there may be a test list.
        patches: folder of the patches to apply to the lists, or None; see `lists.patches`.
    """

    root: Path
    lists: Mapping[Split, Path]
    val_ground_truth: Path | None = None
    val_ground_truth_meta: Path | None = None
    archives: Mapping[Split, Path] = field(default_factory=dict)
    classes: tuple[ListedClass, ...] | None = None
    patches: Path | None = None

    @property
    def is_fold(self) -> bool:
        """Whether the lists belong to a fold, which divides the images between train and val differently."""
        folder = self.lists["train"].parent
        return fold_number(folder) is not None and (folder.parent / DEFAULT_LISTS["train"]).is_file()

    @property
    def meta(self) -> Path | None:
        """Path of the devkit's meta.mat, which contains the class names. None if there is no such file."""
        if self.val_ground_truth is None:
            return None
        path = self.val_ground_truth_meta or self.val_ground_truth.with_name(META_FILE)
        return path if path.is_file() else None


def find_dataset(root: Path, dataset: DatasetParameters) -> DatasetLayout:
    """Find the parts of the dataset at `root` that the parameters configure; see `find_layout`."""
    if dataset.lists is not None:
        return replace(find_listed_images(root, dataset.lists), patches=dataset.patches)
    layout = find_layout(
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
    return replace(layout, patches=dataset.patches)


def find_listed_images(root: Path, lists: Path) -> DatasetLayout:
    """Find the list files in the folder `lists`. The images may be anywhere below `root`.

    The folder contains `train_list.txt`, `val_list.txt`, `classes.txt` (see `lists.class_file`) and, if the dataset has
    a test split, `test_list.txt`. Paths in the lists are relative to `root`. `kedro adopt` writes such a folder.

    Raises:
        DatasetNotFoundError: if `root` or a file is missing; the message lists everything that is missing.
        ListFileError: if `classes.txt` is invalid.
    """
    paths: dict[Split, Path] = {split: lists / name for split, name in DEFAULT_LISTS.items()}
    class_file = lists / CLASS_FILE
    missing = [str(path) for path in (*paths.values(), class_file) if not path.is_file()]
    if not root.is_dir():
        missing.insert(0, f"the folder {root}")
    if missing:
        raise DatasetNotFoundError(
            f"the dataset is incomplete: {', '.join(missing)} {'is' if len(missing) == 1 else 'are'} missing → correct "
            "dataset.root or dataset.lists, or recreate the lists with `kedro adopt`"
        )
    if (test := lists / TEST_LIST).is_file():
        paths["test"] = test
    return DatasetLayout(root, paths, classes=read_class_file(class_file))


def fold_folder(lists: Path, number: int) -> Path:
    """Return the folder of a fold's lists, which has the same file names as `lists`. Folds are numbered from 1."""
    return lists / f"fold-{number}"


def fold_number(folder: Path) -> int | None:
    """Return the number of a folder from `fold_folder`, or None for other folders."""
    prefix, _, number = folder.name.partition("-")
    return int(number) if prefix == "fold" and number.isdecimal() else None


def find_folds(lists: Path) -> list[Path]:
    """Return the folders of all folds, in order, or an empty list if there are none."""
    numbers = itertools.takewhile(lambda number: fold_folder(lists, number).is_dir(), itertools.count(1))
    return [fold_folder(lists, number) for number in numbers]


def require_test_list(root: Path, dataset: DatasetParameters) -> Path:
    """Return the path of the dataset's test list.

    Raises:
        DatasetNotFoundError: if the dataset has no test split.
    """
    path = find_dataset(root, dataset).lists.get("test")
    if path is None:
        where = "dataset.lists is not set" if dataset.lists is None else f"{dataset.lists / TEST_LIST} does not exist"
        raise DatasetNotFoundError(
            f"evaluation.split is test, but the dataset has no test list ({where}) → set evaluation.split: val, or "
            "adopt the dataset with `kedro adopt --test-fraction 0.1`"
        )
    return path


def find_layout(
    root: Path,
    train_list: str = DEFAULT_LISTS["train"],
    val_list: str = DEFAULT_LISTS["val"],
    val_ground_truth: Path | None = None,
    val_ground_truth_meta: Path | None = None,
    *,
    archives: Mapping[Split, Path] | None = None,
) -> DatasetLayout:
    """Find the image folders, list files and archives of the dataset at `root`.

    Args:
        root: folder that contains train/ and val/.
        train_list: list file of train/, relative to `root`. The file may be missing only if it has the default name and
            the list can be generated from class folders.
        val_list: list file of val/, relative to `root`; the same rule applies.
        val_ground_truth: file with the class of each val image, relative to `root` or absolute; None if there is none.
        val_ground_truth_meta: the devkit's meta.mat, relative or absolute; None if it is in the folder of
            `val_ground_truth`.
        archives: path of each archived split's archive, relative or absolute. Splits with an archive need no folder.
            The archives are not opened.

    Raises:
        DatasetNotFoundError: if parts are missing; the message lists each of them and the expected layout.
    """
    layout = DatasetLayout(
        root,
        {"train": root / train_list, "val": root / val_list},
        root / val_ground_truth if val_ground_truth is not None else None,
        root / val_ground_truth_meta if val_ground_truth_meta is not None else None,
        {split: root / path for split, path in (archives or {}).items()},
    )
    missing = list(_find_missing(layout))
    if not missing:
        # The class names are needed only after the scan, but an unreadable file should fail early.
        read_synset_names(root)
    if missing:
        expected = EXPECTED_LAYOUT.format(train_list=train_list, val_list=val_list)
        raise DatasetNotFoundError(
            "the dataset is incomplete: "
            + "; ".join(missing)
            + f".{_explain_one_folder(layout)} Expected:\n{expected}\n"
            "→ set dataset.root (`--params dataset.root=/path/to/imagenet`), dataset.train_list and dataset.val_list"
        )
    return layout


def _explain_one_folder(layout: DatasetLayout) -> str:
    """Explain how to split up a single image folder next to the lists, as in PaddleClas' copy of Flowers102."""
    folders = {split: _first_folder(path) for split, path in layout.lists.items()}
    folder = folders["train"]
    if not folder or folders["val"] != folder or folder in SPLITS or not (layout.root / folder).is_dir():
        return ""
    root = shlex.quote(str(layout.root))
    return (
        f" The lists refer to images in {folder}/, but images must be in train/ and val/. To link them there and "
        f"update the lists, run `cd {root} && for s in train val; do mkdir -p $s; cut -d' ' -f1 ${{s}}_list.txt | "
        f"xargs ln -t $s; sed -i 's#^{folder}/##' ${{s}}_list.txt; done`."
    )


def _first_folder(path: Path) -> str:
    """Return the folder of the first image in a list, or "" if there is none."""
    if not path.is_file():
        return ""
    with path.open("rb") as file:
        first, separator, _ = file.readline().decode(errors="replace").partition("/")
    return first if separator else ""


def _find_missing(layout: DatasetLayout) -> Iterator[str]:
    """Yield a short description of each missing part."""
    root, ground_truth = layout.root, layout.val_ground_truth
    if not root.is_dir():
        # Relative paths are resolved against the project folder, even if the command was started elsewhere.
        where = "" if root.is_absolute() else f" in {Path.cwd()}"
        yield f"{root} is {'not a folder' if root.exists() else 'missing'}{where}"
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
        # A configured name, or a broken link or FIFO with the default name, means that the user has a list. Report it
        # as missing instead of generating another one.
        is_chosen = path != root / DEFAULT_LISTS[split] or os.path.lexists(path)
        if is_chosen or not (split in layout.archives or _has_class_folders(root / split)):
            yield f"the list file {path} is {'not a file' if os.path.lexists(path) else 'missing'}"
    for file in (ground_truth, layout.val_ground_truth_meta):
        if file is not None and not file.is_file():
            yield f"the file {file} is missing"


def read_lists(
    layout: DatasetLayout,
    class_num: int | None,
    label_base: Literal[0, 1] = 0,
    *,
    repair: bool = False,
    archived: Mapping[Split, ArchivedImages] | None = None,
) -> dict[Split, PrefixedList]:
    """Read, check and prefix the lists of both splits, and apply the layout's patches.

    Missing lists are generated in memory; no file is written.

    Args:
        layout: parts of the dataset.
        class_num: number of classes; None derives it from the lists (see `count_classes`).
        label_base: smallest label in the given list files, 0 or 1.
        repair: whether to remove split prefixes that `sed` added more than once; see `prefix_list`.
        archived: indexed images of the layout's archives. If None, an archive is indexed only if its list has to be
            generated.

    Returns:
        Lists, keyed by split, with paths relative to the dataset root and 0-based labels.

    Raises:
        ListFileError: if a list is invalid or a patch does not apply. The message contains the problems in both lists.
        DatasetError: for the same reasons as `archives.images.index_archives`.
    """

    @functools.cache
    def images(split: Split) -> SplitImages:
        if split not in layout.archives:
            return LooseImages(layout.root / split)
        if archived is not None and split in archived:
            return archived[split]
        # Imported here because every run starts with the layout check, which does not need Pillow.
        from resnet50_pipeline.imagenet.archives.images import index_archives

        return index_archives({split: layout.archives[split]})[split]

    lists: dict[Split, PrefixedList] = {}
    problems: list[str] = []
    makers: dict[Split, Callable[[], PrefixedList]] = {
        "train": lambda: list_folders(images("train"), "train", class_num, number_classes(images("train"), class_num)),
        "val": lambda: _make_val_list(layout, class_num, lists.get("train"), images),
    }
    for split, path in layout.lists.items():
        try:
            if layout.classes is not None:
                lists[split] = PrefixedList(read_list_file(path, class_num or len(layout.classes)), added_count=0)
            elif path.is_file() and not (split == "val" and layout.val_ground_truth):
                entries = read_list_file(path, class_num, label_base)
                named_alike = [name for name in SPLITS if (layout.root / split / name).is_dir()]
                lists[split] = prefix_list(entries, split, repair=repair, class_folders=named_alike)
            else:
                lists[split] = makers[split]()
        except ListFileError as error:
            problems += error.problems
    if problems:
        # Both lists may report the same problem with the folders in train/.
        raise ListFileError(list(dict.fromkeys(problems)))
    return patch_lists(layout, lists, read_patches(layout.patches))


def patch_lists(
    layout: DatasetLayout, lists: Mapping[Split, PrefixedList], patches: Sequence[Patch]
) -> dict[Split, PrefixedList]:
    """Apply the patches to the lists of a layout; see `patches.apply_patches`."""
    return apply_patches(lists, patches, layout.classes, is_fold=layout.is_fold)


def count_classes(lists: Iterable[ListEntries]) -> int:
    """Return the number of classes to use if `dataset.class_num` is null: the largest label plus one."""
    return max(int(entries.labels.max()) for entries in lists) + 1


def _make_val_list(
    layout: DatasetLayout, class_num: int | None, train: PrefixedList | None, images: Callable[[Split], SplitImages]
) -> PrefixedList:
    """Generate the val list. Labels come from the train list or, without one, from the sorted folders of train/."""
    if train is not None and layout.lists["train"].is_file():
        labels = find_folder_labels(train.entries)
    else:
        labels = number_classes(images("train"), class_num)
    if layout.val_ground_truth is None:
        return list_folders(images("val"), "val", class_num, labels)
    return list_ground_truth(images("val"), layout.val_ground_truth, layout.val_ground_truth_meta, class_num, labels)


@dataclass(frozen=True)
class ListDescriptions:
    """Information about the lists for the validation report.

    Attributes:
        notices: one sentence per problem that was corrected when the lists were read.
        names: path of each list file, relative to the dataset root; "" for a generated list.
        class_folders: class folder of each label, if the train list was generated from the folders.
        class_num: number of class folders, or number of classes in the class file; 0 if there are neither.
        archived: images in archives, keyed by split.
        patches: patches that were applied to the lists.
    """

    notices: tuple[str, ...]
    names: Mapping[Split, str]
    class_folders: Mapping[int, str]
    class_num: int = 0
    archived: Mapping[Split, ArchivedImages] = field(default_factory=dict)
    patches: tuple[Patch, ...] = ()


def describe_lists(
    layout: DatasetLayout,
    lists: Mapping[Split, PrefixedList],
    archived: Mapping[Split, ArchivedImages],
    patches: tuple[Patch, ...] = (),
) -> ListDescriptions:
    """Describe the lists that `read_lists` returned."""
    if layout.classes is not None:
        files = {split: str(path) for split, path in layout.lists.items()}
        return ListDescriptions(tuple(collect_notices(lists)), files, {}, len(layout.classes), patches=patches)
    names = {
        split: "" if prefixed.is_generated else os.path.relpath(layout.lists[split], layout.root)
        for split, prefixed in lists.items()
    }
    images = archived.get("train") or LooseImages(layout.root / "train")
    folders = dict(enumerate(images.list_class_folders())) if lists["train"].is_generated else {}
    return ListDescriptions(tuple(collect_notices(lists)), names, folders, len(folders), archived, patches)


def _has_class_folders(split_folder: Path) -> bool:
    return split_folder.is_dir() and bool(LooseImages(split_folder).list_class_folders())


def collect_notices(lists: Mapping[Split, PrefixedList]) -> list[str]:
    """Return one sentence per problem that was corrected when the lists were read."""
    notices = []
    for split, prefixed in lists.items():
        entries = prefixed.entries
        name = Path(entries.source).name
        notices += [f"{name}: {notice}" for notice in entries.notices]
        if 0 < prefixed.added_count < len(entries):
            notices.append(
                f"{name}: added the missing prefix {split}/ to {prefixed.added_count} of {len(entries)} paths"
            )
        if prefixed.repaired_count:
            notices.append(
                f"{name}: removed a repeated prefix {split}/ from {prefixed.repaired_count} of {len(entries)} paths "
                "(dataset.repair); `sed` probably ran twice"
            )
    return notices
