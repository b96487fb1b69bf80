"""Trains with the engine of PaddleClas itself: launches its `tools/train.py` and tells what its log says."""

from __future__ import annotations

import contextlib
import logging
from pathlib import Path

from resnet50_pipeline.exceptions import ParameterError, RankFailedError
from resnet50_pipeline.files import write_text
from resnet50_pipeline.imagenet.list_files import read_list_file
from resnet50_pipeline.paddleclas.launch import LaunchCommand
from resnet50_pipeline.paddleclas.progress import TrainingProgress
from resnet50_pipeline.paddleclas.supervise import run_ranks
from resnet50_pipeline.paddleclas.upstream import PaddleClasCheckout
from resnet50_pipeline.paddleclas.upstream_checkpoints import (
    BestWeights,
    SavedEpoch,
    best_so_far,
    newest_saved_epoch,
    saved_stems,
)
from resnet50_pipeline.paddleclas.upstream_config import to_upstream_config
from resnet50_pipeline.paddleclas.upstream_events import EventBuilder, RunFacts
from resnet50_pipeline.paddleclas.upstream_scribe import LogScribe, LogTail
from resnet50_pipeline.parameters import TrainingParameters
from resnet50_pipeline.pdparams import require_plain_data
from resnet50_pipeline.progress import DRAWN
from resnet50_pipeline.training_config import TrainingConfig
from resnet50_pipeline.training_dir import config_path, log_dir

logger = logging.getLogger(__name__)

_RANK_0_LOG = "workerlog.0"


def upstream_config_path(training_dir: Path) -> Path:
    """Return the path of the YAML that PaddleClas was given; `training_config.yaml` stands beside it as always."""
    return training_dir / "paddleclas_config.yaml"


def check_engine(config: TrainingConfig, training: TrainingParameters) -> PaddleClasCheckout:
    """Return the checkout, after everything has been checked that does not need the ranks.

    Raises:
        ParameterError: there is no checkout, or more than one machine.
        TrainingConfigError: the recipe asks for what upstream cannot.
    """
    if training.launch.ranks > len(training.launch.devices):
        raise ParameterError(
            f"training.engine: paddleclas runs on one machine here, and training.launch.nnodes is "
            f"{training.launch.nnodes}; use engine: native"
        )
    checkout = PaddleClasCheckout.find(training.paddleclas_home)
    if training.launch.machines > 1:
        raise ParameterError(
            f"training.launch.nnodes is {training.launch.nnodes}: on more than one machine train with "
            f"training.engine: native; PaddleClas' engine is watched and told of by one log on one machine"
        )
    to_upstream_config(config, ranks=len(training.launch.devices))
    return checkout


def run_upstream_training(config: TrainingConfig, training: TrainingParameters, *, resume: bool) -> None:
    """Run PaddleClas to the last epoch in `training.output_dir`, which this process has claimed.

    Raises:
        CheckpointError: there is nothing whole to resume from, or `Global.pretrained_model` is more than arrays.
        NonFiniteLossError: the loss became NaN or infinite.
        ParameterError, TrainingConfigError: as `check_engine`.
        RankFailedError: a rank failed or hung, or upstream ended before the last epoch.
    """
    checkout = check_engine(config, training)
    output_dir, launch = training.output_dir, training.launch
    ranks = len(launch.devices)
    saved = _saved_epoch(output_dir) if resume else None
    if config.Global.pretrained_model is not None:
        require_plain_data(Path(config.Global.pretrained_model))
    write_text(config_path(output_dir), config.to_yaml())
    stem = None if saved is None else str(saved.stem.absolute())
    going_on = config.model_copy(update={"Global": config.Global.model_copy(update={"checkpoints": stem})})
    upstream = to_upstream_config(going_on, ranks=ranks)
    for setting in upstream.not_honoured:
        logger.warning(
            "PaddleClas has no counterpart of %s; it saves every save_interval epochs, and keeps all", setting
        )
    write_text(upstream_config_path(output_dir), upstream.text)
    logs = log_dir(output_dir)
    command = checkout.command("train", upstream_config_path(output_dir), launch, logs)
    # A log of the run before must not be told as this one's.
    (logs / _RANK_0_LOG).unlink(missing_ok=True)
    scribe = _scribe(config, training, finished_epochs=0 if saved is None else saved.epoch)
    logger.info("starting %s in %s", " ".join(command.arguments), command.working_dir, extra=DRAWN)
    try:
        with contextlib.closing(scribe), TrainingProgress() as show:
            _run_and_tell(command, training, scribe, show)
    except BaseException:
        if saved_stems(output_dir):
            logger.error(  # noqa: TRY400 - the traceback, if any, is printed by whoever catches it
                "training stopped early; what PaddleClas has saved stays: start the same command again with "
                "--params training.resume=true to go on after its newest whole epoch"
            )
        raise


def _run_and_tell(
    command: LaunchCommand, training: TrainingParameters, scribe: LogScribe, show: TrainingProgress
) -> None:
    def look() -> None:
        scribe.look()

    launch, output_dir = training.launch, training.output_dir
    try:
        run_ranks(
            command,
            output_dir,
            log_dir(output_dir),
            launch.hang_timeout_seconds,
            ranks=len(launch.devices),
            on_event=show,
            check=look,
        )
    except RankFailedError:
        # What it said last belongs to the story, and may be the reason: a loss that is not finite.
        for event in scribe.look():
            show(event)
        raise
    for event in scribe.finish():
        show(event)


def _saved_epoch(output_dir: Path) -> SavedEpoch:
    saved, problems = newest_saved_epoch(output_dir)
    for problem in problems:
        logger.warning("not resumed from, for it is not whole: %s", problem)
    logger.info("going on after epoch %d, from %s", saved.epoch, saved.stem)
    return saved


def _scribe(config: TrainingConfig, training: TrainingParameters, finished_epochs: int) -> LogScribe:
    output_dir, ranks = training.output_dir, len(training.launch.devices)
    splits, class_num = config.DataLoader, config.Arch.class_num
    train, val = (
        len(read_list_file(Path(split.dataset.cls_label_path), class_num=class_num))
        for split in (splits.Train, splits.Eval)
    )
    facts = RunFacts.of(config, ranks=ranks, images=(train, val), finished_epochs=finished_epochs)
    best_epoch, best_top1 = best_so_far(output_dir)
    return LogScribe(
        LogTail(log_dir(output_dir) / _RANK_0_LOG, output_dir, ranks),
        output_dir,
        EventBuilder(facts, best_epoch, best_top1, uses_dali=config.Global.use_dali),
        BestWeights(output_dir, ranks, facts.steps_after(1, facts.iterations)),
    )
