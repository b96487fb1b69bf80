"""The classes of a data set: `{"id": 0, "synset": "n01440764", "name": "tench, Tinca tinca"}`."""

from __future__ import annotations

import hashlib
import importlib.util
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from resnet50_pipeline.imagenet.ground_truth import read_meta
from resnet50_pipeline.imagenet.manifest import select_listed

# Lines `n01440764 tench, Tinca tinca`. The second is the name of the file in Kaggle's copy of ImageNet.
NAME_FILES = ("synset_words.txt", "LOC_synset_mapping.txt")

# SHA-256 of the thousand synsets of ILSVRC2012, sorted, one a line, without a last newline.
IMAGENET_SYNSETS_DIGEST = "385e0240499426c022b773be1ae4da780f057b89c9694c7f47199f62746b6edd"


@dataclass(frozen=True)
class ImageClass:
    """One class.

    Attributes:
        id: label, 0-based.
        synset: folder of its training images; empty where they lie in none.
        name: for people.
    """

    id: int
    synset: str
    name: str


def find_classes(
    manifest: pd.DataFrame, class_num: int, root: Path, meta: Path | None = None
) -> tuple[ImageClass, ...]:
    """Return the classes 0..class_num-1, by id.

    A label's synset is the folder that most of its training images are in. Its name is what the dataset's
    `synset_words.txt` or `LOC_synset_mapping.txt` says, else the devkit's meta.mat, else ImageNet's own where the
    synsets are the thousand of ILSVRC2012, else the synset. Names are not unique, also not ImageNet's: two of its
    classes are a crane, and two a maillot. Labels are, and synsets.

    Args:
        manifest: as `scan_dataset` gives it.
        class_num: number of classes.
        root: dataset folder.
        meta: the devkit's meta.mat, where it is there.
    """
    train = select_listed(manifest, "train")
    counts = train.groupby(["label", "synset"]).size().reset_index(name="images")
    counts = counts.sort_values(["images", "synset"], ascending=[False, True]).drop_duplicates("label")
    synsets: dict[int, str] = dict(zip(counts["label"].tolist(), counts["synset"].tolist(), strict=True))
    names = read_synset_names(root) or _meta_names(meta) or _imagenet_names(synsets.values())
    classes = []
    for label in range(class_num):
        synset = synsets.get(label, "")
        classes.append(ImageClass(label, synset, names.get(synset) or synset or str(label)))
    return tuple(classes)


def as_label_map(classes: Sequence[ImageClass]) -> dict[str, Any]:
    """Return the classes as the JSON object `{"class_num": …, "classes": [{"id": …, "synset": …, "name": …}, …]}`."""
    return {"class_num": len(classes), "classes": [asdict(image_class) for image_class in classes]}


def read_synset_names(root: Path) -> dict[str, str]:
    """Return name by synset from the first of `NAME_FILES` in `root`, or nothing where there is none."""
    for name in NAME_FILES:
        path = root / name
        if path.is_file():
            lines = path.read_text(encoding="utf-8-sig").splitlines()
            fields = [line.strip().split(maxsplit=1) for line in lines if line.strip()]
            return {synset: names[0] if names else synset for synset, *names in fields}
    return {}


def _meta_names(meta: Path | None) -> dict[str, str]:
    """Return name by synset as the devkit has them, or nothing without it."""
    return {} if meta is None else {one.synset: one.words for one in read_meta(meta)}


def _imagenet_names(synsets: Iterable[str]) -> dict[str, str]:
    """Return ImageNet's names by synset if `synsets` are the thousand of ILSVRC2012, else nothing.

    The names come with the paddleclas wheel, in the order of the sorted synsets. The package is looked up and not
    imported: importing it takes seconds and Paddle.
    """
    ordered = sorted(synsets)
    if hashlib.sha256("\n".join(ordered).encode()).hexdigest() != IMAGENET_SYNSETS_DIGEST:
        return {}
    spec = importlib.util.find_spec("paddleclas")
    if spec is None or spec.origin is None:
        return {}
    path = Path(spec.origin).parent / "ppcls" / "utils" / "imagenet1k_label_list.txt"
    # Lines `0 tench, Tinca tinca`.
    names = [line.split(" ", 1)[1].strip() for line in path.read_text(encoding="utf-8").splitlines()]
    return dict(zip(ordered, names, strict=True))
