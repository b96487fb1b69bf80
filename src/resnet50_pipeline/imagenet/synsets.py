"""Describes the classes of a dataset, such as `{"id": 0, "synset": "n01440764", "name": "tench, Tinca tinca"}`."""

from __future__ import annotations

import hashlib
import importlib.util
import logging
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from resnet50_pipeline.imagenet.lists.class_file import ListedClass
from resnet50_pipeline.imagenet.lists.ground_truth import read_meta
from resnet50_pipeline.imagenet.lists.synset_names import find_name_file, read_synset_names
from resnet50_pipeline.imagenet.scan.manifest import select_listed
from resnet50_pipeline.text import list_names, pluralize

logger = logging.getLogger(__name__)

_MAX_NAMED = 5
# SHA-256 of the 1000 synsets of ILSVRC2012, sorted, one per line, without a trailing newline.
IMAGENET_SYNSETS_DIGEST = "385e0240499426c022b773be1ae4da780f057b89c9694c7f47199f62746b6edd"


@dataclass(frozen=True)
class ImageClass:
    """A class of the dataset.

    Attributes:
        id: label, 0-based.
        synset: folder of its training images; empty if they are not in a class folder.
        name: human-readable name.
    """

    id: int
    synset: str
    name: str


def find_classes(
    manifest: pd.DataFrame, class_num: int, root: Path, meta: Path | None = None, own: Sequence[ListedClass] = ()
) -> tuple[ImageClass, ...]:
    """Return the classes 0..class_num-1, ordered by id.

    The synset of a label is the folder that contains most of its training images. The name comes from the first of
    these sources that contains a name: `own`, `synset_words.txt` or `LOC_synset_mapping.txt` in the dataset, the
    devkit's meta.mat, ImageNet's own names if the synsets are the 1000 of ILSVRC2012, and finally the synset itself.
    Labels and synsets are unique, but names are not. For example, ImageNet has two classes named crane and two named
    maillot.

    Args:
        manifest: table returned by `scan_dataset`.
        class_num: number of classes.
        root: dataset folder.
        meta: the devkit's meta.mat, or None if the dataset has none.
        own: classes from `dataset.lists`. A class whose name only repeats its key is named from the other sources.
    """
    train = select_listed(manifest, "train")
    counts = train.groupby(["label", "synset"]).size().reset_index(name="images")
    counts = counts.sort_values(["images", "synset"], ascending=[False, True]).drop_duplicates("label")
    synsets: dict[int, str] = dict(zip(counts["label"].tolist(), counts["synset"].tolist(), strict=True))
    names = _imagenet_names(synsets.values()) | _meta_names(meta) | _own_names(root, synsets.values())
    names |= {one.key: one.name for one in own if one.name != one.key}
    classes = []
    for label in range(class_num):
        synset = synsets.get(label, "")
        classes.append(ImageClass(label, synset, names.get(synset) or synset or str(label)))
    return tuple(classes)


def as_label_map(classes: Sequence[ImageClass]) -> dict[str, Any]:
    """Return the classes as the JSON object `{"class_num": …, "classes": [{"id": …, "synset": …, "name": …}, …]}`."""
    return {"class_num": len(classes), "classes": [asdict(image_class) for image_class in classes]}


def _own_names(root: Path, synsets: Iterable[str]) -> dict[str, str]:
    """Return the names from the dataset's own file, and warn about missing names."""
    names = read_synset_names(root)
    unnamed = sorted({synset for synset in synsets if synset} - names.keys())
    if names and unnamed:
        logger.warning(
            "%s: no names for %s (%s); check that the file belongs to this dataset",
            find_name_file(root),
            pluralize(len(unnamed), "class folder"),
            list_names(unnamed, _MAX_NAMED),
        )
    return names


def _meta_names(meta: Path | None) -> dict[str, str]:
    """Return the devkit's names, keyed by synset, or an empty mapping if there is no meta.mat."""
    return {} if meta is None else {one.synset: one.words for one in read_meta(meta)}


def _imagenet_names(synsets: Iterable[str]) -> dict[str, str]:
    """Return ImageNet's names, keyed by synset, or {} unless `synsets` are the 1000 synsets of ILSVRC2012.

    The paddleclas wheel contains the names, in the order of the sorted synsets. The package is located without an
    import, because importing it takes seconds and loads Paddle.
    """
    ordered = sorted(synsets)
    if hashlib.sha256("\n".join(ordered).encode()).hexdigest() != IMAGENET_SYNSETS_DIGEST:
        return {}
    spec = importlib.util.find_spec("paddleclas")
    if spec is None or spec.origin is None:
        return {}
    path = Path(spec.origin).parent / "ppcls" / "utils" / "imagenet1k_label_list.txt"
    # Each line has the form `0 tench, Tinca tinca`.
    names = [line.split(" ", 1)[1].strip() for line in path.read_text(encoding="utf-8").splitlines()]
    return dict(zip(ordered, names, strict=True))
