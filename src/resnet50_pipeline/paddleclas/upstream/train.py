"""Trains with PaddleClas' own engine: launches `tools/train.py` and records events from the log."""

from __future__ import annotations

import contextlib
import logging
from pathlib import Path

from resnet50_pipeline.exceptions import ParameterError, RankFailedError
from resnet50_pipeline.files import digest_file, write_text
from resnet50_pipeline.imagenet.lists.files import read_list_file
from resnet50_pipeline.paddleclas.launch.command import LaunchCommand
from resnet50_pipeline.paddleclas.launch.supervise import run_ranks
from resnet50_pipeline.paddleclas.progress import TrainingProgress
from resnet50_pipeline.paddleclas.upstream.checkout import PaddleClasCheckout
from resnet50_pipeline.paddleclas.upstream.checkpoints import (
    BestWeights,
    SavedEpoch,
    best_so_far,
    newest_saved_epoch,
)
from resnet50_pipeline.paddleclas.upstream.config import to_upstream_config
from resnet50_pipeline.paddleclas.upstream.events import EventBuilder, RunFacts
from resnet50_pipeline.paddleclas.upstream.recorder import EventRecorder, LogTail
from resnet50_pipeline.parameters import LaunchParameters, TrainingParameters
from resnet50_pipeline.pdparams.files import require_plain_data
from resnet50_pipeline.processes.command_line import resume_command
from resnet50_pipeline.progress import DRAWN
from resnet50_pipeline.recipe.document import TrainingConfig
from resnet50_pipeline.training_dir import config_path, log_dir, upstream_stems

logger = logging.getLogger(__name__)

_RANK_0_LOG = "workerlog.0"


def upstream_config_path(training_dir: Path) -> Path:
    """Return the path of the YAML file for PaddleClas, in the same folder as `training_config.yaml`."""
    return training_dir / "paddleclas_config.yaml"


def check_engine(config: TrainingConfig, training: TrainingParameters) -> PaddleClasCheckout:
    """Check the settings for `training.engine: paddleclas` without starting ranks, and return the checkout.

    Raises:
        ParameterError: if there is no checkout, or if the settings specify more than one machine.
        TrainingConfigError: if upstream does not support the recipe.
    """
    if not training.launch.is_one_machine:
        raise ParameterError(
            f"training.engine: paddleclas supports only one machine, but training.launch.nnodes is "
            f"{training.launch.nnodes}; set training.engine: native"
        )
    checkout = PaddleClasCheckout.find(training.paddleclas_home)
    to_upstream_config(config, ranks=len(training.launch.devices))
    return checkout


def run_upstream_training(config: TrainingConfig, training: TrainingParameters, *, resume: bool) -> None:
    """Run PaddleClas until the last epoch. The caller must hold the lock on `Global.output_dir`.

    Raises:
        CheckpointError: if there is no complete checkpoint to resume from, or `Global.pretrained_model` contains
            objects other than arrays.
        NonFiniteLossError: if the loss becomes NaN or infinite.
        ParameterError, TrainingConfigError: as in `check_engine`.
        RankFailedError: if a rank failed or hung, or upstream ended before the last epoch.
    """
    checkout = check_engine(config, training)
    output_dir, launch = Path(config.Global.output_dir), training.launch
    ranks = len(launch.devices)
    saved = _saved_epoch(output_dir) if resume else None
    if config.Global.pretrained_model is not None:
        require_plain_data(Path(config.Global.pretrained_model))
    write_text(config_path(output_dir), config.to_yaml())
    stem = None if saved is None else str(saved.stem.absolute())
    resumed = config.model_copy(update={"Global": config.Global.model_copy(update={"checkpoints": stem})})
    upstream = to_upstream_config(resumed, ranks=ranks)
    for setting in upstream.ignored_settings:
        logger.warning("PaddleClas ignores %s; it saves every save_interval epochs and keeps all checkpoints", setting)
    write_text(upstream_config_path(output_dir), upstream.text)
    logs = log_dir(output_dir)
    command = checkout.train_command(upstream_config_path(output_dir), launch, logs)
    # The log of an earlier run must not produce events for this run.
    (logs / _RANK_0_LOG).unlink(missing_ok=True)
    recorder = _recorder(config, ranks, finished_epochs=0 if saved is None else saved.epoch)
    logger.info("starting %s in %s", " ".join(command.arguments), command.working_dir, extra=DRAWN)
    try:
        with contextlib.closing(recorder), TrainingProgress() as show:
            _run_and_record(command, output_dir, launch, recorder, show)
    except BaseException:
        if upstream_stems(output_dir):
            logger.error(  # noqa: TRY400 - the caller prints the traceback, if any
                "training stopped early; PaddleClas' checkpoints are kept. Resume after the newest complete epoch "
                "with\n  %s",
                resume_command(),
            )
        raise


def _run_and_record(
    command: LaunchCommand, output_dir: Path, launch: LaunchParameters, recorder: EventRecorder, show: TrainingProgress
) -> None:
    def record() -> None:
        recorder.record()

    try:
        run_ranks(
            command,
            output_dir,
            log_dir(output_dir),
            launch.hang_timeout_seconds,
            ranks=len(launch.devices),
            on_event=show,
            check=record,
        )
    except RankFailedError:
        # The last lines may contain the cause, such as a NaN loss.
        for event in recorder.record():
            show(event)
        raise
    for event in recorder.finish():
        show(event)


def _saved_epoch(output_dir: Path) -> SavedEpoch:
    saved, problems = newest_saved_epoch(output_dir)
    for problem in problems:
        logger.warning("cannot resume from an incomplete checkpoint: %s", problem)
    logger.info("resuming after epoch %d from %s", saved.epoch, saved.stem)
    return saved


def _recorder(config: TrainingConfig, ranks: int, finished_epochs: int) -> EventRecorder:
    output_dir = Path(config.Global.output_dir)
    splits, class_num = config.DataLoader, config.Arch.class_num
    train, val = (
        len(read_list_file(Path(split.dataset.cls_label_path), class_num=class_num))
        for split in (splits.Train, splits.Eval)
    )
    facts = RunFacts.of(config, ranks=ranks, images=(train, val), finished_epochs=finished_epochs)
    best_epoch, best_top1 = best_so_far(output_dir)
    return EventRecorder(
        LogTail(log_dir(output_dir) / _RANK_0_LOG, output_dir, ranks),
        output_dir,
        EventBuilder(facts, best_epoch, best_top1, uses_dali=config.Global.use_dali),
        BestWeights(
            output_dir,
            ranks,
            facts.steps_after(1, facts.iterations),
            digest_file(Path(splits.Train.dataset.cls_label_path)),
        ),
    )
