"""Writes the pixels that OpenCV 4.11, the version in the lock file for GPUs, decodes and resizes.

Run it in an environment with that version. It writes encoded images and digests of pixels to `opencv_pixels.json`:

    python tests/opencv_pixels.py
"""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image, ImageFile

from upstream_operators import digest, picture

RESULTS = Path(__file__).with_suffix(".json")
SEEDS = range(64)
EXACT = {
    "nearest": cv2.INTER_NEAREST,
    "bilinear": cv2.INTER_LINEAR,
    "area": cv2.INTER_AREA,
    "lanczos": cv2.INTER_LANCZOS4,
}


def resize_pictures(interpolation: int) -> list[np.ndarray]:
    """Return parts of pictures, as cut out by a crop, resized to smaller and larger sizes."""
    results = []
    for seed in SEEDS:
        rng = np.random.default_rng(seed)
        pixels = picture(seed)
        top, left = (int(rng.integers(0, side // 2)) for side in pixels.shape[:2])
        width, height = (int(side) for side in rng.integers(1, 256, 2))
        results.append(cv2.resize(pixels[top:, left:], (width, height), interpolation=interpolation))
    return results


def encode_pictures() -> dict[str, bytes]:
    """Return a picture in the variants of each format."""
    ImageFile.MAXBLOCK = 2**20
    pixels = picture(0)[:32, :40]
    rgb = Image.fromarray(pixels)
    gray, palette, rgba = rgb.convert("L"), rgb.convert("P"), rgb.copy()
    rgba.putalpha(gray)
    exif = Image.Exif()
    exif[0x0112] = 6  # orientation: rotated by 90 degrees
    variants: dict[str, tuple[Image.Image, str, dict[str, Any]]] = {
        "JPEG 4:4:4": (rgb, "JPEG", {"subsampling": 0}),
        "JPEG 4:2:2": (rgb, "JPEG", {"subsampling": 1}),
        "JPEG 4:2:0": (rgb, "JPEG", {"subsampling": 2}),
        "JPEG, progressive": (rgb, "JPEG", {"progressive": True}),
        "JPEG, gray": (gray, "JPEG", {}),
        "JPEG, CMYK": (rgb.convert("CMYK"), "JPEG", {}),
        "JPEG, turned": (rgb, "JPEG", {"exif": exif}),
        "PNG": (rgb, "PNG", {}),
        "PNG, gray": (gray, "PNG", {}),
        "PNG, palette": (palette, "PNG", {}),
        "PNG, transparent": (rgba, "PNG", {}),
        "PNG, 1 bit": (rgb.convert("1"), "PNG", {}),
        "BMP": (rgb, "BMP", {}),
        "WebP": (rgb, "WEBP", {"quality": 80}),
        "WebP, lossless": (rgb, "WEBP", {"lossless": True}),
    }
    files = {}
    for name, (image, image_format, options) in variants.items():
        buffer = io.BytesIO()
        image.save(buffer, image_format, **options)
        files[name] = buffer.getvalue()
    return files


def main() -> None:
    """Write the files and digests."""
    decoded = {
        name: {
            "file": base64.b64encode(data).decode(),
            "pixels": digest(cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)),
        }
        for name, data in encode_pictures().items()
    }
    resized = {name: " ".join(map(digest, resize_pictures(number))) for name, number in EXACT.items()}
    text = json.dumps({"opencv": cv2.__version__, "decoded": decoded, "resized": resized}, indent=1)
    RESULTS.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
