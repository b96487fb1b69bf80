"""Times an all-reduce between every pair of ranks, and writes the seconds for each pair as JSON.

    python -m paddle.distributed.launch --gpus=0,1,2 trainer/probes/pair_reduction.py --device gpu --output FILE
    {"bytes": 67108864, "seconds": {"0-1": 0.0031, "0-2": 0.0043, "1-2": 0.0044}}

A link that is slow or delivers wrong values affects a single pair. A reduction over all ranks would not show which one.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
import zlib  # noqa: F401 - must precede paddle 2.6.2, which exports zlib's symbols and crashes later users of zlib
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from resnet50_pipeline.files import write_text

BYTES = 64 << 20  # ResNet50's gradients take 98 MiB
_REPETITIONS = 3


def main(arguments: list[str] | None = None) -> int:
    """Measure all pairs. Rank 0 writes the file."""
    parser = argparse.ArgumentParser(prog="pair_reduction.py", description=__doc__)
    parser.add_argument("--device", required=True, help="cpu, gpu, or the name of a Paddle custom device")
    parser.add_argument("--output", type=Path, required=True, help="JSON file to write")
    parser.add_argument("--bytes", type=int, default=BYTES, help="size of the tensor")
    options = parser.parse_args(arguments)
    from resnet50_pipeline.trainer.ranks import join_ranks

    ranks = join_ranks(options.device)
    found = measure_pairs(ranks, options.bytes)
    if ranks.is_first:
        write_text(options.output, json.dumps({"bytes": options.bytes, "seconds": found}))
    ranks.barrier()
    return 0


def measure_pairs(ranks: Any, size: int) -> dict[str, float]:
    """Return the median seconds of an all-reduce between each pair of ranks, such as {"0-1": 0.003}.

    All ranks must call this function. While a pair is measured, the other ranks wait.

    Args:
        ranks: ranks of the launcher (`trainer.ranks.Ranks`).
        size: size of the tensor in bytes.

    Raises:
        RuntimeError: if a pair computes a wrong sum.
    """
    import paddle
    import paddle.distributed as dist

    pairs = list(combinations(range(ranks.count), 2))
    # Every rank must create all groups, in the same order.
    groups = [dist.new_group(list(pair)) for pair in pairs]
    seconds = np.zeros(len(pairs))
    for number, (pair, group) in enumerate(zip(pairs, groups, strict=True)):
        if ranks.rank in pair:
            times = []
            for _ in range(1 + _REPETITIONS):  # the first reduction connects the two ranks
                tensor = paddle.full([size // 4], float(ranks.rank + 1))
                float(tensor[0])  # waits for the device
                started = time.perf_counter()
                dist.all_reduce(tensor, group=group)
                low, high = float(tensor.min()), float(tensor.max())
                times.append(time.perf_counter() - started)
                if (low, high) != (sum(pair) + 2, sum(pair) + 2):
                    raise RuntimeError(
                        f"ranks {pair[0]} and {pair[1]}: the sum is {low} to {high}, not {sum(pair) + 2}"
                    )
            if ranks.rank == pair[0]:
                seconds[number] = statistics.median(times[1:])
        ranks.barrier()
    found = ranks.sum(list(seconds))
    return {f"{one}-{other}": round(float(time), 6) for (one, other), time in zip(pairs, found, strict=True)}


if __name__ == "__main__":
    sys.exit(main())
