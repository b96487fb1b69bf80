"""Divides images into folds, stratified by class. The same seed gives the same folds on every machine."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from resnet50_pipeline.adoption.found import LabeledImage
from resnet50_pipeline.adoption.related import hash_path, join_related
from resnet50_pipeline.exceptions import DatasetError
from resnet50_pipeline.imagenet.lists.files import Split
from resnet50_pipeline.text import list_names

_MOST_NAMED = 3


def make_folds(
    images: Sequence[LabeledImage], count: int, seed: int, digests: Mapping[str, str], names: Sequence[str]
) -> list[dict[Split, list[LabeledImage]]]:
    """Return the train and val images for each fold, in the order of `images`.

    Each image is in the val split of exactly one fold and in the train split of all other folds. Images with the same
    content or in the same group share a fold. Without such images, the sizes of any two folds differ by at most 1, and
    so do their numbers of val images per class. Otherwise, the largest groups are placed first, each in the fold
    where its classes are rarest.

    Args:
        images: images to divide.
        count: number of folds, at least 2.
        seed: seed for the order in which images are placed.
        digests: digest of each image's content, keyed by path. Images without a digest are treated as unique.
        names: name of each class, for the error message.

    Raises:
        DatasetError: if a class has too few independent images for the number of folds.
    """
    units = join_related(images, digests)
    labels_of = [Counter(images[index].label for index in unit) for unit in units]
    independent = Counter(label for labels in labels_of for label in labels)
    _require_enough(independent, count, names)
    totals = Counter(image.label for image in images)
    placed: list[Counter[int]] = [Counter() for _ in range(count)]
    sizes = [0] * count
    fold_of = [0] * len(images)

    def order(at: int) -> tuple[int, int, bytes]:
        first = images[units[at][0]]
        return -len(units[at]), first.label, hash_path(seed, first.path)

    for at in sorted(range(len(units)), key=order):
        labels = labels_of[at]
        # Prefer the fold in which the sum of squared counts grows least, with equal weight for each class.
        crowding = [
            sum(n * placed[fold][label] / totals[label] for label, n in labels.items()) for fold in range(count)
        ]
        fold = min(range(count), key=lambda fold: (crowding[fold], sizes[fold], fold))
        placed[fold].update(labels)
        sizes[fold] += len(units[at])
        for index in units[at]:
            fold_of[index] = fold
    # Groups with several classes can leave a fold without images of a class.
    _require_enough(Counter({label: sum(label in part for part in placed) for label in totals}), count, names)
    return [
        {
            "train": [image for image, own in zip(images, fold_of, strict=True) if own != fold],
            "val": [image for image, own in zip(images, fold_of, strict=True) if own == fold],
        }
        for fold in range(count)
    ]


def _require_enough(independent: Mapping[int, int], count: int, names: Sequence[str]) -> None:
    """Raise an error if a class has fewer than `count` independent images."""
    few = {label: number for label, number in sorted(independent.items()) if number < count}
    if few:
        shown = list_names([f"{names[label]}: {number}" for label, number in few.items()], _MOST_NAMED)
        smallest = min(few.values())
        advice = f"use --folds {smallest}, or add images" if smallest > 1 else "add images, or remove the class"
        raise DatasetError(
            f"--folds {count}: each fold needs a separate image of every class, and copies and groups count as one "
            f"image, but there are too few images ({shown}) → {advice}"
        )
