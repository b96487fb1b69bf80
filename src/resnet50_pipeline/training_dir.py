"""The folder of a training run, where the two planes meet: what lies in it, and where.

training/
  training_config.yaml   the PaddleClas YAML that was used
  events.jsonl           what happened (events.py)
  heartbeat.<rank>       touched at each step
  checkpoints/epoch-0003/, epoch-0003-step-0000000150/
  best.json              {"checkpoint": "checkpoints/epoch-0003", "epoch": 3, "top1": 0.93}
  best.pdparams          the weights of that set, for PaddleClas
  log/                   workerlog.<rank> and launcher.log
"""

from __future__ import annotations

import json
from pathlib import Path

from resnet50_pipeline.events import Finished, last_event
from resnet50_pipeline.exceptions import CheckpointError

_SETS = "epoch-*"
# Of `--params` alone: the folder that the results go to, from the training on, in place of the workspace.
RUN_DIR = "run_dir"


def events_path(training_dir: Path) -> Path:
    """Return the path of the event file."""
    return training_dir / "events.jsonl"


def heartbeat_path(training_dir: Path, rank: int) -> Path:
    """Return the path of a rank's heartbeat."""
    return training_dir / f"heartbeat.{rank}"


def heartbeat_paths(training_dir: Path) -> list[Path]:
    """Return the heartbeats that are there, by rank."""
    return sorted(training_dir.glob("heartbeat.*"), key=lambda path: int(path.suffix[1:]))


def config_path(training_dir: Path) -> Path:
    """Return the path of the configuration that was used."""
    return training_dir / "training_config.yaml"


def log_dir(training_dir: Path) -> Path:
    """Return the folder of the logs."""
    return training_dir / "log"


def checkpoints_dir(training_dir: Path) -> Path:
    """Return the folder of the checkpoint sets."""
    return training_dir / "checkpoints"


def checkpoint_path(training_dir: Path, epoch: int, step: int | None = None) -> Path:
    """Return the folder of the checkpoint set after an epoch, or at a step (since the very beginning) of the next."""
    name = f"epoch-{epoch:04d}" if step is None else f"epoch-{epoch:04d}-step-{step:010d}"
    return checkpoints_dir(training_dir) / name


def checkpoint_paths(training_dir: Path) -> list[Path]:
    """Return the folders of all checkpoint sets, oldest first (their names sort so)."""
    return sorted(checkpoints_dir(training_dir).glob(_SETS))


def newest_checkpoint(training_dir: Path) -> Path:
    """Return the folder of the newest checkpoint set.

    Raises:
        CheckpointError: there is none.
    """
    found = checkpoint_paths(training_dir)
    if not found:
        raise CheckpointError(
            f"{checkpoints_dir(training_dir)}: no checkpoint set to resume from; start anew with training.resume=false"
        )
    return found[-1]


def best_path(training_dir: Path) -> Path:
    """Return the path of the file that names the best checkpoint set."""
    return training_dir / "best.json"


def best_weights_path(training_dir: Path) -> Path:
    """Return the path of the best set's weights as PaddleClas reads them."""
    return training_dir / "best.pdparams"


def best_checkpoint(training_dir: Path) -> Path:
    """Return the folder of the best checkpoint set of a finished training.

    Raises:
        CheckpointError: the training did not finish, so there is no best one yet; or the set is gone.
    """
    last = last_event(events_path(training_dir))
    if not isinstance(last, Finished):
        what = "stopped early" if last is not None else "never started"
        raise CheckpointError(
            f"{training_dir}: the training there {what}; run `kedro run --pipelines training` first, with "
            f"`--params training.resume=true` to go on from its last checkpoint set"
        )
    best = json.loads(best_path(training_dir).read_text(encoding="utf-8"))
    checkpoint = training_dir / str(best["checkpoint"])
    if not checkpoint.is_dir():
        raise CheckpointError(f"{checkpoint}: missing, though {best_path(training_dir)} names it; train anew")
    return checkpoint
