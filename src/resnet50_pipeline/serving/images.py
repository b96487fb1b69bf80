"""Reads the bytes of an image from a request, which contains bytes, base64 text or a file path."""

from __future__ import annotations

import base64
import binascii
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from resnet50_pipeline.imaging.decode import MAX_BYTES

IMAGE_ROOT = "RESNET50_PIPELINE_IMAGE_ROOT"
"""Environment variable with the image folder. Paths in requests are relative to this folder and must not leave it."""
# MLflow's scoring server sets this variable (mlflow/pyfunc/scoring_server, 3.x). If a server read arbitrary paths, its
# clients could find out which files exist on the machine and what the images show.
_IN_A_SERVER = "__pyfunc_model_path__"


@dataclass(frozen=True)
class UnreadableImage:
    """The error for an image that cannot be read.

    Attributes:
        status: HTTP status code (see `Prediction.status`).
        message: error message.
    """

    status: int
    message: str


def read_image(value: object) -> bytes | UnreadableImage:
    """Return the bytes of an image. JSON requests contain the bytes as base64 text, which is decoded."""
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value) if len(value) <= MAX_BYTES else _too_large(f"the image has {len(value)} bytes")
    if isinstance(value, str):
        if len(value) > MAX_BYTES:
            return _too_large(f"the image has {len(value)} characters of base64 text")
        try:
            return base64.b64decode(value, validate=True)
        except (binascii.Error, ValueError) as error:  # ValueError: non-ASCII characters
            return UnreadableImage(400, f"the image is not valid base64: {error}")
    found = "a list of numbers" if isinstance(value, list | np.ndarray) else type(value).__name__
    return UnreadableImage(400, f"an image must be the content of an image file, as bytes or base64 text, not {found}")


def read_image_file(path: object) -> bytes | UnreadableImage:
    """Read a regular file of at most `MAX_BYTES` and return its contents.

    If the environment variable RESNET50_PIPELINE_IMAGE_ROOT is set, paths are relative to that folder and must not
    leave it. If it is not set, MLflow's scoring server rejects all paths, and other programs can read any path.
    """
    if not isinstance(path, str) or not path or "\0" in path:
        return UnreadableImage(400, f"a path must be non-empty text without NUL characters, not {path!r:.60}")
    file = Path(path)
    root = os.environ.get(IMAGE_ROOT)
    if root:
        file = (Path(root) / path).resolve()
        if not file.is_relative_to(Path(root).resolve()):
            return UnreadableImage(
                403, f"{path} is outside the folder in {IMAGE_ROOT}; move the image into this folder"
            )
    elif _IN_A_SERVER in os.environ:
        return UnreadableImage(
            403, f"{path}: this server does not read paths; send the image itself, or set {IMAGE_ROOT} on the server"
        )
    return _read_regular_file(file, path)


def _too_large(found: str) -> UnreadableImage:
    return UnreadableImage(413, f"{found}, but the limit is {MAX_BYTES} bytes; send a smaller image")


def _read_regular_file(file: Path, name: str) -> bytes | UnreadableImage:
    try:
        if not file.is_file():  # reading a FIFO or a device might never end
            return UnreadableImage(404, f"{name}: no such file")
        if (size := file.stat().st_size) > MAX_BYTES:
            return _too_large(f"{name} has {size} bytes")
        return file.read_bytes()
    except OSError as error:
        return UnreadableImage(404, f"{name}: cannot be read: {error.strerror}")
