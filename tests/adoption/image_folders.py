"""Generates folders of images in common layouts."""

from __future__ import annotations

import io
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import Image

# Class and file names as found in the wild: spaces, quotes, `#`, non-ASCII.
CLASSES = ("10 Kräuter", "Rose's #1", "été")


def write_image(path: Path, number: int, size: tuple[int, int] = (12, 10)) -> None:
    """Write an image whose pixels depend on `number`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(number).integers(0, 256, (size[1], size[0], 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG" if path.suffix == ".png" else "JPEG")
    path.write_bytes(buffer.getvalue())


def write_class_folders(root: Path, classes: Iterable[str] = CLASSES, images: int = 5, start: int = 0) -> Path:
    """Write files named `<class>/Bild N ü.png` for each class; no two images are alike."""
    for number, name in enumerate(classes):
        for image in range(images):
            write_image(root / name / f"Bild {image} ü.png", start + 1000 * number + image)
    return root


def add_system_files(root: Path) -> None:
    """Add the files that macOS, Windows, a NAS and Jupyter leave in folders."""
    (root / ".DS_Store").write_bytes(b"x")
    for folder in [path for path in root.rglob("*") if path.is_dir()]:
        for name in ("Thumbs.db", "._Bild 0 ü.png", ".hidden.png", "desktop.ini"):
            (folder / name).write_bytes(b"x")
    for name in (".ipynb_checkpoints", "@eaDir", "__MACOSX"):
        write_image(root / name / "copy.png", 5)
