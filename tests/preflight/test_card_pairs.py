"""The connection between each pair of devices is measured with an all-reduce."""

from __future__ import annotations

import pytest

from resnet50_pipeline.exceptions import RankFailedError
from resnet50_pipeline.parameters import LaunchParameters
from resnet50_pipeline.preflight.pairs import check_pairs, measure_pairs

FOUR = LaunchParameters(device="gpu", devices=(0, 2, 4, 6))
SECONDS = {"0-1": 0.003, "0-2": 0.004, "0-3": 0.0101, "1-2": 0.003, "1-3": 0.003, "2-3": 0.0029}


@pytest.mark.slow
@pytest.mark.parametrize("ranks", [2, pytest.param(3, marks=pytest.mark.exhaustive)])
def test_pairs_of_cpu_ranks_are_measured(ranks: int):
    """On a CPU, real ranks add a tensor between every pair, and report positive times."""
    launch = LaunchParameters(device="cpu", devices=tuple(range(ranks)))
    found = measure_pairs(launch, size=1 << 20)
    assert found["bytes"] == 1 << 20
    assert list(found["seconds"]) == {2: ["0-1"], 3: ["0-1", "0-2", "1-2"]}[ranks]
    assert all(seconds > 0 for seconds in found["seconds"].values())


def test_slow_pair_is_named():
    """A pair that takes more than three times as long as the fastest is a warning with its card numbers."""
    finding = check_pairs(FOUR, lambda _: {"bytes": 64 << 20, "seconds": SECONDS})
    assert finding.status == "warning"
    assert finding.found.startswith("64 MiB: 0-6 10.1 ms, 0-4 4 ms, ")
    assert "connection of 0-6" in finding.remedy


def test_equal_pairs_are_fine_and_long_lists_are_shortened():
    """With eight cards, the six slowest of 28 pairs are shown."""
    launch = LaunchParameters(device="gpu", devices=tuple(range(8)))
    seconds = {str(number): 0.003 for number in range(28)}
    finding = check_pairs(launch, lambda _: {"bytes": 64 << 20, "seconds": seconds})
    assert finding.status == "ok"
    assert finding.found.count(" ms") == 6
    assert finding.found.endswith(", 22 faster pairs")


def test_failed_reduction_blocks():
    """If the ranks fail, for example with an error of NCCL, the run is blocked with that error."""

    def fail(_: LaunchParameters) -> dict:
        raise RankFailedError("rank 1 ended with exit code 1: NCCL error(2), unhandled system error")

    finding = check_pairs(FOUR, fail)
    assert finding.status == "blocking"
    assert finding.found.endswith("NCCL error(2), unhandled system error")
