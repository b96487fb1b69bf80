"""Creates photographs of the size that is typical of ImageNet: about 500 pixels and 110 KB.

They are random crops, some of them mirrored, of the photographs in scikit-learn, scikit-image and foolbox. Each crop is
encoded with the quality that comes closest to 110 KB. Packages that are not installed are downloaded from the package
index; a package that is unavailable is reported and skipped.
"""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]

_BYTES = 110_000
_SHAPES = ((375, 500), (375, 500), (333, 500), (500, 375))
_CUTS = 8
_SCIKIT_IMAGE = ("astronaut.png", "chelsea.png", "coffee.png", "rocket.jpg", "motorcycle_left.png", "retina.jpg")


def write_photographs(root: Path, images: int) -> Path:
    """Write photographs below `root/train`, repeating a small set of them, and return the path of their list file."""
    sources = [*_scikit_learn(), *_scikit_image(root), *_foolbox(root)]
    draw = np.random.default_rng(0)
    folder = root / "train" / "n00000000"
    folder.mkdir(parents=True)
    different = [_encode(_cut(source, draw)) for source in sources for _ in range(_CUTS)]
    draw.shuffle(different)
    print(
        f"photographs: {len(different)} from {len(sources)} sources, "
        f"{sum(map(len, different)) / len(different) / 1000:.0f} KB on average"
    )
    names = [f"train/{folder.name}/{folder.name}_{number}.JPEG" for number in range(images)]
    for number, name in enumerate(names):
        (root / name).write_bytes(different[number % len(different)])
    list_file = root / "train_list.txt"
    list_file.write_text("".join(f"{name} 0\n" for name in names))
    return list_file


def _cut(source: Pixels, draw: np.random.Generator) -> Pixels:
    height, width = _SHAPES[draw.integers(len(_SHAPES))]
    factor = max(height / source.shape[0], width / source.shape[1])
    if factor > 1:
        source = cv2.resize(source, None, fx=1.01 * factor, fy=1.01 * factor, interpolation=cv2.INTER_CUBIC)
    top, left = draw.integers(source.shape[0] - height + 1), draw.integers(source.shape[1] - width + 1)
    part = source[top : top + height, left : left + width]
    return np.ascontiguousarray(part[:, ::-1] if draw.integers(2) else part)


def _encode(pixels: Pixels) -> bytes:
    encoded: Iterator[bytes] = (
        cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes() for quality in range(70, 99, 4)
    )
    return min(encoded, key=lambda data: abs(len(data) - _BYTES))


def _scikit_learn() -> list[Pixels]:
    from sklearn.datasets import load_sample_images

    return [np.ascontiguousarray(image[:, :, ::-1]) for image in load_sample_images().images]


def _scikit_image(root: Path) -> list[Pixels]:
    spec = importlib.util.find_spec("skimage")
    if spec is not None and spec.origin is not None:
        folder = Path(spec.origin).parent / "data"
        return [_decode((folder / name).read_bytes()) for name in _SCIKIT_IMAGE if (folder / name).exists()]
    return _from_wheel(root, "scikit-image", [f"skimage/data/{name}" for name in _SCIKIT_IMAGE])


def _foolbox(root: Path) -> list[Pixels]:
    return _from_wheel(root, "foolbox==3.3.4", "foolbox/data/imagenet_")


def _from_wheel(root: Path, package: str, wanted: list[str] | str) -> list[Pixels]:
    """Return the images in a wheel whose names are in a list or start with a prefix."""
    folder = root / "wheels"
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
    done = subprocess.run([*command, "--dest", str(folder), package], capture_output=True, text=True, check=False)
    wheels = [path for path in folder.glob("*.whl") if path.name.startswith(package[:6].replace("-", "_"))]
    if done.returncode or not wheels:
        print(f"photographs: skipped {package}: download failed ({done.stderr.strip().rpartition(chr(10))[2]})")
        return []
    with zipfile.ZipFile(wheels[0]) as wheel:
        names = wanted if isinstance(wanted, list) else [n for n in wheel.namelist() if n.startswith(wanted)]
        return [_decode(wheel.read(name)) for name in names if name in wheel.namelist()]


def _decode(data: bytes) -> Pixels:
    pixels: Pixels | None = cv2.imdecode(np.frombuffer(data, dtype=np.uint8), cv2.IMREAD_COLOR)
    assert pixels is not None
    return pixels
