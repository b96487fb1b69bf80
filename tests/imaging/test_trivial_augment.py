"""TrivialAugmentWide draws all operations with equal probability and the full range of strengths."""

from __future__ import annotations

import random
from collections import Counter

import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageOps

from resnet50_pipeline.imaging import trivial_augment
from resnet50_pipeline.imaging.trivial_augment import TrivialAugmentWide
from upstream_operators import picture


class Scripted(random.Random):
    """A random number generator that returns the given operation, strength and sign."""

    def __init__(self, name: str, step: int, negative: bool = False) -> None:
        super().__init__(0)
        self._name, self._step, self._negative = name, step, negative

    def choice(self, seq):  # type: ignore[no-untyped-def]
        """Return the name of the operation."""
        assert self._name in seq
        return self._name

    def randrange(self, start, stop=None, step=1):  # type: ignore[no-untyped-def]
        """Return the strength."""
        assert start == 31
        return self._step

    def random(self) -> float:
        """Return a number that selects the sign."""
        return 0.0 if self._negative else 0.9


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("Identity", lambda image: image),
        ("TranslateX", lambda image: image.transform(image.size, Image.Transform.AFFINE, (1, 0, -32, 0, 1, 0))),
        ("Rotate", lambda image: image.rotate(-135)),
        ("Brightness", lambda image: ImageEnhance.Brightness(image).enhance(0.01)),
        ("Posterize", lambda image: ImageOps.posterize(image, 2)),
        ("Solarize", lambda image: ImageOps.solarize(image, 0)),
        ("Equalize", ImageOps.equalize),
    ],
)
def test_last_step_is_the_strongest(name: str, expected):
    """The strength is the maximum of the paper's wide space, in the drawn direction."""
    found = TrivialAugmentWide().apply(picture(3), Scripted(name, step=30, negative=True))
    np.testing.assert_array_equal(found, np.asarray(expected(Image.fromarray(picture(3)))))


@pytest.mark.parametrize(
    "name", ["ShearX", "ShearY", "TranslateY", "Rotate", "Color", "Contrast", "Sharpness", "Posterize"]
)
def test_first_step_changes_nothing(name: str):
    """The weakest operation leaves the image unchanged."""
    np.testing.assert_array_equal(TrivialAugmentWide().apply(picture(3), Scripted(name, step=0)), picture(3))


def test_operations_are_equally_likely(monkeypatch):
    """In 4200 images, each of the 14 operations is drawn about 300 times."""
    counts: Counter[str] = Counter()
    for name in trivial_augment._OPERATIONS:
        monkeypatch.setitem(
            trivial_augment._OPERATIONS, name, lambda image, *_, name=name: counts.update([name]) or image
        )
    for seed in range(4200):
        TrivialAugmentWide().apply(np.zeros((2, 2, 3), np.uint8), random.Random(seed))
    assert len(counts) == 14
    assert all(230 < count < 370 for count in counts.values())
