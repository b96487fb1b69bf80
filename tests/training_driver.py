"""Training as a process of its own, as `kedro run --pipelines training` has it, without Kedro's seconds to start.

    python training_driver.py train|join <parameters.json> <dataset root>

`train` renders the configuration and trains; `join` runs the ranks of a further machine. The exit code is that of the
command line: 0, 1 for an error that a user can mend, 128 + the signal's number.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from resnet50_pipeline.exceptions import PipelineError
from resnet50_pipeline.interruption import received_interruption, signals_interrupt
from resnet50_pipeline.paddleclas.config import render_training_config
from resnet50_pipeline.paddleclas.machines import join_training
from resnet50_pipeline.paddleclas.train import train_network
from resnet50_pipeline.parameters import DatasetParameters, TrainingParameters


def start_training(
    training: TrainingParameters,
    dataset_root: Path,
    what: str = "train",
    before: tuple[str, ...] = (),
    parameters_in: Path | None = None,
) -> subprocess.Popen[str]:
    """Start this program with its words on pipes; `before` are words that run it elsewhere, as `ip netns exec a`."""
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


def run_training(training: TrainingParameters, dataset_root: Path) -> None:
    """Train to the end, or fail with what the process said."""
    process = start_training(training, dataset_root)
    _, words = process.communicate(timeout=300)
    assert process.returncode == 0, words


def main(what: str, parameters: Path, dataset_root: Path) -> int:
    """Run; return the exit code."""
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s")
    training = TrainingParameters.model_validate(json.loads(parameters.read_text()))
    parameters.unlink()
    try:
        with signals_interrupt():
            if what == "join":
                join_training(training)
            else:
                lists = [dataset_root / f"{split}_list.txt" for split in ("train", "val")]
                dataset = DatasetParameters(root=dataset_root, class_num=3)
                config = training.output_dir.with_suffix(".yaml")
                config.write_text(render_training_config(training, dataset, *lists).to_yaml())
                train_network(config, training)
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    except PipelineError as error:
        expected = received_interruption() or error
        print(f"error: {expected}", file=sys.stderr)
        return expected.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])))
