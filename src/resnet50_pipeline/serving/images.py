"""The bytes of an image, however it comes: as such, as base64 text, or as the path of a file."""

from __future__ import annotations

import base64
import binascii
import os
from dataclasses import dataclass
from pathlib import Path

IMAGE_ROOT = "RESNET50_PIPELINE_IMAGE_ROOT"
"""Variable: the folder that paths are taken from, and may not leave."""
# MLflow's scoring server sets it (mlflow/pyfunc/scoring_server, 3.x). Whoever can reach a server's port would else be
# told of every file of the machine whether it is there and what it shows.
_IN_A_SERVER = "__pyfunc_model_path__"
MAX_BYTES = 64 << 20


@dataclass(frozen=True)
class UnreadableImage:
    """Why there are no bytes.

    Attributes:
        status: as of HTTP, see `Prediction.status`.
        message: what is wrong.
    """

    status: int
    message: str


def read_image(value: object) -> bytes | UnreadableImage:
    """Return the bytes of an image that comes as such, or as base64, which is how JSON carries it."""
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value)
    if isinstance(value, str):
        try:
            return base64.b64decode(value, validate=True)
        except (binascii.Error, ValueError) as error:  # ValueError: letters that are not ASCII
            return UnreadableImage(400, f"the text is not base64: {error}")
    return UnreadableImage(400, f"an image is bytes or base64 text, not {type(value).__name__}")


def read_image_file(path: object) -> bytes | UnreadableImage:
    """Return the bytes of an image file; of a regular one only, which is no larger than `MAX_BYTES`.

    Where the variable RESNET50_PIPELINE_IMAGE_ROOT names a folder, paths are relative to it and stay in it. Without it
    any path is read, but none in MLflow's scoring server.
    """
    if not isinstance(path, str) or not path or "\0" in path:
        return UnreadableImage(400, f"a path is text, not {path!r:.60}")
    file = Path(path)
    root = os.environ.get(IMAGE_ROOT)
    if root:
        file = (Path(root) / path).resolve()
        if not file.is_relative_to(Path(root).resolve()):
            return UnreadableImage(403, f"{path}: leads out of {IMAGE_ROOT}")
    elif _IN_A_SERVER in os.environ:
        return UnreadableImage(403, f"{path}: this server reads no paths; send the image, or set {IMAGE_ROOT}")
    return _read_regular_file(file, path)


def _read_regular_file(file: Path, name: str) -> bytes | UnreadableImage:
    try:
        if not file.is_file():  # a FIFO or a device would be read for ever
            return UnreadableImage(404, f"{name}: there is no such file")
        if (size := file.stat().st_size) > MAX_BYTES:
            return UnreadableImage(413, f"{name}: has {size} bytes, more than {MAX_BYTES}")
        return file.read_bytes()
    except OSError as error:
        return UnreadableImage(404, f"{name}: cannot be read: {error.strerror}")
