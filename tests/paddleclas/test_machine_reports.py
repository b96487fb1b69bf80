"""All machines of a run end with an exit code that says whether repeating the run may help."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from resnet50_pipeline.exceptions import (
    RETRY_EXIT_CODE,
    DatasetError,
    PipelineError,
    RankFailedError,
    RunInterruptedError,
)
from resnet50_pipeline.paddleclas.launch.machines import reporting_failures
from resnet50_pipeline.parameters import LaunchParameters

KILLED = RankFailedError("rank 1 ended with signal SIGKILL", is_transient=True)
LOST_PEER = RankFailedError("rank 0 ended with exit code 1")
ABORTED = RankFailedError("rank 0 ended with signal SIGABRT", is_transient=True)
WRONG = DatasetError("train_list.txt differs")


def end_both(folder: Path, errors: tuple[PipelineError, PipelineError]) -> list[int]:
    """Let both machines fail at the same time. Return their exit codes."""
    several = LaunchParameters(device="cpu", devices=(0,), nnodes=2, master="127.0.0.1:8765")
    both_run, codes = threading.Barrier(2), {}

    def run(rank: int) -> None:
        launch = several.model_copy(update={"rank": rank})
        try:
            with reporting_failures(launch, folder / "training", f"machine-{rank}"):
                both_run.wait()
                raise errors[rank]
        except PipelineError as error:
            codes[rank] = error.exit_code

    threads = [threading.Thread(target=run, args=(rank,)) for rank in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return [codes[0], codes[1]]


@pytest.mark.parametrize(
    ("errors", "codes"),
    [
        ((LOST_PEER, KILLED), [RETRY_EXIT_CODE, RETRY_EXIT_CODE]),
        ((ABORTED, WRONG), [1, 1]),
        ((LOST_PEER, LOST_PEER), [1, 1]),
        ((LOST_PEER, RunInterruptedError(15)), [RETRY_EXIT_CODE, 143]),
    ],
    ids=["killed", "different-data", "bug", "stopped"],
)
def test_exit_codes_of_two_machines(tmp_path: Path, errors: tuple, codes: list[int]):
    """A machine that lost its peer exits with the code for a repeat only if the peer was killed or stopped."""
    assert end_both(tmp_path, errors) == codes
