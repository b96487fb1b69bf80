"""Programs that tests run inside a real checkout of PaddleClas: `python upstream_programs.py losses|crops …`.

They call upstream's unmodified code and record its results.
"""

from __future__ import annotations

import importlib
import json
import random
import runpy
import sys
import zlib  # noqa: F401 - must precede paddle 2.6.2, which exports zlib's symbols and crashes later users of zlib
from pathlib import Path


def record_losses(config: str, output: str) -> None:
    """Run `tools/train.py -c config` and write every step's loss, unrounded, as a JSON list."""
    # A plain import would return a function of the package that has the same name as the module.
    module = importlib.import_module("ppcls.engine.train.train")
    losses: list[float] = []
    update_loss = module.update_loss

    def update_and_record(trainer: object, loss_dict: dict, batch_size: int) -> None:
        losses.append(float(loss_dict["loss"]))
        update_loss(trainer, loss_dict, batch_size)

    module.update_loss = update_and_record
    sys.argv = ["tools/train.py", "-c", config]
    runpy.run_path("tools/train.py", run_name="__main__")
    Path(output).write_text(json.dumps(losses))


def record_crops(count: str, seed: str, output: str) -> None:
    """Write the boxes [left, top, width, height] that upstream's RandCropImage cuts from an image of 500 x 375."""
    from ppcls.data.preprocess import RandCropImage

    from crops import crop_boxes

    operator = RandCropImage(size=224)

    def crop(pixels: object, number: int) -> None:
        random.seed(int(seed) + number)
        operator(pixels)

    Path(output).write_text(json.dumps(crop_boxes(crop, int(count))))


if __name__ == "__main__":
    {"losses": record_losses, "crops": record_crops}[sys.argv[1]](*sys.argv[2:])
