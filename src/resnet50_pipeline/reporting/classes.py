"""The names of the classes, as tables, plots and the report show them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from resnet50_pipeline.exceptions import EvaluationTableError


@dataclass(frozen=True)
class ClassNames:
    """Names by class id, each tuple `class_num` long.

    `labels` are for people and tell every class from every other: the name, with the synset behind it where two
    classes share a name (ImageNet has two named crane), or the synset alone where there is no name.
    """

    synsets: tuple[str, ...]
    names: tuple[str, ...]
    labels: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.names)


def read_class_names(label_map: Mapping[str, Any]) -> ClassNames:
    """Return the class names of a label map, `{"class_num": 2, "classes": [{"id": 0, "synset": …, "name": …}, …]}`.

    Raises:
        EvaluationTableError: the ids are not 0..class_num-1 in this order.
    """
    classes = label_map["classes"]
    ids = [entry["id"] for entry in classes]
    if ids != list(range(label_map["class_num"])) or not ids:
        raise EvaluationTableError(
            [
                f"label_map: the ids must be 0..{label_map['class_num'] - 1} in this order (class_num is "
                f"{label_map['class_num']}), but {len(ids)} classes have the ids {_excerpt(ids)}; "
                f"run data_preparation again"
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
