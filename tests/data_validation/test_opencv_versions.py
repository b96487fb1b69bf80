"""Fault 23 under every OpenCV: what the scan says of an image does not depend on which one is installed.

The project's own is always tested. Others: RESNET50_OPENCV_PYTHONS names further interpreters, separated by colons,
that have another opencv-python, and all else that the project needs:

    python -m venv --system-site-packages cv412
    cv412/bin/pip install --no-deps opencv-python-headless==4.12.0.88
    RESNET50_OPENCV_PYTHONS=$PWD/cv412/bin/python pytest tests/data_validation/test_opencv_versions.py
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from functools import cache
from typing import Any

import pytest

from faulty_dataset import encode

INTERPRETERS = [sys.executable, *filter(None, os.environ.get("RESNET50_OPENCV_PYTHONS", "").split(":"))]
WHOLE = {name: encode("RGB", name) for name in ("JPEG", "PNG", "BMP", "TIFF", "WEBP")} | {
    "grey JPEG": encode("L"),
    "CMYK JPEG": encode("CMYK"),
    "progressive JPEG": encode("RGB", progressive=True),
}
BROKEN = {
    **{f"half of a {name}": data[: len(data) // 2] for name, data in WHOLE.items()},
    **{f"{name} without its last bytes": data[:-2] for name, data in WHOLE.items() if "JPEG" in name},
    "JPEG with an end of zeros": WHOLE["JPEG"][: len(WHOLE["JPEG"]) // 2] + bytes(len(WHOLE["JPEG"]) // 2),
    "nothing": b"",
    "web page": b"<!DOCTYPE html><html>404</html>",
}
PROGRAM = """
import json, sys
import cv2
import numpy as np
from resnet50_pipeline.exceptions import ImageDecodeError
from resnet50_pipeline.imagenet.inspection import inspect_bytes, inspect_header
from resnet50_pipeline.imaging.decode import decode_image

def decode(data):
    try:
        return list(decode_image(data).shape)
    except ImageDecodeError:
        return None

def decode_raw(data):
    try:
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    except cv2.error:
        return None
    return None if pixels is None else list(pixels.shape)

images = {name: bytes.fromhex(data) for name, data in json.load(sys.stdin).items()}
found = {
    name: {"full": inspect_bytes(data).status, "header": inspect_header(data).status, "pixels": decode(data),
           "raw": decode_raw(data)}
    for name, data in images.items()
}
print(json.dumps({"version": cv2.__version__, "found": found}))
"""


@cache
def look(interpreter: str) -> dict[str, Any]:
    """Return OpenCV's version, and what scan and decoder of an interpreter make of each image."""
    images = json.dumps({name: data.hex() for name, data in (WHOLE | BROKEN).items()})
    done = subprocess.run([interpreter, "-c", PROGRAM], input=images, capture_output=True, text=True, check=True)
    looked: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return looked


@pytest.mark.parametrize("interpreter", INTERPRETERS)
def test_whole_images_are_in_order_and_decode(interpreter: str) -> None:
    """Every format that is accepted decodes to three channels, under this OpenCV too."""
    found = look(interpreter)["found"]
    assert {
        name: (found[name]["full"], found[name]["header"], found[name]["pixels"]) for name in WHOLE
    } == dict.fromkeys(WHOLE, ("ok", "ok", [28, 28, 3]))


@pytest.mark.parametrize("interpreter", INTERPRETERS)
@pytest.mark.parametrize("name", BROKEN)
def test_broken_images_are_found_whatever_opencv_makes_of_them(interpreter: str, name: str) -> None:
    """What is cut off, empty or no image is undecodable to the scan, and no stage makes pixels of it."""
    found = look(interpreter)["found"][name]
    assert (found["full"], found["pixels"]) == ("undecodable", None)


@pytest.mark.parametrize("interpreter", INTERPRETERS)
def test_opencv_alone_would_not_do(interpreter: str) -> None:
    """OpenCV 4.6 and 4.10 make pixels of a JPEG that lost its end, without a word; 4.12 is the first that does not."""
    looked = look(interpreter)
    version = tuple(map(int, looked["version"].split(".")[:2]))
    if version not in ((4, 6), (4, 10), (4, 12)):
        pytest.skip(f"what OpenCV {looked['version']} does is not known")
    made = looked["found"]["JPEG without its last bytes"]["raw"]
    assert made == (None if version == (4, 12) else [28, 28, 3])
