"""The split is stratified and deterministic, and keeps related images together."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from resnet50_pipeline.adoption.found import LabeledImage
from resnet50_pipeline.adoption.split import split_images


def make_images(counts: dict[int, int]) -> list[LabeledImage]:
    """Return `counts[label]` images of each label."""
    return [LabeledImage(f"{label}/{number}.jpg", label) for label, count in counts.items() for number in range(count)]


def test_each_class_is_split_by_the_same_fraction():
    """The same fraction of every class is in val and in test, and no images are lost."""
    images = make_images({0: 100, 1: 50, 2: 10})
    parts = split_images(images, {"test": 0.1, "val": 0.2}, 0, {})
    counts = {split: Counter(image.label for image in part) for split, part in parts.items()}
    assert counts["val"] == {0: 20, 1: 10, 2: 2}
    assert counts["test"] == {0: 10, 1: 5, 2: 1}
    assert sorted(image for part in parts.values() for image in part) == sorted(images)


def test_the_seed_decides():
    """The same seed gives the same split regardless of file order; another seed gives a different split."""
    images = make_images({0: 40, 1: 40})
    one = split_images(images, {"val": 0.25}, 0, {})
    assert {i.path for i in split_images(images[::-1], {"val": 0.25}, 0, {})["val"]} == {i.path for i in one["val"]}
    assert split_images(images, {"val": 0.25}, 1, {})["val"] != one["val"]


def test_adding_images_moves_few_existing_ones():
    """After adding a tenth more images, most val images are still in val."""
    before = split_images(make_images({0: 200, 1: 200}), {"val": 0.2}, 0, {})
    after = split_images(make_images({0: 220, 1: 220}), {"val": 0.2}, 0, {})
    stayed = {image.path for image in before["val"]} & {image.path for image in after["val"]}
    assert len(stayed) > 0.8 * len(before["val"])


def test_copies_and_groups_stay_in_one_split():
    """Images with the same digest or group share a split, even if only a third image links them."""
    images = [LabeledImage(f"0/{number}.jpg", 0, f"patient {number // 4}") for number in range(40)]
    digests = {image.path: image.path for image in images}
    digests["0/3.jpg"] = digests["0/4.jpg"]  # links patients 0 and 1
    for seed in range(5):
        parts = split_images(images, {"val": 0.25}, seed, digests)
        sides = {split: {image.group for image in part} for split, part in parts.items()}
        assert not sides["train"] & sides["val"]
        assert {"patient 0", "patient 1"} <= sides["train"] or {"patient 0", "patient 1"} <= sides["val"]
        assert 8 <= len(parts["val"]) <= 12


def test_large_groups_still_reach_val():
    """With two large groups, one goes to val, even though it exceeds the requested fraction."""
    images = [LabeledImage(f"0/{number}.jpg", 0, "ab"[number % 2]) for number in range(20)]
    assert len(split_images(images, {"val": 0.1}, 0, {})["val"]) == 10


def test_a_class_with_one_image_stays_in_train():
    """Every class keeps an image in train."""
    parts = split_images(make_images({0: 1, 1: 2, 2: 3}), {"val": 0.5}, 0, {})
    assert Counter(image.label for image in parts["train"]) == {0: 1, 1: 1, 2: 1}


@given(
    rows=st.lists(st.tuples(st.integers(0, 3), st.integers(0, 6), st.integers(0, 9)), min_size=1, max_size=60),
    seed=st.integers(0, 3),
)
def test_no_images_are_lost_and_related_images_stay_together(rows, seed):
    """For any labels, groups and copies, each image is in one split, and related images share a split."""
    images = [LabeledImage(f"{number}.jpg", label, f"g{group}") for number, (label, group, _) in enumerate(rows)]
    digests = {f"{number}.jpg": f"d{content}" for number, (_, _, content) in enumerate(rows)}
    parts = split_images(images, {"test": 0.2, "val": 0.3}, seed, digests)
    split_of = {image.path: split for split, part in parts.items() for image in part}
    assert len(split_of) == len(images) == sum(map(len, parts.values()))
    for relation in (lambda image: image.group, lambda image: digests[image.path]):
        sides: dict[str, set[str]] = {}
        for image in images:
            sides.setdefault(relation(image), set()).add(split_of[image.path])
        assert all(len(found) == 1 for found in sides.values())
    assert {image.label for image in parts["train"]} == {image.label for image in images}
