"""Measures what the comparison of the ranks' weights and optimizer states costs, and what it finds.

The cost is the time for the digests of ResNet50 with Momentum and averaged weights, compared with a step of the same
rank. Ranks then exchange one number per tensor, which takes no measurable time.

To count what is found, bits are flipped at random in copies of the tensors of one of four ranks.
"""

from __future__ import annotations

import random
import statistics
import time
from pathlib import Path
from typing import Any

import numpy as np
from targets import Target
from training_recipe import BATCH_SIZE, make_config, make_parameters, write_digits
from training_steps import load_batches

ROUNDS = 7
FLIPS = 300
RANKS = 4


def measure(folder: Path) -> list[Target]:
    """Return the targets for the comparison of ranks. This takes about a minute."""
    import paddle

    from resnet50_pipeline.trainer.data.batches import Batch
    from resnet50_pipeline.trainer.monitoring.replicas import digest_tensors
    from resnet50_pipeline.trainer.ranks import Ranks
    from resnet50_pipeline.trainer.step import Stepper

    paddle.set_device("cpu")
    root = folder / "digits"
    write_digits(root, train_images_per_class=ROUNDS * BATCH_SIZE // 10 + 1)
    config = make_config(make_parameters(ema_decay=0.999), root, folder / "training")
    stepper = Stepper(config, Ranks(0, 1, "cpu"), steps_per_epoch=ROUNDS)
    stepper.start_epoch(1)
    steps, digests = [], []
    for number, (images, columns) in enumerate(load_batches(config)[:ROUNDS]):
        labels = columns.reshape([-1])
        started = time.perf_counter()
        loss, _ = stepper.run(Batch(images, labels, labels, None), number)
        float(loss)
        steps.append(time.perf_counter() - started)
        started = time.perf_counter()
        digest_tensors(stepper.replicated())
        digests.append(time.perf_counter() - started)
    step, digest = statistics.median(steps), statistics.median(digests)
    print(f"digests of all tensors {digest * 1e3:.0f} ms, step {step * 1e3:.0f} ms")
    found, false_alarms = count_found([(name, array.copy()) for name, array in stepper.replicated()])
    print(f"{found} of {FLIPS} flipped bits found and named, {false_alarms} false alarms in {FLIPS} comparisons")
    return [
        Target("digests of all tensors every 1000 steps / training time", digest / step / 1000, 0.001),
        Target("share of flipped bits that are found, with the rank", found / FLIPS, 1.0, at_least=True),
        Target("false alarms", false_alarms, 0),
    ]


def count_found(tensors: list[tuple[str, np.ndarray[Any, Any]]]) -> tuple[int, int]:
    """Flip bits in one tensor of one rank at a time. Return the numbers of detected flips and of false alarms."""
    from resnet50_pipeline.trainer.monitoring.replicas import compare_replicas, digest_tensors

    names, clean = digest_tensors(tensors)
    choice, found, false_alarms = random.Random(0), 0, 0
    for _ in range(FLIPS):
        number, odd = choice.randrange(len(tensors)), choice.randrange(RANKS)
        name, array = tensors[number]
        false_alarms += digest_tensors([(name, array)])[1] != [clean[number]]
        position = choice.randrange(array.nbytes)
        array.reshape(-1).view(np.uint8)[position] ^= 1 << choice.randrange(8)
        table = np.array([clean] * RANKS)
        table[odd, number] = digest_tensors([(name, array)])[1][0]
        difference = compare_replicas(names, table)
        found += difference is not None and (difference.odd, difference.tensors) == ((odd,), (name,))
        clean[number] = table[odd, number]
    return found, false_alarms
