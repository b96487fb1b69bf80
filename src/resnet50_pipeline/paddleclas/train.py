"""Trains: claims the output folder, runs the ranks, shows progress."""

from __future__ import annotations

import logging
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from resnet50_pipeline.exceptions import CheckpointError
from resnet50_pipeline.files import unshare_files, write_text
from resnet50_pipeline.paddleclas.launch import build_launch_command
from resnet50_pipeline.paddleclas.machines import meeting_place, sharing_news, train_arguments
from resnet50_pipeline.paddleclas.output_dir import claim_output_dir, forget_replaced_run, goes_on, starting_anew
from resnet50_pipeline.paddleclas.progress import TrainingProgress
from resnet50_pipeline.paddleclas.supervise import run_ranks
from resnet50_pipeline.paddleclas.upstream_train import check_engine, run_upstream_training
from resnet50_pipeline.parameters import TrainingParameters
from resnet50_pipeline.progress import DRAWN
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
            unshare_files(output_dir)
            run(config, training, resume=True)
            forget_replaced_run(output_dir)
        else:
            with starting_anew(output_dir):
                run(config, training, resume=False)
    return output_dir


def _run(config: TrainingConfig, training: TrainingParameters, *, resume: bool) -> None:
    output_dir, launch = training.output_dir, meeting_place(training.launch)
    if resume:
        going_on = config.Global.model_copy(update={"checkpoints": str(newest_checkpoint(output_dir))})
        config = config.model_copy(update={"Global": going_on})
    logs, used = log_dir(output_dir), config_path(output_dir)
    before = used.read_text(encoding="utf-8") if resume and used.exists() else None
    write_text(used, config.to_yaml())
    command = build_launch_command(launch, logs, train_arguments(training))
    logger.info("starting %s", " ".join(command.arguments), extra=DRAWN)
    if launch.ranks > len(launch.devices):
        logger.info("waiting for the other machines at %s: run `kedro join` there", launch.master)
    try:
        with TrainingProgress() as show, sharing_news(training) as check:
            run_ranks(
                command,
                output_dir,
                logs,
                launch.hang_timeout_seconds,
                ranks=launch.ranks,
                own_ranks=launch.own_ranks,
                stop_grace_seconds=launch.stop_grace_seconds,
                on_event=show,
                check=check,
            )
    except CheckpointError:
        if before is not None:
            # Refused before its first step: what lies there was made with the configuration that stood there.
            write_text(used, before)
        raise
    except BaseException:
        if checkpoint_paths(output_dir):
            logger.error(  # noqa: TRY400 - the traceback, if any, is printed by whoever catches it
                "training stopped early; its last checkpoint set stays: go on from there with\n  %s",
                resume_command(sys.argv),
            )
        raise


def resume_command(arguments: Sequence[str]) -> str:
    """Return the command line that goes on with the training that `arguments` (sys.argv) started.

    `kedro run --params a.b=1` becomes `kedro run --params a.b=1,training.resume=true`.
    """
    program, *rest = arguments
    words = [Path(program).name if Path(program).name == "kedro" else program]
    given = False
    for word in rest:
        previous = words[-1]
        if previous == "--params" or word.startswith("--params="):
            option, _, value = word.rpartition("--params=")
            kept = [one for one in value.split(",") if not one.startswith("training.resume=")]
            words.append(f"{'--params=' if word != value else option}{','.join([*kept, 'training.resume=true'])}")
            given = True
        else:
            words.append(word)
    return shlex.join(words if given else [*words, "--params", "training.resume=true"])
