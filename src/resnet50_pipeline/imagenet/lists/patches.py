"""Reads patches of the list files, `0001.json`, `0002.json` and so on, and applies them in order.

A patch records changes that a person made to some images. As with `git apply`, a patch also records the previous
state, so that a patch that no longer applies is an error instead of a silent change. `kedro data-fix` writes patches.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from pydantic import ValidationError

from resnet50_pipeline.exceptions import ListFileError
from resnet50_pipeline.files import digest_file, write_text
from resnet50_pipeline.frozen_model import FrozenModel
from resnet50_pipeline.imagenet.lists.class_file import ListedClass
from resnet50_pipeline.imagenet.lists.files import PrefixedList, Split, choose_delimiter, parse_list
from resnet50_pipeline.imagenet.lists.problems import quote
from resnet50_pipeline.processes.command_line import other_command

# Splits whose lists a patch may change. The test list is never patched.
PATCHED_SPLITS: tuple[Split, ...] = ("train", "val")
_NAME = re.compile(r"(\d{4,})\.json")


class PatchRow(FrozenModel):
    """One change to a list.

    Attributes:
        path: path of the image relative to the dataset root.
        action: what happens to the image; see `lists.fixes.Fix`.
        split: list that contained the image before the patch.
        label: label of the image before the patch.
        new_label: the label that `relabel` sets; None for the other actions.
        reason: free text.
    """

    path: str
    action: Literal["drop", "relabel", "move"]
    split: Split
    label: int
    new_label: int | None = None
    reason: str = ""


class PatchContent(FrozenModel):
    """The content of a patch file.

    Attributes:
        by: name of the person, from Git or the operating system.
        at: time in UTC, in ISO 8601 format.
        reason: reason for the patch; free text.
        source: name of the fix list.
        kept: number of images that were reviewed and kept unchanged.
        rows: the changes.
        classes: label that each class in the rows had when the patch was made, keyed as in `number_classes`; empty in
            patches written by older versions.
    """

    by: str
    at: str
    reason: str
    source: str
    kept: int
    rows: tuple[PatchRow, ...]
    classes: Mapping[str, int] = {}

    @property
    def counts(self) -> dict[str, int]:
        """Number of rows per action."""
        return dict(Counter(row.action for row in self.rows))


@dataclass(frozen=True)
class Patch:
    """A patch file.

    Attributes:
        file: path of the file.
        id: number and start of the digest, such as `0001-3fa9c1d2`. A patch with the same number but different content
            has a different id.
        content: content of the file.
    """

    file: Path
    id: str
    content: PatchContent


def read_patches(folder: Path | None) -> tuple[Patch, ...]:
    """Return the patches in a folder in order, or () if there are none. Other files are ignored.

    Raises:
        ListFileError: if a file is not a patch.
    """
    if folder is None or not folder.is_dir():
        return ()
    files = sorted((int(match[1]), path) for path in folder.iterdir() if (match := _NAME.fullmatch(path.name)))
    patches, problems = [], []
    for _, path in files:
        try:
            content = PatchContent.model_validate_json(path.read_bytes())
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"])) or "the file"
            problems.append(
                f"{path}: {where}: {first['msg']} → restore the file, or move it elsewhere to drop the patch"
            )
        else:
            patches.append(Patch(path, f"{path.stem}-{digest_file(path).removeprefix('sha256:')[:8]}", content))
    if problems:
        raise ListFileError(problems)
    return tuple(patches)


def write_patch(folder: Path, content: PatchContent) -> Path:
    """Write a patch atomically under the next free number, and return its path.

    The caller must prevent other processes from writing patches at the same time.
    """
    last = [int(match[1]) for path in folder.glob("*.json") if (match := _NAME.fullmatch(path.name))]
    path = folder / f"{max(last, default=0) + 1:04d}.json"
    write_text(path, content.model_dump_json(indent=2) + "\n")
    return path


def dropped_paths(patches: Iterable[Patch]) -> frozenset[str]:
    """Return the images that the patches remove from the lists."""
    return frozenset(row.path for patch in patches for row in patch.content.rows if row.action == "drop")


def relabeled_paths(patches: Iterable[Patch]) -> frozenset[str]:
    """Return the images that the patches relabel, which may still be in the folder of another class."""
    return frozenset(row.path for patch in patches for row in patch.content.rows if row.action == "relabel")


def last_rows(patches: Iterable[Patch]) -> dict[tuple[Split, str], PatchRow]:
    """Return the most recent row for each image, keyed by the image's split after that row and its path."""
    last: dict[tuple[Split, str], PatchRow] = {}
    for patch in patches:
        for row in patch.content.rows:
            last.pop((row.split, row.path), None)
            last[other_split(row.split) if row.action == "move" else row.split, row.path] = row
    return last


def number_classes(train: PrefixedList, listed: Sequence[ListedClass] | None) -> dict[str, int]:
    """Return the label of each class in the unpatched lists, keyed by its key in `classes.txt` or by its class folder.

    A folder represents a label if most of the folder's train images have the label and most of the label's train
    images are in the folder. Folders that represent no label are omitted.
    """
    if listed is not None:
        return {one.key: label for label, one in enumerate(listed)}
    folders = (path.split("/")[1:-1] for path in train.entries.paths)
    counts = Counter(
        (folder[0], label) for folder, label in zip(folders, train.entries.labels.tolist(), strict=True) if folder
    )
    label_of: dict[str, int] = {}
    folder_of: dict[int, str] = {}
    for (folder, label), _ in counts.most_common():
        label_of.setdefault(folder, label)
        folder_of.setdefault(label, folder)
    return {folder: label for folder, label in label_of.items() if folder_of[label] == folder}


def apply_patches(
    lists: Mapping[Split, PrefixedList],
    patches: Sequence[Patch],
    listed: Sequence[ListedClass] | None = None,
    *,
    is_fold: bool = False,
) -> dict[Split, PrefixedList]:
    """Apply all patches to the lists, and return the results.

    Moved images are appended to their new list. All other images keep their order, and lists without changes are
    returned as they are. If both lists contain an image, a row changes only the list of its split.

    Args:
        lists: lists, keyed by split, with paths relative to the dataset root and 0-based labels.
        patches: patches in the order in which they were made.
        listed: classes in label order if the dataset has a class file.
        is_fold: whether the lists divide the images differently from the lists for which the patches were made. If so,
            an image is dropped or relabeled in the list that contains it.

    Raises:
        ListFileError: if a patch does not apply, for example because an image is no longer in a list or a class has a
            different label, or if a list becomes empty; the message names each image and patch.
    """
    if not patches:
        return dict(lists)
    if renumbered := _find_renumbered(patches, number_classes(lists["train"], listed), listed is not None):
        raise ListFileError(renumbered)
    # Labels, keyed by split (because both lists may contain an image) and then by path. The label of a removed image is
    # None. Its entry stays in place, so that a later patch can move the image back to the same position.
    state: dict[Split, dict[str, int | None]] = {
        split: dict(zip(prefixed.entries.paths, prefixed.entries.labels.tolist(), strict=True))
        for split, prefixed in lists.items()
    }
    changed_by: defaultdict[Split, dict[str, None]] = defaultdict(dict)
    problems: list[str] = []
    for patch in patches:
        for made in patch.content.rows:
            row = _find_in_fold(made, state) if is_fold else made
            problem = _find_mismatch(row, state)
            if problem is not None:
                problems.append(f"{patch.file}: {row.action} {row.path}: {problem}")
            # Apply the row even after a mismatch, so that later patches of the same image do not repeat the problem.
            state.setdefault(row.split, {})[row.path] = row.new_label if row.action == "relabel" else None
            if row.action == "move":
                state[other_split(row.split)][row.path] = row.label
                changed_by[other_split(row.split)][patch.id] = None
            changed_by[row.split][patch.id] = None
    if problems:
        raise ListFileError(problems)
    patched = dict(lists)
    for split, ids in changed_by.items():
        rows = [(path, label) for path, label in state[split].items() if label is not None]
        notice = f"changed by {', '.join(ids)} in {patches[0].file.parent}"
        patched[split] = _replace_rows(lists[split], rows, notice)
    return patched


def other_split(split: Split) -> Split:
    """Return the split to which `move` moves an image."""
    return "val" if split == "train" else "train"


def _find_in_fold(row: PatchRow, state: Mapping[Split, Mapping[str, int | None]]) -> PatchRow:
    """Return the row with the other split if only that list contains the image."""
    other = other_split(row.split)
    is_elsewhere = state[row.split].get(row.path) is None and state[other].get(row.path) is not None
    return row.model_copy(update={"split": other}) if is_elsewhere and row.action != "move" else row


def _find_renumbered(patches: Sequence[Patch], labels: Mapping[str, int], is_complete: bool) -> list[str]:
    """Return a message for each class whose label has changed since a patch, for example because of `kedro adopt`.

    Args:
        patches: patches of the lists.
        labels: current label of each class.
        is_complete: whether `labels` contains all classes. If not, the labels of all other classes are unknown.
    """
    return [
        f"{patch.file}: class {quote(name)} had label {label} when the patch was made, but "
        f"{f'now has label {labels[name]}' if name in labels else 'no longer exists'} → restore the classes and "
        f"their order, or remove the patch with `{other_command('data-fix', '--undo')}` and create it again"
        for patch in patches
        for name, label in patch.content.classes.items()
        if labels.get(name) != label and (is_complete or name in labels)
    ]


def _find_mismatch(row: PatchRow, state: Mapping[Split, Mapping[str, int | None]]) -> str | None:
    """Return why a row of a patch does not apply to the lists, or None if it applies."""
    found = {split: label for split, labels in state.items() if (label := labels.get(row.path)) is not None}
    undo = other_command("data-fix", "--undo")
    remedy = f"restore the line in your list, or remove the patch with `{undo}` and create it again"
    if found.get(row.split) == row.label:
        if row.action == "move" and other_split(row.split) in found:
            return f"the {other_split(row.split)} list already contains the image → {remedy}"
        return None
    expected = f"the patch expects label {row.label} in the {row.split} list, but"
    if not found:
        return f"{expected} the image is not in any list → {remedy}"
    split = row.split if row.split in found else next(iter(found))
    return f"{expected} it has label {found[split]} in the {split} list → {remedy}"


def _replace_rows(prefixed: PrefixedList, rows: list[tuple[str, int]], notice: str) -> PrefixedList:
    entries = prefixed.entries
    if not rows:
        raise ListFileError(
            [
                f"{entries.source}: the patches remove every image → remove a patch with "
                f"`{other_command('data-fix', '--undo')}`"
            ]
        )
    delimiter = choose_delimiter(path for path, _ in rows)
    text = "".join(f"{path}{delimiter}{label}\n" for path, label in rows)
    # Parsing the text gives a clean list its compact form in memory.
    parsed = parse_list(text.encode(), None, source=entries.source)
    # With the old count, the report would say that only some of the paths needed the prefix.
    added = len(rows) if prefixed.added_count == len(entries) else prefixed.added_count
    return replace(prefixed, entries=replace(parsed, notices=(*entries.notices, notice)), added_count=added)
