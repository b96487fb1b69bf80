"""Measures the content measures of the scan and the search for near-duplicates. Part of `data_quality.py`."""

from __future__ import annotations

import contextlib
import io
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from unittest import mock

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from targets import Target, peak_memory_bytes

from resnet50_pipeline.imagenet.scan import inspection, tasks
from resnet50_pipeline.imagenet.scan.tasks import InspectionTask, run_task
from resnet50_pipeline.imaging.content import near_pairs
from resnet50_pipeline.imaging.content.difference_hash import HASH_BITS, HASH_SIDE, MAX_DISTANCE, hash_thumbnails

IMAGENET_IMAGES, COMPARED_IMAGES = 1_331_167, 50_000
PHOTOS, ROUNDS = 64, 20
# Share of the images that have a near-duplicate at a random distance, and that have a plain white background.
NEAR_SHARE, PLAIN_SHARE = 0.01, 0.2
SEARCH_SECONDS, SEARCH_GIGABYTES, RECALL, SCAN_SHARE = 90, 2, 0.99, 0.15
_CHUNK = 50_000


def measure_scan(folder: Path) -> list[Target]:
    """Measure the time that the hash and the scores add to the full scan, which reads and inspects images.

    The images have about ImageNet's size and detail. Each call is timed, so that the medians over all images contain no
    interruptions by other processes.
    """
    names = [f"{seed}.jpg" for seed in range(PHOTOS)]
    for seed, name in enumerate(names):
        (folder / name).write_bytes(_encode_photo(seed))
    task = InspectionTask(str(folder), names, "full", is_walked=True)
    with (
        _time_calls(tasks, "inspect_file") as inspecting,
        _time_calls(inspection, "reduce_pixels") as reducing,
        _time_calls(tasks, "measure_content") as measuring,
    ):
        for _ in range(ROUNDS):
            run_task(task)
    inspected, reduced, measured = (1e6 * statistics.median(one) for one in (inspecting, reducing, measuring))
    rest = inspected - reduced
    print(f"full scan: {rest:.0f} µs per image, and {reduced:.0f} µs to reduce it and {measured:.0f} µs to measure it")
    return [Target("time that hash and scores add to the full scan", (reduced + measured) / rest, SCAN_SHARE)]


def measure_search(_: Path) -> list[Target]:
    """Measure the search for near-duplicates among 1.33 M hashes in a new process, and its recall among 50,000."""
    done = subprocess.run([sys.executable, __file__], check=True, capture_output=True, text=True)
    figures = json.loads(done.stdout)
    print(f"search: {figures['pairs']:,} pairs among {IMAGENET_IMAGES:,} images")
    hashes = make_hashes(COMPARED_IMAGES)
    exact = _as_set(near_pairs._search_exhaustively(hashes, MAX_DISTANCE, near_pairs.MAX_PAIRS)[0])
    found = _as_set(near_pairs._search_tables(hashes, MAX_DISTANCE, near_pairs.MAX_PAIRS)[0])
    assert found <= exact
    return [
        Target("search among 1.33 M hashes, CPU seconds of one core", figures["seconds"], SEARCH_SECONDS),
        Target("peak memory of the same, GB", figures["gigabytes"], SEARCH_GIGABYTES),
        Target("recall of the search among 50,000 hashes", len(found) / len(exact), RECALL, at_least=True),
    ]


def make_hashes(count: int, seed: int = 0) -> NDArray[np.uint8]:
    """Return hashes of thumbnails with the spectrum of photographs, some with a plain background, some near-duplicates.

    Args:
        count: number of hashes.
        seed: seed of the random numbers.

    Returns:
        uint8 [count, HASH_BITS / 8].
    """
    random = np.random.default_rng(seed)
    height, width = HASH_SIDE, HASH_SIDE + 2
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width))
    frequency[0, 0] = 1
    hashes = np.zeros((count, HASH_BITS // 8), np.uint8)
    for start in range(0, count, _CHUNK):
        size = (min(_CHUNK, count - start), *frequency.shape)
        spectrum = (random.standard_normal(size) + 1j * random.standard_normal(size)) / frequency**1.2
        noise = np.fft.irfft2(spectrum, s=(height, width))[..., : HASH_SIDE + 1]
        noise = np.clip(128 + 55 * noise / noise.std(axis=(1, 2), keepdims=True), 0, 255).astype(np.uint8)
        plain = noise[: int(PLAIN_SHARE * len(noise))]
        plain[:, :1] = plain[:, :, :2] = plain[:, :, -2:] = 255
        hashes[start : start + len(noise)] = hash_thumbnails(noise)
    near = int(NEAR_SHARE * count)
    originals, copies = random.choice(count, (2, near), replace=False)
    bits = np.unpackbits(hashes[originals], axis=1)
    ranks = random.permuted(np.tile(np.arange(HASH_BITS), (near, 1)), axis=1)
    bits ^= ranks < random.integers(0, MAX_DISTANCE + 1, (near, 1))
    hashes[copies] = np.packbits(bits, axis=1)
    return hashes


def _encode_photo(seed: int) -> bytes:
    small = np.random.default_rng(seed).integers(0, 256, (94, 125, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(small).resize((500, 375), Image.Resampling.BICUBIC).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


@contextlib.contextmanager
def _time_calls(module: ModuleType, name: str) -> Iterator[list[float]]:
    """Append the seconds of each call of a module's function to a list."""
    function, seconds = getattr(module, name), []

    def call(*arguments: object, **options: object) -> object:
        start = time.perf_counter()
        result = function(*arguments, **options)
        seconds.append(time.perf_counter() - start)
        return result

    with mock.patch.object(module, name, call):
        yield seconds


def _as_set(codes: NDArray[np.int64]) -> set[int]:
    return set(codes.tolist())


def main() -> None:
    """Search 1.33 M hashes and print the figures as JSON."""
    hashes = make_hashes(IMAGENET_IMAGES)
    start = time.process_time()
    found = near_pairs.find_near_pairs(hashes)
    seconds = time.process_time() - start
    gigabytes = peak_memory_bytes() / 1e9
    print(json.dumps({"seconds": seconds, "gigabytes": gigabytes, "pairs": len(found.rows)}))


if __name__ == "__main__":
    main()
