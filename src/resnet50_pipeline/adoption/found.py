"""Defines the content of a recognized dataset folder: the labeled images of each split, and the classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from resnet50_pipeline.imagenet.lists.class_file import ListedClass
from resnet50_pipeline.imagenet.lists.files import Split


class LabeledImage(NamedTuple):
    """One image in a dataset.

    Attributes:
        path: POSIX path relative to the dataset folder.
        label: 0-based position of the image's class.
        group: name of the image's group; "" if it has none. All images of a group, such as a patient, stay in one
            split.
    """

    path: str
    label: int
    group: str = ""


@dataclass(frozen=True)
class FoundDataset:
    """The images in a dataset.

    Attributes:
        layout: the layout that was recognized, such as `class folders without a split`.
        classes: the classes, in the order of their labels.
        splits: images, keyed by split. `train` is always present; if `val` is missing, it must be split off from train.
        notes: one sentence for each decision or possible problem.
        parameters: values for the `dataset` parameter group with which the project can read the folder directly. None
            if the dataset needs new lists.
    """

    layout: str
    classes: tuple[ListedClass, ...]
    splits: Mapping[Split, Sequence[LabeledImage]]
    notes: tuple[str, ...] = ()
    parameters: Mapping[str, Any] | None = field(default=None)
