"""Computes digests of the results of PaddleClas' operators for a few images and given random numbers.

With a checkout of release/2.6, this program writes them to `upstream_operators.json`:

    python tests/upstream_operators.py "$PADDLECLAS_HOME"
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import json
import logging
import random
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np

RESULTS = Path(__file__).with_suffix(".json")
SEEDS = range(64)

# Operator, arguments in YAML, and upstream's module and class.
CASES: dict[str, tuple[str, dict[str, Any], str]] = {
    "crop": ("RandCropImage", {"size": 24}, "operators.RandCropImage"),
    "crop, bicubic": ("RandCropImage", {"size": 24, "interpolation": "bicubic"}, "operators.RandCropImage"),
    "crop, Pillow": (
        "RandCropImage",
        {"size": 40, "interpolation": "bicubic", "backend": "pil", "scale": [0.35, 1.0]},
        "operators.RandCropImage",
    ),
    "crop, random interpolation": (
        "RandCropImage",
        {"size": 40, "interpolation": "random", "backend": "pil"},
        "operators.RandCropImage",
    ),
    "crop, logarithm of aspect": ("RandCropImage", {"size": 24, "use_log_aspect": True}, "operators.RandCropImage"),
    "flip": ("RandFlipImage", {"flip_code": 1}, "operators.RandFlipImage"),
    "flip upside down": ("RandFlipImage", {"flip_code": 0}, "operators.RandFlipImage"),
    "short side, Pillow": (
        "ResizeImage",
        {"resize_short": 36, "interpolation": "bicubic", "backend": "pil"},
        "operators.ResizeImage",
    ),
    "size": ("ResizeImage", {"size": [30, 20], "interpolation": "area"}, "operators.ResizeImage"),
    "RandAugment": ("RandAugment", {}, "randaugment.RandAugment"),
    "RandAugment 3, 9": ("RandAugment", {"num_layers": 3, "magnitude": 9}, "randaugment.RandAugment"),
    "timm, default": ("TimmAutoAugment", {}, "timm_autoaugment.RawTimmAutoAugment"),
    "timm, A1": ("TimmAutoAugment", {"config_str": "rand-m7-mstd0.5-inc1"}, "timm_autoaugment.RawTimmAutoAugment"),
    "timm, not increasing": (
        "TimmAutoAugment",
        {"config_str": "rand-m9-n3-mstd0.5", "interpolation": "random"},
        "timm_autoaugment.RawTimmAutoAugment",
    ),
    "erasing": ("RandomErasing", {"EPSILON": 0.9}, "random_erasing.RandomErasing"),
    "erasing, color": (
        "RandomErasing",
        {"EPSILON": 0.9, "sl": 0.02, "sh": "1.0/3.0", "r1": 0.3, "attempt": 10, "use_log_aspect": True, "mode": "rand"},
        "random_erasing.RandomErasing",
    ),
    "erasing, pixels": ("RandomErasing", {"EPSILON": 0.9, "mode": "pixel"}, "random_erasing.RandomErasing"),
}


def picture(seed: int) -> np.ndarray:
    """Return an image with gradients, edges, and noise: uint8 [height, width, 3], whose size depends on the seed."""
    generator = np.random.default_rng(seed)
    height, width = (int(side) for side in generator.integers(40, 70, 2))
    rows, columns = np.mgrid[:height, :width]
    shades = np.stack([rows * 3, columns * 3, (rows // 9 + columns // 7) % 2 * 200], axis=-1)
    return ((shades + generator.integers(0, 40, shades.shape)) % 256).astype(np.uint8)


def given_picture(name: str, seed: int) -> np.ndarray:
    """Return the input for the operator of a case: pixels, or normalized pixels."""
    pixels = picture(seed)
    return (pixels.astype(np.float32) - 128) / 64 if name == "RandomErasing" else pixels


def digest(result: np.ndarray) -> str:
    """Return a short digest of values, dtype, and shape."""
    content = np.ascontiguousarray(result)
    return hashlib.sha256(f"{content.dtype}{content.shape}".encode() + content.tobytes()).hexdigest()[:12]


class Draws:
    """Replacement for `random` and `np.random` that draws from one `random.Random`."""

    def __init__(self, draw: random.Random) -> None:
        self._draw = draw

    def choice(self, items: Any, size: int | None = None, replace: bool = True, p: None = None) -> Any:
        """Return one item, or `size` of them."""
        assert replace
        assert p is None
        return self._draw.choice(list(items)) if size is None else [self._draw.choice(items) for _ in range(size)]

    def normal(self, size: tuple[int, ...]) -> np.ndarray:
        """Return normally distributed numbers."""
        return np.random.default_rng(self._draw.getrandbits(64)).normal(size=size)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._draw, name)


@contextlib.contextmanager
def same_pixels_on_every_cpu() -> Iterator[None]:
    """Turn off Intel's IPP in OpenCV, which rounds bicubic pixels differently with AVX2 and AVX-512."""
    cv2.ipp.setUseIPP(False)
    try:
        yield
    finally:
        cv2.ipp.setUseIPP(True)


def load_upstream(home: Path) -> None:
    """Import only the modules of `ppcls/data/preprocess/ops` that the cases name from a checkout."""
    package = types.ModuleType("upstream_ops")
    package.__path__ = [str(home / "ppcls" / "data" / "preprocess" / "ops")]
    sys.modules["upstream_ops"] = package
    utils = types.ModuleType("ppcls.utils")
    utils.logger = logging.getLogger("ppcls")  # type: ignore[attr-defined]
    replacements = {"ppcls": types.ModuleType("ppcls"), "ppcls.utils": utils}
    installed = {name: sys.modules.pop(name) for name in replacements if name in sys.modules}
    sys.modules.update(replacements)
    try:
        for name in {where.split(".")[0] for _, _, where in CASES.values()}:
            importlib.import_module(f"upstream_ops.{name}")
    finally:
        for name in replacements:
            del sys.modules[name]
        sys.modules.update(installed)


def run_upstream(case: str, seed: int) -> np.ndarray:
    """Return the result of upstream's operator for the image of a seed."""
    from PIL import Image

    name, arguments, where = CASES[case]
    module_name, class_name = where.split(".")
    module = importlib.import_module(f"upstream_ops.{module_name}")
    draws = Draws(random.Random(seed))
    module.random = draws
    shim = types.ModuleType("numpy")
    shim.__dict__.update({**np.__dict__, "random": draws})
    module.np = shim
    operator = getattr(module, class_name)(**arguments)
    given = given_picture(name, seed)
    if "ugment" not in name:
        return np.asarray(operator(given))
    if name == "TimmAutoAugment":
        draws.random()  # upstream's wrapper draws whether to augment at all
    return np.asarray(operator(Image.fromarray(given)))


def main() -> None:
    """Write the digests."""
    load_upstream(Path(sys.argv[1]))
    with same_pixels_on_every_cpu():
        results = {case: " ".join(digest(run_upstream(case, seed)) for seed in SEEDS) for case in CASES}
    RESULTS.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
