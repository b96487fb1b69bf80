"""Reads the class names used in tables, figures and the report."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from resnet50_pipeline.exceptions import EvaluationTableError


@dataclass(frozen=True)
class ClassNames:
    """Class names, indexed by class id. Each tuple has `class_num` entries.

    `labels` are unique display names. A label is the class name, followed by the synset if several classes share the
    name (ImageNet has two classes named crane). A class without a name is labeled with its synset.
    """

    synsets: tuple[str, ...]
    names: tuple[str, ...]
    labels: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.names)

    @property
    def keys(self) -> list[str]:
        """The synset of each class, or its label if it has no synset."""
        return [synset or label for synset, label in zip(self.synsets, self.labels, strict=True)]


def find_moved_classes(keys: Sequence[str], other: Sequence[str]) -> dict[str, tuple[int, int]]:
    """Return both labels of each class whose label differs in `other`, keyed by class. Repeated keys are ignored."""
    first, second = (
        {key: label for label, key in enumerate(one) if repeats[key] == 1}
        for one, repeats in ((keys, Counter(keys)), (other, Counter(other)))
    )
    return {key: (label, second[key]) for key, label in first.items() if second.get(key, label) != label}


def read_class_names(label_map: Mapping[str, Any]) -> ClassNames:
    """Return the class names from a label map: `{"class_num": 2, "classes": [{"id": 0, "synset": …, "name": …}, …]}`.

    Raises:
        EvaluationTableError: if the ids are not 0..class_num-1, in this order.
    """
    classes = label_map["classes"]
    ids = [entry["id"] for entry in classes]
    if ids != list(range(label_map["class_num"])) or not ids:
        raise EvaluationTableError(
            [
                f"label_map: the ids must be 0..{label_map['class_num'] - 1}, in this order (class_num is "
                f"{label_map['class_num']}), but the ids of the {len(ids)} classes are {_excerpt(ids)}; run "
                "data_preparation again"
            ]
        )
    synsets = tuple(str(entry["synset"]) for entry in classes)
    names = tuple(" ".join(str(entry["name"]).split()) for entry in classes)
    return ClassNames(synsets=synsets, names=names, labels=_distinct_labels(synsets, names))


def _distinct_labels(synsets: tuple[str, ...], names: tuple[str, ...]) -> tuple[str, ...]:
    shared = {name for name, count in Counter(names).items() if count > 1}
    labels = []
    for class_id, (synset, name) in enumerate(zip(synsets, names, strict=True)):
        label = name or synset or f"class {class_id}"
        labels.append(f"{label} ({synset or class_id})" if name and name in shared else label)
    return tuple(labels)


def _excerpt(ids: list[int], shown: int = 6) -> str:
    return ", ".join(map(str, ids[:shown])) + (", …" if len(ids) > shown else "")
