"""Defines the paths in a training run's folder, through which Kedro's process and the ranks exchange files.

training/
  training_config.yaml   the PaddleClas YAML that was used
  images.npy             size and digest of each image in both lists
  source.txt             Git commit of the code, such as 4f0c… or 4f0c…-dirty
  events.jsonl           the run's events (events.py)
  heartbeat.<rank>       touched at each step
  checkpoints/epoch-0003/, epoch-0003-step-0000000150/
  best.json              {"checkpoint": "checkpoints/epoch-0003", "epoch": 3, "top1": 0.93}
  best.pdparams          the weights of that set, for PaddleClas
  margins.parquet        mean margin of each training image, with training.record_margins
  profile/               trace.json and operators.txt (training.profile_steps)
  log/                   workerlog.<rank> and launcher.log
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path

from resnet50_pipeline.events import Finished, last_event
from resnet50_pipeline.exceptions import CheckpointError
from resnet50_pipeline.processes.command_line import repeat_command

_SETS = "epoch-*"
# PaddleClas writes <stem>.pdparams, then <stem>.pdopt, and this file last.
UPSTREAM_STATES = ".pdstates"
# Folders that replace the workspace: one for the results of training and later stages, and one for the
# results of data_validation and data_preparation. These folders can be set only with `--params`.
# Position up to which the events have been uploaded to MLflow, and the session of the MLflow run.
CURSOR = ".mlflow_cursor.json"
RUN_DIR, DATA_DIR = "run_dir", "data_dir"


def events_path(training_dir: Path) -> Path:
    """Return the path of the event file."""
    return training_dir / "events.jsonl"


def heartbeat_path(training_dir: Path, rank: int) -> Path:
    """Return the path of a rank's heartbeat."""
    return training_dir / f"heartbeat.{rank}"


def heartbeat_paths(training_dir: Path) -> list[Path]:
    """Return the existing heartbeat files, sorted by rank."""
    return sorted(training_dir.glob("heartbeat.*"), key=lambda path: int(path.suffix[1:]))


def config_path(training_dir: Path) -> Path:
    """Return the path of the rendered configuration file."""
    return training_dir / "training_config.yaml"


def images_path(training_dir: Path) -> Path:
    """Return the path of the file with the images' sizes and digests."""
    return training_dir / "images.npy"


def source_path(training_dir: Path) -> Path:
    """Return the path of the file with the Git commit at the start of the run."""
    return training_dir / "source.txt"


def log_dir(training_dir: Path) -> Path:
    """Return the folder that contains the logs."""
    return training_dir / "log"


def profile_trace_path(training_dir: Path) -> Path:
    """Return the path of the profiler's trace."""
    return training_dir / "profile" / "trace.json"


def profile_table_path(training_dir: Path) -> Path:
    """Return the path of the profiler's table of operators."""
    return training_dir / "profile" / "operators.txt"


def checkpoints_dir(training_dir: Path) -> Path:
    """Return the folder that contains the checkpoint sets."""
    return training_dir / "checkpoints"


def checkpoint_path(training_dir: Path, epoch: int, step: int | None = None) -> Path:
    """Return the folder of the checkpoint set saved after `epoch`.

    With `step`, return the folder of the set saved within the next epoch, after this number of steps of the run.
    """
    name = f"epoch-{epoch:04d}" if step is None else f"epoch-{epoch:04d}-step-{step:010d}"
    return checkpoints_dir(training_dir) / name


def checkpoint_paths(training_dir: Path) -> list[Path]:
    """Return the folders of all checkpoint sets, from oldest to newest."""
    folder = checkpoints_dir(training_dir)
    names = (path.name for path in folder.glob(_SETS))
    return [folder / name for name in sort_sets(names, lambda name: (folder / name / "state.json").read_bytes())]


def sort_sets(names: Iterable[str], read_state: Callable[[str], bytes]) -> list[str]:
    """Return the names of checkpoint sets from oldest to newest.

    Names alone do not determine the order of sets within an epoch: if a run resumes with more images per step, its step
    numbers start lower than those of the earlier sets. These sets are therefore sorted by the fraction of the epoch in
    their states. If a state cannot be read, all sets are sorted by name.

    Args:
        names: names of the folders.
        read_state: returns the content of a set's `state.json`.
    """

    def position(name: str) -> tuple[str, float, str]:
        epoch, within, _ = name.partition("-step-")
        if not within:
            return epoch, 0.0, name
        state = json.loads(read_state(name))
        return epoch, state["step_in_epoch"] / state["steps_per_epoch"], name

    by_name = sorted(names)
    try:
        return sorted(by_name, key=position)
    except (OSError, ValueError, KeyError, TypeError):  # a damaged set, which is reported when it is used
        return by_name


def newest_checkpoint(training_dir: Path) -> Path:
    """Return the folder of the newest checkpoint set.

    Raises:
        CheckpointError: if there is no checkpoint set.
    """
    found = checkpoint_paths(training_dir)
    if not found:
        raise CheckpointError(
            f"{checkpoints_dir(training_dir)} contains no checkpoint set to resume from → start from scratch with "
            "training.resume=false"
        )
    return found[-1]


def upstream_stems(training_dir: Path) -> list[Path]:
    """Return the paths without suffixes of all checkpoints from PaddleClas' own engine, complete or not.

    PaddleClas 2.5 and earlier save to a subfolder named after the network.
    """
    files = [*training_dir.glob(f"*{UPSTREAM_STATES}"), *training_dir.glob(f"*/*{UPSTREAM_STATES}")]
    return sorted(path.with_suffix("") for path in files)


def best_path(training_dir: Path) -> Path:
    """Return the path of the file that identifies the best checkpoint set."""
    return training_dir / "best.json"


def best_weights_path(training_dir: Path) -> Path:
    """Return the path of the best set's weights in PaddleClas' format."""
    return training_dir / "best.pdparams"


def margins_path(training_dir: Path) -> Path:
    """Return the path of the table with the margins of the training images."""
    return training_dir / "margins.parquet"


def best_checkpoint(training_dir: Path, run_dir: str | None = None) -> Path:
    """Return the folder of the best checkpoint set of a finished training run.

    Args:
        training_dir: training folder.
        run_dir: this training run's `run_dir` parameter if the current command line does not contain it.

    Raises:
        CheckpointError: if training has not finished, or if the set is missing.
    """
    last = last_event(events_path(training_dir))
    if not isinstance(last, Finished):
        what = "stopped early" if last is not None else "never started"
        params = "training.resume=auto" if run_dir is None else f"{RUN_DIR}={run_dir},training.resume=auto"
        raise CheckpointError(
            f"the training run in {training_dir} {what} → first run\n"
            f"  {repeat_command('--pipelines', 'training', '--params', params)}"
        )
    best = json.loads(best_path(training_dir).read_text(encoding="utf-8"))
    checkpoint = training_dir / str(best["checkpoint"])
    if not checkpoint.is_dir():
        raise CheckpointError(f"{checkpoint} is missing, but {best_path(training_dir)} refers to it → train again")
    return checkpoint
