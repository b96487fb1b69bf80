"""Trains in a separate process, like `kedro run --pipelines training`, but without Kedro's startup time.

    python training_driver.py train|join <parameters.json> <dataset root>

`train` renders the configuration and trains; `join` runs the ranks of another machine. The exit codes are the same as
for the command line: 0, 1 for an error that a user can fix, or 128 plus the signal number.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from placed import PlacedDataset, PlacedTraining, render_training_config
from resnet50_pipeline.exceptions import PipelineError
from resnet50_pipeline.imagenet.identities import IDENTITY_DTYPE, ImageIdentities, digest_prefix
from resnet50_pipeline.imagenet.lists.files import read_list_file
from resnet50_pipeline.paddleclas.launch.machines import join_training
from resnet50_pipeline.paddleclas.train import train_network
from resnet50_pipeline.processes.interruption import received_interruption, signals_interrupt
from resnet50_pipeline.recipe.document import TrainingConfig


def start_training(
    training: PlacedTraining,
    dataset_root: Path,
    what: str = "train",
    before: tuple[str, ...] = (),
    parameters_in: Path | None = None,
) -> subprocess.Popen[str]:
    """Start this program with piped output; `before` is a command prefix such as `ip netns exec a`."""
    name = f"{training.output_dir.name}.{what}-{training.launch.rank}-{time.monotonic_ns()}.json"
    parameters = (parameters_in or training.output_dir.parent) / name
    parameters.parent.mkdir(parents=True, exist_ok=True)
    parameters.write_text(training.model_dump_json())
    return subprocess.Popen(
        [*before, sys.executable, __file__, what, str(parameters), str(dataset_root)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=parameters.parent,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )


def run_training(training: PlacedTraining, dataset_root: Path) -> None:
    """Train to the end, or fail with the output of the process."""
    process = start_training(training, dataset_root)
    _, stderr = process.communicate(timeout=300)
    assert process.returncode == 0, stderr


def identify_images(config: TrainingConfig) -> ImageIdentities:
    """Return the identities of the images in both lists, as data_validation would find them on this machine."""
    paths, values = [], []
    for section in (config.DataLoader.Train.dataset, config.DataLoader.Eval.dataset):
        for path in read_list_file(Path(section.cls_label_path), class_num=None).paths:
            data = (Path(section.image_root) / path).read_bytes()
            paths.append(path)
            values.append((len(data), digest_prefix(hashlib.sha256(data).hexdigest())))
    return ImageIdentities(paths, np.array(values, IDENTITY_DTYPE))


def main(what: str, parameters: Path, dataset_root: Path) -> int:
    """Run the program and return the exit code."""
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s")
    training = PlacedTraining.model_validate(json.loads(parameters.read_text()))
    parameters.unlink()
    try:
        with signals_interrupt():
            if what == "join":
                join_training(training.launch, training.output_dir)
            else:
                dataset = PlacedDataset(root=dataset_root, class_num=3)
                config = render_training_config(training, dataset)
                train_network(config, training, None if training.launch.is_one_machine else identify_images(config))
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    except PipelineError as error:
        expected = received_interruption() or error
        print(f"error: {expected}", file=sys.stderr)
        return expected.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])))
