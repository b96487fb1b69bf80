"""Trains: claims the output folder, runs the ranks, shows progress."""

from __future__ import annotations

import logging
from pathlib import Path

from resnet50_pipeline.files import write_text
from resnet50_pipeline.paddleclas.launch import build_launch_command
from resnet50_pipeline.paddleclas.output_dir import claim_output_dir, forget_replaced_run, goes_on, starting_anew
from resnet50_pipeline.paddleclas.progress import TrainingProgress
from resnet50_pipeline.paddleclas.supervise import run_ranks
from resnet50_pipeline.paddleclas.upstream_train import check_engine, run_upstream_training
from resnet50_pipeline.parameters import TrainingParameters
from resnet50_pipeline.training_config import TrainingConfig, read_training_config
from resnet50_pipeline.training_dir import checkpoint_paths, config_path, log_dir, newest_checkpoint

logger = logging.getLogger(__name__)


def train_network(training_config: Path, training: TrainingParameters) -> Path:
    """Run the ranks to the last epoch and return `training.output_dir`.

    The folder then holds `events.jsonl`, `checkpoints/`, `best.json`, `log/` and the configuration that was used, which
    names the newest checkpoint set where the training goes on (`training.resume`). With `training.engine: paddleclas`
    upstream's own loop runs, and the folder holds what it saves too (`upstream_train.py`).

    Raises:
        CheckpointError: there is no set to resume from, or it is damaged, or of another recipe or data.
        OutputDirectoryInUseError: another run trains there.
        RankFailedError: a rank failed or hung.
        NonFiniteLossError: the loss became NaN or infinite.
        ParameterError, TrainingConfigError: the recipe is not one for `training.engine`, or its checkout is missing.
    """
    output_dir = training.output_dir
    config = read_training_config(training_config)
    run = _run
    if training.engine == "paddleclas":
        check_engine(config, training)
        run = run_upstream_training
    with claim_output_dir(output_dir):
        if goes_on(training):
            run(config, training, resume=True)
            forget_replaced_run(output_dir)
        else:
            with starting_anew(output_dir):
                run(config, training, resume=False)
    return output_dir


def _run(config: TrainingConfig, training: TrainingParameters, *, resume: bool) -> None:
    output_dir, launch = training.output_dir, training.launch
    if resume:
        going_on = config.Global.model_copy(update={"checkpoints": str(newest_checkpoint(output_dir))})
        config = config.model_copy(update={"Global": going_on})
    logs = log_dir(output_dir)
    used = config_path(output_dir)
    write_text(used, config.to_yaml())
    command = build_launch_command(launch, logs, ["train", "--config", str(used)])
    logger.info("starting %s", " ".join(command.arguments))
    try:
        with TrainingProgress() as show:
            run_ranks(command, output_dir, logs, launch.hang_timeout_seconds, ranks=len(launch.devices), on_event=show)
    except BaseException:
        if checkpoint_paths(output_dir):
            logger.error(  # noqa: TRY400 - the traceback, if any, is printed by whoever catches it
                "training stopped early; its last checkpoint set stays: start the same command again with "
                "--params training.resume=true to go on from there"
            )
        raise
