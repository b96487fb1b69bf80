"""Faults 22 to 27: damaged or unusual images and failed writes, as reported by data_validation and data_preparation.

The table in test_faults.py lists the tests for each fault.
"""

from __future__ import annotations

import io
import os
import re
import resource
import shutil
import signal
import struct
import subprocess
import sys
import time
import tracemalloc
import zlib
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from faulty_dataset import FaultyDataset, encode
from resnet50_pipeline.datasets import TextFileDataset
from resnet50_pipeline.imagenet.scan.inspection import inspect_bytes
from resnet50_pipeline.imagenet.scan.known_images import KNOWN_CMYK, KNOWN_PNG
from resnet50_pipeline.imaging.decode import decode_image

pytestmark = pytest.mark.timeout(120)


def with_orientation(orientation: int) -> Image.Exif:
    """Return EXIF data with an orientation."""
    data = Image.Exif()
    data[0x0112] = orientation
    return data


def put_known_images(faulty: FaultyDataset) -> None:
    """Replace images with stand-ins for ILSVRC2012's known PNG and three known CMYK images, by name and format."""
    for number, name in enumerate([*sorted(KNOWN_PNG), *sorted(KNOWN_CMYK)[:3]]):
        image = faulty.image(label=number)
        image.unlink()
        data = encode("RGB", "PNG") if name in KNOWN_PNG else encode("CMYK", seed=number)
        (image.parent / name).write_bytes(data)
        faulty.edit_lines(
            lambda lines, old=image.name, new=name: [line.replace(f"/{old} ", f"/{new} ") for line in lines]
        )


def test_the_known_png_and_cmyk_images_are_a_notice(faulty: FaultyDataset) -> None:
    """Fault 22: ILSVRC2012's known PNG and CMYK images cause no warning, only a notice that counts them."""
    put_known_images(faulty)
    outcome = faulty.run()
    assert outcome.exit_code == 0
    assert all(one["success"] for one in outcome.report["expectations"])
    (notice,) = outcome.report["notices"]
    assert "1 PNG and 3 CMYK" in notice


def test_other_png_and_cmyk_images_are_a_warning_and_decode(faulty: FaultyDataset) -> None:
    """Fault 22: other PNG and CMYK images cause warnings, and training reads three channels from both."""
    faulty.image(label=0).write_bytes(encode("RGB", "PNG"))
    faulty.image(label=1).write_bytes(encode("CMYK"))
    outcome = faulty.run()
    assert outcome.exit_code == 0
    assert outcome.report["is_valid"]
    assert [line.split(": ")[0] for line in outcome.problems("images_are_jpeg")] == ["train_list.txt:1"]
    assert [line.split(": ")[0] for line in outcome.problems("images_are_rgb_or_grey")] == ["train_list.txt:5"]
    png = decode_image(faulty.image(label=0).read_bytes())
    expected = np.asarray(Image.open(faulty.image(label=0)).convert("RGB"))[:, :, ::-1]
    assert np.array_equal(png, expected)
    assert decode_image(faulty.image(label=1).read_bytes()).shape == (28, 28, 3)


@pytest.mark.parametrize(
    "break_bytes",
    [
        lambda data: data[: len(data) // 2],
        lambda data: data[:-2],
        lambda _: b"",
        lambda _: b"<!DOCTYPE html><html>404</html>",
        lambda data: data[: len(data) // 2] + bytes(len(data) // 2),
    ],
    ids=["half", "without its end", "zero bytes", "an HTML page", "an end of zeros"],
)
@pytest.mark.parametrize("level", ["full", "header"])
def test_an_incomplete_image_stops_the_run(faulty: FaultyDataset, break_bytes, level: str) -> None:
    """Fault 23: a truncated or empty image, or a web page, stops the run at both scan levels."""
    image = faulty.image()
    image.write_bytes(break_bytes(image.read_bytes()))
    outcome = faulty.run(validation={"scan": {"level": level}})
    assert outcome.exit_code == 1
    assert re.search(r"train_list\.txt:1: train/\S* .* → .* \[images_decode\]", outcome.message)


def test_scan_does_not_decode_with_opencv(monkeypatch) -> None:
    """Fault 23: the scan never decodes with OpenCV, whose versions disagree about damaged images, but only resizes."""
    for name in ("imdecode", "imdecodemulti", "imread", "imreadmulti"):
        monkeypatch.delattr(cv2, name)
    for image_format in ("JPEG", "PNG", "BMP"):
        data = encode("RGB", image_format)
        assert inspect_bytes(data).status == "ok"
        assert inspect_bytes(data[: len(data) // 2]).status == "undecodable"


def test_a_flipped_bit_is_found_by_its_digest(faulty: FaultyDataset, tmp_path: Path) -> None:
    """Fault 24: a reference manifest reveals an image with a flipped bit, even though the image decodes.

    Size and modification time are unchanged, so the scan must not use its cache.
    """
    scan = {"scan": {"cache_dir": str(tmp_path / "cache")}}
    earlier = shutil.copy(faulty.run(validation=scan).results / "manifest.parquet", tmp_path / "earlier.parquet")
    image = faulty.image()
    times = image.stat()
    data = bytearray(image.read_bytes())
    data[-20] ^= 1
    image.write_bytes(data)
    os.utime(image, ns=(times.st_atime_ns, times.st_mtime_ns))
    Image.open(image).load()
    outcome = faulty.run(validation={**scan, "reference_manifest": str(earlier)})
    assert outcome.exit_code == 1
    (error, *_) = outcome.message.splitlines()
    assert re.search(r"train_list\.txt:1: .* [0-9a-f]{12}….*\[images_are_as_they_were\]", error)
    assert outcome.report["data_digest"] != ""


def test_orientation_and_damaged_exif_are_reported(faulty: FaultyDataset) -> None:
    """Fault 25: images rotated by EXIF data or with unreadable EXIF data cause warnings with line numbers."""
    faulty.image(number=0).write_bytes(encode(exif=with_orientation(6)))
    faulty.image(number=1).write_bytes(encode(seed=1, exif=b"Exif\0\0broken"))
    outcome = faulty.run()
    assert outcome.exit_code == 0
    rotated, damaged = outcome.problems("images_are_upright")
    assert re.match(r"train_list\.txt:1: .*orientation 6 ", rotated)
    assert damaged.startswith("train_list.txt:2: ")


def test_all_stages_share_one_decoder_that_applies_the_orientation() -> None:
    """Fault 25: only one module in the package decodes images, and it rotates them according to their EXIF data."""
    upright = Image.new("RGB", (40, 20), "white")
    upright.paste("black", (0, 0, 20, 20))
    buffer = io.BytesIO()
    upright.save(buffer, "JPEG", exif=with_orientation(6))
    pixels = decode_image(buffer.getvalue())
    assert pixels.shape == (40, 20, 3)
    assert pixels[:18].max() < 60
    assert pixels[22:].min() > 190
    package = Path(decode_image.__code__.co_filename).parents[1]
    decoding = [path.relative_to(package) for path in package.rglob("*.py") if "decode_jpeg(" in path.read_text()]
    assert [str(path) for path in decoding] == ["imaging/decode.py"]
    assert not [
        path for path in package.rglob("*.py") if re.search(r"imdecode\(|imread\(|Image\.open\(", path.read_text())
    ]


def test_a_decompression_bomb_is_not_decoded(faulty: FaultyDataset) -> None:
    """Fault 26: a small file with 30,000 x 30,000 pixels stops the run and uses less than 200 MB of memory."""
    rows = zlib.compress(bytes(30_000 // 8 + 1) * 64, 9)
    header = struct.pack(">IIBBBBB", 30_000, 30_000, 1, 0, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", rows), (b"IEND", b"")]
    faulty.image().write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + b"".join(
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
            for kind, data in chunks
        )
    )
    tracemalloc.start()
    outcome = faulty.run()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert outcome.exit_code == 1
    assert re.search(r"train_list\.txt:1: .*30000 x 30000 pixels.* → ", outcome.message)
    assert peak < 200e6


PREPARE = """
import sys, signal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
from pathlib import Path
from resnet50_pipeline.datasets import TextFileDataset
from resnet50_pipeline.imagenet.layout import find_layout, read_lists
root, target = map(Path, sys.argv[1:3])
text = read_lists(find_layout(root), 10)["train"].text
print("ready", flush=True)
while True:
    TextFileDataset(str(target)).save(text * int(sys.argv[3]))
"""


def start_preparing(root: Path, target: Path, times: int, **options: Any) -> subprocess.Popen:
    """Start a process that writes the prepared list in a loop."""
    return subprocess.Popen(
        [sys.executable, "-c", PREPARE, str(root), str(target), str(times)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


def test_a_full_disk_leaves_the_old_list(faulty: FaultyDataset) -> None:
    """Fault 27: if the disk is full, the old list is kept and no temporary file remains.

    A file size limit interrupts the write halfway, as a full disk does.
    """
    outcome = faulty.run()
    before = outcome.prepared("train")
    room = (len(before) // 2, len(before) // 2)
    target = outcome.results / "train_list.txt"
    process = start_preparing(
        faulty.root, target, 1, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, room)
    )
    _, errors = process.communicate(timeout=60)
    assert "OSError: [Errno 27] File too large" in errors
    assert target.read_bytes() == before
    assert not [path for path in outcome.results.iterdir() if path.name.startswith(".")]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_a_killed_writer_leaves_a_complete_list(faulty: FaultyDataset, number: signal.Signals) -> None:
    """Fault 27: if a write is killed, the list stays complete, and the next write removes the temporary file."""
    outcome = faulty.run()
    target = outcome.results / "train_list.txt"
    whole = (outcome.prepared("train"), outcome.prepared("train") * 20_000)
    for delay in (0.05, 0.2, 0.35):
        process = start_preparing(faulty.root, target, 20_000)
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        time.sleep(delay)
        process.send_signal(number)
        process.communicate(timeout=60)
        assert target.read_bytes() in whole
    if number == signal.SIGKILL:
        TextFileDataset(str(target)).save(whole[0])
    assert not [path for path in outcome.results.iterdir() if path.name.startswith(".")]
