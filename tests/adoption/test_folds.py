"""Folds are stratified and deterministic, and keep related images together."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resnet50_pipeline.adoption.folds import make_folds
from resnet50_pipeline.adoption.found import LabeledImage
from resnet50_pipeline.exceptions import DatasetError
from resnet50_pipeline.imagenet.lists.files import Split

NAMES = ["daisy", "rose", "tulip", "lily"]
Fold = dict[Split, list[LabeledImage]]


def make_images(counts: list[int]) -> list[LabeledImage]:
    """Return `counts[label]` images of each label."""
    return [LabeledImage(f"{label}/{n}.jpg", label) for label, count in enumerate(counts) for n in range(count)]


def val_paths(folds: list[Fold]) -> list[set[str]]:
    """Return the paths of the val images of each fold."""
    return [{image.path for image in fold["val"]} for fold in folds]


@given(counts=st.lists(st.integers(7, 40), min_size=1, max_size=4), count=st.integers(2, 7), seed=st.integers(0, 2**31))
def test_each_image_is_in_val_once_and_classes_are_balanced(counts, count, seed):
    """The folds' val splits divide the images, and train contains the rest.

    Class counts and sizes differ by at most 1.
    """
    images = make_images(counts)
    folds = make_folds(images, count, seed, {}, NAMES)
    assert Counter(image for fold in folds for image in fold["val"]) == Counter(images)
    for fold in folds:
        assert sorted([*fold["train"], *fold["val"]]) == sorted(images)
    for label in range(len(counts)):
        of_class = [sum(image.label == label for image in fold["val"]) for fold in folds]
        assert max(of_class) - min(of_class) <= 1
    sizes = [len(fold["val"]) for fold in folds]
    assert max(sizes) - min(sizes) <= 1


def test_the_seed_decides():
    """The same seed gives the same folds regardless of file order; another seed gives different folds."""
    images = make_images([40, 40])
    one = val_paths(make_folds(images, 5, 0, {}, NAMES))
    assert val_paths(make_folds(images[::-1], 5, 0, {}, NAMES)) == one
    assert val_paths(make_folds(images, 5, 1, {}, NAMES)) != one


@given(
    rows=st.lists(st.tuples(st.integers(0, 1), st.integers(0, 30), st.integers(0, 50)), min_size=40, max_size=80),
    seed=st.integers(0, 3),
)
def test_groups_and_copies_stay_in_one_fold(rows, seed):
    """For any labels, groups and copies, related images share a val split, or an error is raised."""
    images = [LabeledImage(f"{n}.jpg", label, f"g{group}") for n, (label, group, _) in enumerate(rows)]
    digests = {f"{n}.jpg": f"d{content}" for n, (_, _, content) in enumerate(rows)}
    try:
        folds = make_folds(images, 3, seed, digests, NAMES)
    except DatasetError:
        return
    fold_of = {path: number for number, paths in enumerate(val_paths(folds)) for path in paths}
    assert len(fold_of) == len(images)
    for relation in (lambda image: image.group, lambda image: digests[image.path]):
        sides: dict[str, set[int]] = {}
        for image in images:
            sides.setdefault(relation(image), set()).add(fold_of[image.path])
        assert all(len(found) == 1 for found in sides.values())
    for fold in folds:
        assert {image.label for image in fold["val"]} == {image.label for image in images}


def test_groups_of_different_sizes_are_balanced():
    """Groups of 1 to 12 images are placed so that no fold is much larger than another."""
    images = [
        LabeledImage(f"{label}/{patient}-{n}.jpg", label, f"{label}-{patient}")
        for label in range(2)
        for patient in range(12)
        for n in range(1 + patient)
    ]
    sizes = [len(fold["val"]) for fold in make_folds(images, 4, 0, {}, NAMES)]
    assert (sum(sizes), max(sizes) - min(sizes) <= 4) == (156, True)


def test_a_class_with_too_few_images_is_an_error():
    """The error names the class and the largest number of folds. Copies count once."""
    images = make_images([10, 3])
    with pytest.raises(DatasetError, match=r"--folds 4: .*rose: 3.*--folds 3"):
        make_folds(images, 4, 0, {}, NAMES)
    with pytest.raises(DatasetError, match=r"rose: 1.*remove the class"):
        make_folds(images, 2, 0, {image.path: "same" for image in images if image.label}, NAMES)
