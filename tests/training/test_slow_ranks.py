"""A warning names a rank that is slower than the others, and the reason."""

from __future__ import annotations

import os
import signal
import statistics
import threading
import time
from pathlib import Path

import psutil
import pytest

from resnet50_pipeline.events import TrainStep, WarningRaised, read_events
from resnet50_pipeline.training_dir import events_path
from short_training import run_disturbed, train

pytestmark = pytest.mark.slow

# An epoch has 3 steps of 6 images per rank.
RECIPE = {"ranks": 2, "epochs": 8, "eval_interval": 8, "save_interval": 8, "print_batch_step": 3}


def test_rank_with_slow_images_is_named(training_parameters, dataset_parameters):
    """If each image takes a rank 0.75 s, it is reported as slow because of its images, and the other rank waits for it.

    The delay is large, because steps vary by several tenths of a second on a busy machine. The epoch has 9 steps.
    """
    recipe = {"ranks": 2, "epochs": 1, "batch_size_per_rank": 2, "print_batch_step": 1}
    training = training_parameters(**recipe)
    run_disturbed(training, dataset_parameters, SLOW_IMAGES="1:0.75")
    events = read_events(events_path(training.output_dir))
    (warning,) = [event.message for event in events if isinstance(event, WarningRaised)]
    assert warning.startswith("rank 1 is slow")
    assert "per step for its images" in warning
    steps = [event for event in events if isinstance(event, TrainStep)][1:]
    assert statistics.median(event.rank_seconds["wait"][0] for event in steps) > 0.75
    for event in steps:
        load, compute, wait = (event.rank_seconds[name] for name in ("load", "compute", "wait"))
        assert load[1] >= 2 * 0.75 > load[0]
        for rank in range(2):
            assert load[rank] + compute[rank] + wait[rank] == pytest.approx(event.batch_seconds, rel=0.2)


@pytest.mark.exhaustive
def test_rank_with_a_slow_device_is_named(training_parameters, dataset_parameters, tmp_path: Path):
    """A rank that is stopped for two thirds of the time is reported as slow because of its device."""
    training = training_parameters(**{**RECIPE, "epochs": 40, "eval_interval": 40, "save_interval": 40})
    is_over = threading.Event()

    def throttle() -> None:
        while not is_over.is_set():
            for process in psutil.process_iter():
                try:
                    is_rank = any(argument.startswith(str(tmp_path)) for argument in process.cmdline())
                    if is_rank and process.environ().get("PADDLE_TRAINER_ID") == "0" and has_started():
                        _stop_and_go(process.pid, is_over)
                except (psutil.Error, ProcessLookupError):
                    continue
            time.sleep(0.1)

    def has_started() -> bool:
        return any(isinstance(event, TrainStep) for event in read_events(events_path(training.output_dir)))

    thread = threading.Thread(target=throttle, daemon=True)
    thread.start()
    train(training, dataset_parameters)
    is_over.set()
    thread.join()
    warnings = [e.message for e in read_events(events_path(training.output_dir)) if isinstance(e, WarningRaised)]
    assert warnings
    assert warnings[0].startswith("rank 0 is slow")
    assert "its device is slow" in warnings[0]


def _stop_and_go(pid: int, is_over: threading.Event) -> None:
    while not is_over.is_set():
        os.kill(pid, signal.SIGSTOP)
        time.sleep(0.02)
        os.kill(pid, signal.SIGCONT)
        time.sleep(0.01)
