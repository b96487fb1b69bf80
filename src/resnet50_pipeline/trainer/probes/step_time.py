"""Times training steps for about five seconds. Reads a request from stdin and prints a line of JSON.

    {"config": {…}, "paths": ["rose/1.jpg", …]}                                      the request
    {"batch_seconds": 0.81, "image_seconds": 0.003, "batches": 4, "batch_size": 8}    the result

`kedro adopt` runs this program with the ranks' interpreter and environment variables. The program is a single process
that uses no collectives and writes no files.
"""

from __future__ import annotations

import json
import sys
import time
import zlib  # noqa: F401 - must precede paddle 2.6.2, which exports zlib's symbols and crashes later users of zlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from resnet50_pipeline.imagenet.lists.files import ListEntries
from resnet50_pipeline.recipe.document import TrainingConfig
from resnet50_pipeline.trainer.probes.environment import count_devices

_READING_SECONDS, _TRAINING_SECONDS = 1.0, 4.0


def main() -> int:
    """Print the result and return 0. The result contains `problem` if nothing could be measured."""
    request = json.load(sys.stdin)
    try:
        found = measure_steps(TrainingConfig.model_validate(request["config"]), request["paths"])
    except Exception as error:  # driver errors have many types
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        found = {"problem": f"{type(error).__name__}: {(lines or [''])[-1][:200]}"}
    print(json.dumps(found), flush=True)
    return 0


def measure_steps(config: TrainingConfig, paths: Sequence[str]) -> dict[str, Any]:
    """Read the images at `paths` for a second, then train the network on random pixels for four seconds.

    Returns:
        `batch_seconds` for a full batch, `image_seconds` to read and transform an image, and the number and size of the
        timed batches. If a full batch takes too long, smaller batches are timed and `batch_seconds` is extrapolated. If
        the device is missing, the only key is `problem`.
    """
    import paddle

    from resnet50_pipeline.trainer.data.batches import Batch
    from resnet50_pipeline.trainer.data.dataset import ListDataset
    from resnet50_pipeline.trainer.data.sampling import Key
    from resnet50_pipeline.trainer.optimization.class_weights import compute_class_weights
    from resnet50_pipeline.trainer.ranks import Ranks
    from resnet50_pipeline.trainer.step import Stepper

    device = config.Global.device
    if not count_devices(device):
        return {"problem": f"this machine has no {device}, or Paddle cannot use it"}
    paddle.set_device(device)
    train, class_num = config.DataLoader.Train, config.Arch.class_num
    entries = ListEntries(tuple(paths), np.zeros(len(paths), np.int64), source="probe")
    dataset = ListDataset(entries, train, config.Global.seed)
    loss = config.Loss.Train[0].CELoss
    weights = None if loss is None else compute_class_weights(loss, np.ones(class_num, np.int64))
    stepper = Stepper(config, Ranks(rank=0, count=1, device=paddle.get_device()), 1, weights)
    stepper.start_epoch(1)
    side = 0
    read, started = 0, time.perf_counter()
    while read == 0 or time.perf_counter() - started < _READING_SECONDS:
        side = dataset[Key(1, read % len(paths), read // len(paths))].pixels.shape[-1]
        read += 1
    image_seconds = (time.perf_counter() - started) / read
    batches = 0

    def train_batch(size: int) -> float:
        nonlocal batches
        images = paddle.rand([size, 3, side, side])
        labels = paddle.randint(0, class_num, [size])
        start = time.perf_counter()
        value, _ = stepper.run(Batch(images=images, labels=labels, index=labels), batches)
        float(value)  # waits for the device
        batches += 1
        return time.perf_counter() - start

    times = time_batches(train_batch, train.sampler.batch_size)
    size = max(times)
    return {
        "batch_seconds": extrapolate(times, train.sampler.batch_size),
        "image_seconds": image_seconds,
        "batches": len(times[size]),
        "batch_size": size,
    }


def time_batches(
    train_batch: Callable[[int], float],
    batch_size: int,
    seconds: float = _TRAINING_SECONDS,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[int, list[float]]:
    """Train on batches of increasing size until time is up. Return the times in seconds, keyed by batch size.

    The first batch of each size is a warm-up that allocates memory and selects algorithms. Its time counts only if a
    single image takes longer than `seconds`.

    Args:
        train_batch: trains on a batch of the given size, and returns the time in seconds.
        batch_size: maximum number of images in a batch.
        seconds: time limit for all batches together.
        clock: returns the current time in seconds.
    """
    end, size = clock() + seconds, 1
    times = {size: [train_batch(size)]}
    if clock() >= end:
        return times
    times[size] = [train_batch(size)]
    while size < batch_size:
        # Leave time for a warm-up batch, a timed batch, and one more in case both are slower.
        affordable = int(size * (end - clock()) / (3 * times[size][0]))
        if affordable <= size:
            break
        size = min(batch_size, affordable)
        train_batch(size)
        times[size] = [train_batch(size)]
    while clock() + times[size][-1] < end:
        times[size].append(train_batch(size))
    return times


def extrapolate(times: Mapping[int, Sequence[float]], batch_size: int) -> float:
    """Return the time of a batch in seconds, extrapolated linearly from the two largest sizes if necessary.

    If only one size was timed, the time is assumed to be proportional to the size. This is an overestimate, because
    updating the weights takes the same time for any size.
    """
    medians = {size: float(np.median(found)) for size, found in times.items()}
    largest = max(medians)
    if largest >= batch_size:
        return medians[largest]
    smaller = max((size for size in medians if size < largest), default=0)
    slope = (medians[largest] - medians.get(smaller, 0.0)) / (largest - smaller)
    return medians[largest] + max(0.0, slope) * (batch_size - largest)


if __name__ == "__main__":
    sys.exit(main())
