"""Reads the images to review, and stores the decisions in a fix list."""

from __future__ import annotations

import errno
import itertools
import json
import logging
import re
import threading
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from resnet50_pipeline.exceptions import DatasetNotFoundError, ListFileError
from resnet50_pipeline.files import write_text
from resnet50_pipeline.imagenet.fixing import ListedImages, is_applied
from resnet50_pipeline.imagenet.lists.files import Split
from resnet50_pipeline.imagenet.lists.fixes import ACTIONS, Action, Fix, read_fixes, render_fixes
from resnet50_pipeline.imagenet.lists.patches import PATCHED_SPLITS
from resnet50_pipeline.imagenet.synsets import ImageClass
from resnet50_pipeline.processes.command_line import other_command
from resnet50_pipeline.processes.locks import holding
from resnet50_pipeline.text import pluralize

logger = logging.getLogger(__name__)

FINDINGS_SUFFIX = ".jsonl"


@dataclass(frozen=True)
class Candidate:
    """An image to review.

    Attributes:
        path: path relative to the dataset root.
        split: split whose list contains the image.
        label: label in the list.
        suggested: suggested label, or None.
        reason: the findings about the image, separated by semicolons.
        other: path of the image that the findings compare it with, relative to the dataset root, or None.
    """

    path: str
    split: Split
    label: int
    suggested: int | None
    reason: str
    other: str | None = None


def read_candidates(path: Path, images: ListedImages) -> list[Candidate]:
    """Read a fix list, or the `findings.jsonl` in Data Docs. Return one candidate per listed image, in file order.

    If the findings compare an image with another image that has a different label, that label is suggested.
    Findings that are not about a listed image are skipped, because only lists can be changed. Images in the test list,
    which patches cannot change, are skipped with a warning.

    Raises:
        DatasetNotFoundError: if the file does not exist.
        ListFileError: if the file is invalid, if a row names an image that is not in any list, or if there are no
            images to review.
    """
    is_findings = path.suffix == FINDINGS_SUFFIX
    rows: list[tuple[Fix, str | None]]
    rows = _read_findings(path, images) if is_findings else [(fix, None) for fix in read_fixes(path)]
    problems: list[str] = []
    found: dict[tuple[Split, str], Candidate] = {}
    skipped = 0
    for number, (fix, other) in enumerate(rows, start=1):
        try:
            split, name = image = images.find_image(fix.path, fix.split)
            suggested = images.find_label(fix.label) if fix.label else None
        except ValueError as error:
            problems.append(f"{path}, row {number}: {error}")
            continue
        if split not in PATCHED_SPLITS:
            skipped += 1
        elif image in found:
            found[image] = _merge(found[image], suggested, fix.reason, other)
        else:
            found[image] = Candidate(name, split, images.found[split][name], suggested, fix.reason, other)
    if problems:
        raise ListFileError(problems)
    if skipped:
        count = pluralize(skipped, "image")
        logger.warning("%s: skipped %s in the test list, which patches cannot change", path, count)
    if skipped and not found:
        raise ListFileError(
            [
                f"{path} contains only images in the test list → evaluate the val list with "
                f"`{other_command('run', '--pipelines', 'evaluation')} --params "
                "evaluation.split=val,evaluation.output_dir=FOLDER`, and review the file in FOLDER"
            ]
        )
    if not found:
        raise ListFileError([f"{path} contains no listed images → there is nothing to review"])
    return list(found.values())


def _merge(candidate: Candidate, suggested: int | None, reason: str, other: str | None) -> Candidate:
    is_first_suggestion = candidate.suggested is None and suggested is not None
    reasons = [one for one in (candidate.reason, reason) if one]
    return Candidate(
        candidate.path,
        candidate.split,
        candidate.label,
        candidate.suggested if candidate.suggested is not None else suggested,
        "; ".join(dict.fromkeys(reasons)),
        # Show the image with the suggested label.
        (other or candidate.other) if is_first_suggestion else (candidate.other or other),
    )


def _read_findings(path: Path, images: ListedImages) -> list[tuple[Fix, str | None]]:
    """Return the findings about listed images, each with the path of the image that it compares this image with."""
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
        rows = [json.loads(line) for line in lines if line]
        found = [(str(row["path"]), str(row["text"]), str(row.get("other_path") or "")) for row in rows]
    except OSError as error:
        raise DatasetNotFoundError(f"{path} cannot be read ({error.strerror}) → correct the path") from error
    except (ValueError, KeyError, TypeError) as error:
        raise ListFileError(
            [f"{path} is not a findings.jsonl written by data_validation: {error} → choose another file"]
        ) from (error)
    class_names = _name_classes(images.classes)
    return [
        (
            Fix(name, "keep", _find_other_label(images, split, name, other), _insert_names(text, class_names), split),
            other or None,
        )
        for name, text, other in found
        for split in PATCHED_SPLITS
        if name in images.found[split]
    ]


def _find_other_label(images: ListedImages, split: Split, name: str, other: str) -> str:
    """Return the label of the other image, or "" if there is no such image or the labels are the same."""
    labels = (labels[other] for labels in images.found.values() if other in labels)
    label = next((label for label in labels if label != images.found[split][name]), None)
    return "" if label is None else str(label)


def _insert_names(text: str, class_names: Sequence[str]) -> str:
    """Insert the class name after each label, as in `label 3 (cup)`."""

    def insert(match: re.Match[str]) -> str:
        label = int(match[1])
        name = class_names[label] if label < len(class_names) else ""
        return match[0] if name in ("", match[1]) else f"{match[0]} ({name})"

    return re.sub(r"\blabel (\d{1,9})\b", insert, text)


class Decisions:
    """The decisions about candidates, saved to a fix list after each change.

    Rows about other images stay in the file. Rows that have already been applied by a patch are removed, because their
    images may need a new decision. Methods may be called from several threads.
    """

    def __init__(self, path: Path, candidates: Sequence[Candidate], images: ListedImages) -> None:
        """Open the fix list of an earlier review, or start a new one.

        Raises:
            ListFileError: if the file exists and is invalid, or contains an unknown class.
        """
        self.path = path
        self._text = _read_text(path)
        self._candidates, self._images = tuple(candidates), images
        self._lock = threading.Lock()
        indices = {(candidate.split, candidate.path): index for index, candidate in enumerate(candidates)}
        self._fixes: dict[int, Fix] = {}
        self._others: list[Fix] = []
        for fix in read_fixes(path) if self._text is not None else ():
            try:
                label = str(images.find_label(fix.label)) if fix.label else ""
            except ValueError as error:
                raise ListFileError([f"{path}: {fix.path}: {error}"]) from error
            if is_applied(images, fix):
                continue
            image = _find(images, fix)
            index = None if image is None else indices.get(image)
            if index is None:
                self._others.append(fix)
            else:
                self._fixes[index] = replace(fix, label=label)

    def __len__(self) -> int:
        return len(self._fixes)

    def decide(self, index: int, action: str | None, label: int | None) -> None:
        """Save the decision about a candidate, or delete it if `action` is None.

        Raises:
            ValueError: if there is no such candidate, action or label, or if the combination is not allowed.
            OSError: if the file cannot be read or written, or if another program has changed it.
        """
        if not 0 <= index < len(self._candidates):
            raise ValueError(f"there is no candidate {index}")
        with self._lock:
            fixes = dict(self._fixes)
            if action is None:
                fixes.pop(index, None)
            else:
                fixes[index] = self._make_fix(self._candidates[index], action, label)
            text = render_fixes([*(fixes[row] for row in sorted(fixes)), *self._others])
            self._replace_file(text)
            self._fixes, self._text = fixes, text

    def _replace_file(self, text: str) -> None:
        """Replace the file, unless another program has changed it since this review read or wrote it."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        # A second review may save at the same time. A lock on the file itself would end when the file is replaced.
        with holding(self.path.parent, wait=True):
            if _read_text(self.path) != self._text:
                raise OSError(
                    errno.EEXIST,
                    "another program, such as a second kedro review, has changed the file; restart this review to "
                    "continue with the changed file",
                )
            write_text(self.path, text)

    def _make_fix(self, candidate: Candidate, action: str, label: int | None) -> Fix:
        checked: Action | None = next((one for one in ACTIONS if one == action), None)
        if checked is None:
            raise ValueError(f"unknown action {action}")
        if checked == "move" and not self._images.can_move:
            raise ValueError("images in archives cannot be moved")
        # For a move, the split determines the direction.
        needs_split = checked == "move" or self._images.is_in_several_lists(candidate.path)
        split = candidate.split if needs_split else None
        if checked != "relabel":
            return Fix(candidate.path, checked, "", candidate.reason, split)
        if label is None or not 0 <= label < len(self._images.classes) or label == candidate.label:
            raise ValueError(f"label {label} is not a different class of the dataset")
        return Fix(candidate.path, checked, str(label), candidate.reason, split)

    def describe(self) -> dict[int, dict[str, str | int | None]]:
        """Return the action and label of each decision, keyed by the index of its candidate."""
        return {
            index: {"action": fix.action, "label": int(fix.label) if fix.label else None}
            for index, fix in self._fixes.items()
        }


def _read_text(path: Path) -> str | None:
    return path.read_text(encoding="utf-8", errors="replace") if path.is_file() else None


def _find(images: ListedImages, fix: Fix) -> tuple[Split, str] | None:
    try:
        return images.find_image(fix.path, fix.split)
    except ValueError:
        return None


def list_shown_images(candidates: Sequence[Candidate]) -> list[str]:
    """Return the paths of all images on the page: those of the candidates, then those they are compared with."""
    return [*(one.path for one in candidates), *(one.other for one in candidates if one.other is not None)]


def describe_candidates(
    candidates: Iterable[Candidate], images: ListedImages, decisions: Decisions
) -> Mapping[str, object]:
    """Return the data for the page as JSON-serializable values. `otherImage` is an index in `list_shown_images`."""
    candidates = list(candidates)
    numbers = itertools.count(len(candidates))
    return {
        "candidates": [
            {
                "path": one.path,
                "split": one.split,
                "label": one.label,
                "suggested": one.suggested,
                "reason": one.reason,
                "other": one.other,
                "otherImage": None if one.other is None else next(numbers),
            }
            for one in candidates
        ],
        "classes": _name_classes(images.classes),
        "decisions": decisions.describe(),
        "canMove": images.can_move,
        "file": str(decisions.path),
    }


def _name_classes(classes: Sequence[ImageClass]) -> list[str]:
    """Return class names that are unique and cannot be mistaken for labels.

    ImageNet has two classes named crane, and if all listed images are in one folder, every class gets the folder's
    name. On the page, as in fix lists, `3` always refers to the label 3, even if a class is named 3.
    """
    shared = {name for name, count in Counter(one.name for one in classes).items() if count > 1}
    names = [f"{one.name} ({one.synset})" if one.name in shared else one.name for one in classes]
    counts = Counter(names)
    return [
        f"{one.name} (label {one.id})" if counts[name] > 1 or (one.name.isdigit() and one.name != str(one.id)) else name
        for one, name in zip(classes, names, strict=True)
    ]
