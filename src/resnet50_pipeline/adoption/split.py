"""Splits images into train, val and test, stratified by class. The same seed gives the same splits on every machine.

When images are added to a dataset, few existing images move to another split.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from resnet50_pipeline.adoption.found import LabeledImage
from resnet50_pipeline.adoption.related import hash_path, join_related
from resnet50_pipeline.imagenet.lists.files import Split


def split_images(
    images: Sequence[LabeledImage],
    fractions: Mapping[Split, float],
    seed: int,
    digests: Mapping[str, str],
) -> dict[Split, list[LabeledImage]]:
    """Return the images for train and for each split in `fractions`. Each split keeps the order of `images`.

    Images with the same content or in the same group share a split. Every class has an image in train. Classes with
    enough independent images have one in every other split too.

    Args:
        images: images to split.
        fractions: fraction of the images for each split, such as `{"val": 0.2}`. The sum is less than 1.
        seed: seed for the order in which images are chosen.
        digests: digest of each image's content, keyed by path. Images without a digest are treated as unique.
    """
    units = join_related(images, digests)
    ordered = sorted(units, key=lambda unit: hash_path(seed, images[unit[0]].path))
    totals = Counter(image.label for image in images)
    # Number of units in train that contain the class.
    left = Counter(label for unit in units for label in {images[index].label for index in unit})
    split_of: dict[int, Split] = {}
    for split, fraction in fractions.items():
        needed = {label: max(1, round(fraction * total)) for label, total in totals.items()}
        absent = set(totals)
        # In the second pass, classes still missing from the split get their smallest unit, even if it is too large.
        for units_to_try, is_for_absent in ((ordered, False), (sorted(ordered, key=len), True)):
            for unit in units_to_try:
                counts = Counter(images[index].label for index in unit)
                if unit[0] in split_of or any(left[label] == 1 for label in counts):
                    continue
                gain = sum(abs(needed[label]) - abs(needed[label] - count) for label, count in counts.items())
                if not (absent & set(counts) if is_for_absent else gain > 0):
                    continue
                split_of |= dict.fromkeys(unit, split)
                absent -= set(counts)
                for label, count in counts.items():
                    needed[label] -= count
                    left[label] -= 1
    parts: dict[Split, list[LabeledImage]] = {"train": [], **{split: [] for split in fractions}}
    for index, image in enumerate(images):
        parts[split_of.get(index, "train")].append(image)
    return parts
