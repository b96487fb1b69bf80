"""Estimates the time per epoch from a few training steps that trainer/probes/step_time.py times."""

from __future__ import annotations

import json
import signal
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from resnet50_pipeline.paddleclas.config import TrainingPaths, render_training_config
from resnet50_pipeline.paddleclas.launch.command import TRAINER_PROGRAM, build_launch_command
from resnet50_pipeline.parameters import TrainingParameters

_PROGRAM = TRAINER_PROGRAM.with_name("probes") / "step_time.py"
# Importing Paddle takes a few seconds, or more on a busy machine.
_TIMEOUT_SECONDS = 60.0
_MOST_PATHS = 64


@dataclass(frozen=True)
class MeasuredSteps:
    """Times measured by the probe.

    Attributes:
        batch_seconds: time to process a batch on the device, excluding the time to read it.
        image_seconds: time to read and transform an image in one process.
        batches: number of timed batches.
        batch_size: number of images per timed batch. If it is smaller than the run's batch size, `batch_seconds` is
            extrapolated.
    """

    batch_seconds: float
    image_seconds: float
    batches: int
    batch_size: int


def measure_steps(
    training: TrainingParameters, class_num: int, root: Path, paths: Sequence[str]
) -> MeasuredSteps | str:
    """Train for about five seconds in a separate process, as a single rank, without writing any files.

    Args:
        training: the recipe, including the device and the batch size.
        class_num: number of classes.
        root: dataset folder.
        paths: some of the training images, relative to `root`.

    Returns:
        The measured times, or the reason why nothing could be measured, such as a missing device.
    """
    config = render_training_config(training, class_num, TrainingPaths(root.absolute(), root, root, root))
    step = max(1, len(paths) // _MOST_PATHS)
    request = {"config": config.model_dump(mode="json"), "paths": list(paths[::step][:_MOST_PATHS])}
    # Importing paddle creates ~/.cache/paddle.
    with tempfile.TemporaryDirectory(prefix="probe-") as home:
        command = build_launch_command(training.launch, Path(home), ())
        try:
            done = subprocess.run(
                [command.arguments[0], "-W", "ignore", str(_PROGRAM)],
                input=json.dumps(request),
                env={**command.environment, "HOME": home},
                cwd=home,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=_TIMEOUT_SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return f"the probe did not finish within {_TIMEOUT_SECONDS:.0f} s"
    if done.returncode or not done.stdout.strip():
        how = signal.Signals(-done.returncode).name if done.returncode < 0 else f"exit code {done.returncode}"
        messages = [line for line in done.stderr.splitlines() if line.strip()]
        return f"the probe ended with {how}: {messages[-1] if messages else 'no error message'}"[:300]
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return str(found["problem"]) if "problem" in found else MeasuredSteps(**found)


def estimate_epoch_seconds(training: TrainingParameters, measured: MeasuredSteps, images: int, class_num: int) -> float:
    """Return the estimated training time per epoch in seconds, excluding evaluation.

    Worker processes read images while the device computes. Without worker processes, a rank alternates between reading
    and computing.

    Args:
        training: the recipe, including the number of ranks and worker processes.
        measured: times measured for one rank.
        images: number of training images.
        class_num: number of classes.
    """
    loader = training.loader
    epoch_images = images if loader.images_per_class is None else loader.images_per_class * class_num
    reading = measured.image_seconds * training.batch_size_per_rank
    workers = loader.num_workers
    seconds = max(measured.batch_seconds, reading / workers) if workers else measured.batch_seconds + reading
    return seconds * epoch_images / (training.batch_size_per_rank * training.launch.ranks)
