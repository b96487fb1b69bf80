"""Defines what a layout yields: the images of each split, with their labels, and the classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from resnet50_pipeline.imagenet.lists.class_file import ListedClass
from resnet50_pipeline.imagenet.lists.files import Split


class LabeledImage(NamedTuple):
    """One image of a dataset.

    Attributes:
        path: POSIX path relative to the dataset folder.
        label: 0-based position of its class.
        group: images of the same group, such as those of one patient, stay in one split; "" for no group.
    """

    path: str
    label: int
    group: str = ""


@dataclass(frozen=True)
class FoundDataset:
    """The images of a dataset.

    Attributes:
        layout: what was recognized, such as `class folders without a split`.
        classes: the classes, by label.
        splits: images, keyed by split. `train` is always there; a missing `val` has to be split off.
        notes: one sentence for each decision or doubt.
        parameters: values for the parameter group `dataset` with which the project reads the folder without new lists.
            None if it needs lists.
    """

    layout: str
    classes: tuple[ListedClass, ...]
    splits: Mapping[Split, Sequence[LabeledImage]]
    notes: tuple[str, ...] = ()
    parameters: Mapping[str, Any] | None = field(default=None)
