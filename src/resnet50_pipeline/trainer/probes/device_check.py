"""Measures a bare training loop, and checks asynchronous copies to the device. Prints a line of JSON.

    python trainer/probes/device_check.py --config training_config.yaml --steps 50

`tools/gpu_check.py` compares a training run with this program.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import zlib  # noqa: F401 - must precede paddle 2.6.2, which exports zlib's symbols and crashes later users of zlib
from pathlib import Path
from typing import Any

import numpy as np

from resnet50_pipeline.recipe.document import TrainingConfig, read_training_config

_WARM_UP_STEPS = 3
_COPIES = 8


def main(arguments: list[str] | None = None) -> int:
    """Print the result and return 0."""
    parser = argparse.ArgumentParser(prog="device_check.py", description=__doc__)
    parser.add_argument("--config", type=Path, required=True, help="PaddleClas YAML file of a training run")
    parser.add_argument("--steps", type=int, required=True, help="number of steps to measure")
    options = parser.parse_args(arguments)
    import paddle

    config = read_training_config(options.config)
    paddle.set_device(config.Global.device)
    found = {
        "paddle": paddle.__version__,
        "cuda": str(paddle.version.cuda()),
        "cudnn": str(paddle.version.cudnn()),
        "bare_step_seconds": measure_bare_loop(config, options.steps),
        "copies": check_copies(config),
    }
    print(json.dumps(found), flush=True)
    return 0


def measure_bare_loop(config: TrainingConfig, steps: int) -> float:
    """Return the mean seconds of a float32 step: forward, loss, backward and optimizer, on a batch in device memory."""
    import paddle
    import paddle.nn.functional as F  # noqa: N812 - the field's own abbreviation

    from resnet50_pipeline.trainer.network import build_network

    size, (_, side, _) = config.DataLoader.Train.sampler.batch_size, config.Global.image_shape
    network = build_network(config.Arch)
    optimizer = paddle.optimizer.Momentum(
        learning_rate=0.01, momentum=0.9, parameters=network.parameters(), weight_decay=paddle.regularizer.L2Decay(1e-4)
    )
    images = paddle.rand([size, 3, side, side])
    labels = paddle.randint(0, config.Arch.class_num, [size, 1])
    network.train()
    started, loss = 0.0, paddle.zeros([])
    for step in range(_WARM_UP_STEPS + steps):
        if step == _WARM_UP_STEPS:
            float(loss)  # waits for the device
            started = time.perf_counter()
        loss = F.cross_entropy(network(images), labels)
        loss.backward()
        optimizer.step()
        optimizer.clear_grad()
    float(loss)
    return (time.perf_counter() - started) / steps


def check_copies(config: TrainingConfig) -> dict[str, Any]:
    """Copy batches as the loader does, through pinned memory on a GPU, and compare them with the originals.

    Between the copies, the device is kept busy with matrix products, so that a copy that is read too early contains
    wrong values.

    Returns:
        `differing`, the number of copies that differ from their original, and `gib_per_second`.
    """
    import paddle

    from resnet50_pipeline.imaging.normalize import NormalizeImage
    from resnet50_pipeline.trainer.data.on_device import DeviceImages

    size, (_, side, _) = config.DataLoader.Train.sampler.batch_size, config.Global.image_shape
    draw = np.random.default_rng(0)
    originals = [draw.random((size, 3, side, side), dtype=np.float32) for _ in range(_COPIES)]
    device_images, busy = DeviceImages(NormalizeImage(), originals[0].nbytes), paddle.rand([512, 512])
    copies = []
    started = time.perf_counter()
    for original in originals:
        copies.append(device_images.put(original))
        busy = paddle.matmul(busy, busy) * 1e-3
    float(busy.sum())  # waits for the device
    seconds = time.perf_counter() - started
    differing = sum(not np.array_equal(copy.numpy(), one) for copy, one in zip(copies, originals, strict=True))
    return {"differing": differing, "gib_per_second": _COPIES * originals[0].nbytes / seconds / 2**30}


if __name__ == "__main__":
    sys.exit(main())
