"""Measures which changes of images `kedro drift --model` finds, and how often it is wrong. Needs `kedro run` first.

The network is the one that `kedro run` has trained on the sample's digits. Two samples of different digits are
compared: both as they are (with 20 seeds), and with changes in all images of one sample, in 30% or in 10%.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from targets import Target

from resnet50_pipeline.commands.predict import classify
from resnet50_pipeline.expectations.drift import ImageFeatures, Shift, compare_features

_WORKSPACE = Path("data/sample")
_MODEL = _WORKSPACE / "06_models" / "inference_model"
_SIZES = (100, 300, 1000)
_SEEDS = 20
_SHARES = (1.0, 0.3, 0.1)
_ROTATION = cv2.getRotationMatrix2D((14, 14), 10, 1)
_Image = NDArray[np.float64]
_CHANGES: dict[str, Callable[[_Image], _Image]] = {
    "10% darker": lambda image: image * 0.9,
    "30 gray levels brighter": lambda image: image + 30,
    "blurred (sigma 0.7)": lambda image: cv2.GaussianBlur(image, (3, 3), 0.7),
    "noise (sigma 10)": lambda image: image + np.random.default_rng(0).normal(0, 10, image.shape),
    "inverted": lambda image: 255 - image,
    "moved by 2 pixels": lambda image: np.roll(image, 2, axis=1),
    "rotated by 10 degrees": lambda image: cv2.warpAffine(image, _ROTATION, (28, 28)),
}


def measure(folder: Path) -> list[Target]:
    """Return the number of false alarms, and of changes that are found in large samples if all images change."""
    paths = sorted((_WORKSPACE / "01_raw" / "digits").rglob("*.JPEG"))
    plain = _compute_features(paths)
    worst: list[float] = []
    alarms = 0
    for size in _SIZES:
        shifts = [_compare(plain, plain, *_choose(len(paths), size, seed)) for seed in range(_SEEDS)]
        alarms += sum(shift.size != "none" for shift in shifts)
        worst.append(max(shift.psi for shift in shifts))
        print(f"no change, 2 x {size}: PSI at most {worst[-1]:.3f}, by chance {shifts[0].bound:.3f}")
    found = 0
    for name, change in _CHANGES.items():
        changed = _compute_features(list(_write(paths, change, folder / name)))
        for size in _SIZES:
            reference, current = _choose(len(paths), size, seed=0)
            shifts = [
                _compare(plain, np.concatenate([changed[current[:count]], plain[current[count:]]]), reference, None)
                for count in (round(share * size) for share in _SHARES)
            ]
            found += size == max(_SIZES) and shifts[0].size == "major"
            print(f"{name}, 2 x {size}: " + ", ".join(f"{shift.psi:.2f} {shift.size}" for shift in shifts))
    return [
        Target(f"drift: alarms without a change, of {len(_SIZES) * _SEEDS}", alarms, 0),
        Target(f"drift: major shifts of 2 x {max(_SIZES)} changed images", found, len(_CHANGES), at_least=True),
    ]


def _compute_features(paths: list[Path]) -> NDArray[np.float32]:
    answers = classify(_MODEL.absolute(), [path.absolute() for path in paths], 1, with_features=True)
    return np.array([answer["features"] for answer in answers], np.float32)


def _write(paths: list[Path], change: Callable[[_Image], _Image], folder: Path) -> Iterator[Path]:
    folder.mkdir()
    for number, path in enumerate(paths):
        pixels = change(np.asarray(Image.open(path), np.float64))
        copy = folder / f"{number}.jpg"
        cv2.imwrite(str(copy), np.clip(pixels, 0, 255).astype(np.uint8), [cv2.IMWRITE_JPEG_QUALITY, 95])
        yield copy


def _choose(images: int, size: int, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the rows of two samples without a common image."""
    rows = np.random.default_rng(seed).permutation(images)[: 2 * size]
    return rows[:size], rows[size:]


def _compare(
    reference: NDArray[np.float32],
    current: NDArray[np.float32],
    rows: NDArray[np.int64],
    others: NDArray[np.int64] | None,
) -> Shift:
    """Compare these rows of the tables; None means all rows."""
    first, second = reference[rows], current if others is None else current[others]
    contents = [str(number) for number in range(len(first) + len(second))]
    return compare_features(ImageFeatures(first, contents[: len(first)]), ImageFeatures(second, contents[len(first) :]))
