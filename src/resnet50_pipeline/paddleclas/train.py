"""Trains: claims the output folder, renders the configuration, runs the ranks, shows progress."""

from __future__ import annotations

import logging
from pathlib import Path

from resnet50_pipeline.files import write_bytes
from resnet50_pipeline.paddleclas.config import render_training_config
from resnet50_pipeline.paddleclas.launch import build_launch_command
from resnet50_pipeline.paddleclas.output_dir import claim_output_dir, start_output_dir_anew
from resnet50_pipeline.paddleclas.progress import TrainingProgress
from resnet50_pipeline.paddleclas.supervise import run_ranks
from resnet50_pipeline.parameters import DatasetParameters, TrainingParameters
from resnet50_pipeline.training_dir import checkpoint_paths, config_path, log_dir, newest_checkpoint

logger = logging.getLogger(__name__)


def render_config_text(
    training: TrainingParameters, dataset: DatasetParameters, train_list: Path, val_list: Path
) -> str:
    """Return the YAML of this run; where `training.resume` is set, it names the newest checkpoint set.

    Raises:
        CheckpointError: there is no set to resume from.
    """
    config = render_training_config(training, dataset, train_list, val_list)
    if training.resume:
        checkpoint = newest_checkpoint(training.output_dir)
        config = config.model_copy(update={"Global": config.Global.model_copy(update={"checkpoints": str(checkpoint)})})
    return config.to_yaml()


def train_network(training_config: Path, training: TrainingParameters) -> Path:
    """Run the ranks to the last epoch and return `training.output_dir`.

    The folder then holds `events.jsonl`, `checkpoints/`, `best.json`, `log/` and the configuration that was used.

    Raises:
        OutputDirectoryInUseError: another run trains there.
        RankFailedError: a rank failed or hung.
        NonFiniteLossError: the loss became NaN or infinite.
    """
    output_dir, launch = training.output_dir, training.launch
    logs = log_dir(output_dir)
    with claim_output_dir(output_dir):
        if not training.resume:
            start_output_dir_anew(output_dir)
        used = config_path(output_dir)
        write_bytes(used, training_config.read_bytes())
        command = build_launch_command(launch, logs, ["train", "--config", str(used)])
        logger.info("starting %s", " ".join(command.arguments))
        try:
            with TrainingProgress() as show:
                run_ranks(command, output_dir, logs, launch.hang_timeout_seconds, on_event=show)
        except BaseException:
            if checkpoint_paths(output_dir):
                logger.error(  # noqa: TRY400 - the traceback, if any, is printed by whoever catches it
                    "training stopped early; its last checkpoint set stays: start the same command again with "
                    "--params training.resume=true to go on from there"
                )
            raise
    return output_dir
