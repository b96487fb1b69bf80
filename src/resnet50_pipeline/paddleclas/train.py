"""Trains the network: claims the output folder, runs the ranks and shows their progress."""

from __future__ import annotations

import itertools
import logging
import time
from collections.abc import Callable
from pathlib import Path

from resnet50_pipeline.checkpoint_set import require_weights_digest
from resnet50_pipeline.events import AnyEvent, EventWriter, Finished, Restarted, last_event
from resnet50_pipeline.exceptions import CheckpointError, LoaderProcessError, NonFiniteLossError, RankFailedError
from resnet50_pipeline.files import unshare_files, write_text
from resnet50_pipeline.imagenet.identities import ImageIdentities, require_same_images, save_identities
from resnet50_pipeline.paddleclas.checkpoint_interval import IntervalAdvice
from resnet50_pipeline.paddleclas.launch.command import build_launch_command
from resnet50_pipeline.paddleclas.launch.machines import reporting_failures, resolve_master, train_arguments
from resnet50_pipeline.paddleclas.launch.output_dir import (
    claim_output_dir,
    delete_replaced_runs,
    replacing_previous_run,
    should_resume,
)
from resnet50_pipeline.paddleclas.launch.supervise import run_ranks
from resnet50_pipeline.paddleclas.margins import write_margins
from resnet50_pipeline.paddleclas.mirror.runs import fetch_newer_sets, mirroring
from resnet50_pipeline.paddleclas.progress import TrainingProgress
from resnet50_pipeline.paddleclas.upstream.train import check_engine, run_upstream_training
from resnet50_pipeline.parameters import TrainingParameters
from resnet50_pipeline.processes.command_line import resume_command
from resnet50_pipeline.processes.interruption import raise_if_interrupted
from resnet50_pipeline.progress import DRAWN
from resnet50_pipeline.recipe.document import TrainingConfig
from resnet50_pipeline.training_dir import (
    checkpoint_paths,
    config_path,
    events_path,
    images_path,
    log_dir,
    newest_checkpoint,
    source_path,
)

logger = logging.getLogger(__name__)

_LONGEST_PAUSE_SECONDS = 60


def train_network(
    config: TrainingConfig, training: TrainingParameters, images: ImageIdentities | None = None, source: str = ""
) -> Path:
    """Train the network to the last epoch and return the training folder, `Global.output_dir`.

    Afterward, the folder contains `events.jsonl`, `checkpoints/`, `best.json`, `log/` and the configuration of the run.
    If the run was resumed (`training.resume`), the configuration identifies the checkpoint set that the run resumed
    from.
    With `training.engine: paddleclas`, PaddleClas' own training loop runs and also saves its checkpoints in this folder
    (see `upstream/train.py`).

    Args:
        config: the rendered configuration.
        training: the parameters that the configuration was rendered from.
        images: identities of the images in both lists, which are saved to `images.npy`, or None if unknown.
        source: Git commit at the start of the run, which is saved to `source.txt`.

    Raises:
        CheckpointError: if there is no checkpoint set to resume from, if the set is damaged or belongs to a different
            recipe or different data, or if the digest of the pretrained weights does not match.
        OutputDirectoryInUseError: if another run is using the folder.
        CheckpointMirrorError: if `training.checkpoint_mirror` does not respond when the run starts.
        RankFailedError: if a rank failed or hung.
        NonFiniteLossError: if the loss became NaN or infinite.
        ParameterError, TrainingConfigError: if `training.engine` does not support the recipe, or if the PaddleClas
            checkout is missing.
    """
    output_dir = Path(config.Global.output_dir)
    run = _run
    if training.engine == "paddleclas":
        check_engine(config, training)
        run = run_upstream_training
    logger.info("%s", training.describe_step())
    if determinism := training.describe_determinism():
        logger.info("%s", determinism)
    with claim_output_dir(output_dir):
        fetch_newer_sets(training, output_dir)
        if should_resume(output_dir, training.resume):
            recorded = images_path(output_dir)
            if images is not None and recorded.exists():
                require_same_images(recorded, images)
            # If DVC has linked the files to its cache, appending to them would change the cache.
            unshare_files(output_dir)
            if images is not None and not recorded.exists():
                save_identities(recorded, images)
            _record_source(output_dir, source)
            run(config, training, resume=True)
            write_margins(config)
            delete_replaced_runs(output_dir)
        else:
            if training.pretrained_model is not None and training.pretrained_digest is not None:
                require_weights_digest(training.pretrained_model, training.pretrained_digest)
            with replacing_previous_run(output_dir):
                # A folder with a configuration file counts as a training run, which the next run may replace.
                write_text(config_path(output_dir), config.to_yaml())
                if images is not None:
                    save_identities(images_path(output_dir), images)
                _record_source(output_dir, source)
                run(config, training, resume=False)
                write_margins(config)
    return output_dir


def _record_source(output_dir: Path, source: str) -> None:
    if source:
        write_text(source_path(output_dir), f"{source}\n")


def _run(config: TrainingConfig, training: TrainingParameters, *, resume: bool) -> None:
    output_dir = Path(config.Global.output_dir)
    with mirroring(training, output_dir) as mirror:
        _run_with_restarts(config, training, mirror, resume=resume)


def _run_with_restarts(
    config: TrainingConfig, training: TrainingParameters, mirror: Callable[[AnyEvent], None], *, resume: bool
) -> None:
    output_dir, launch = Path(config.Global.output_dir), training.launch
    most = launch.max_restarts if launch.is_one_machine else 0
    before = last_event(events_path(output_dir))  # `finished` if this run continues one that stopped early
    try:
        for restart in range(1, most + 2):
            try:
                return _run_once(config, training, mirror, resume=resume)
            except (RankFailedError, LoaderProcessError) as error:
                last = last_event(events_path(output_dir))
                if isinstance(last, Finished) and last != before:
                    # Libraries can crash while a process exits.
                    logger.warning("training has finished, but its ranks failed afterward: %s", error)
                    return None
                if not error.is_transient or restart > most:
                    raise
                _record_restart(output_dir, restart, error)
            time.sleep(min(2**restart, _LONGEST_PAUSE_SECONDS))
            raise_if_interrupted()
            resume = bool(checkpoint_paths(output_dir))
    except (CheckpointError, NonFiniteLossError):  # resuming would lead to the same error
        raise
    except BaseException as error:
        if checkpoint_paths(output_dir):
            error.add_note(
                f"training stopped early; its checkpoint sets are kept. Resume it with\n  {resume_command()}"
            )
            logger.error("%s", error.__notes__[-1])  # noqa: TRY400 - the caller prints the traceback, if any
        raise


def _record_restart(output_dir: Path, restart: int, error: Exception) -> None:
    """Append an event, and move the ranks' logs to `log/restart-<n>`, where n counts the restarts of all commands."""
    # No rank is running, so this process may append to the file.
    event = Restarted(restart=restart, reason=str(error).splitlines()[0].split("; last lines of")[0])
    writer = EventWriter(events_path(output_dir))
    writer.write(event)
    writer.close()
    folders = (log_dir(output_dir) / f"restart-{number}" for number in itertools.count(1))
    kept = next(folder for folder in folders if not folder.exists())
    kept.mkdir(parents=True)
    for log in (*log_dir(output_dir).glob("workerlog.*"), *log_dir(output_dir).glob("launcher.log")):
        log.replace(kept / log.name)
    sets = checkpoint_paths(output_dir)
    where = f"from {sets[-1].name}" if sets else "from scratch, because there is no checkpoint set"
    logger.warning("%s\nrestart %d %s; the ranks' logs are in %s", event.reason, restart, where, kept)


def _run_once(
    config: TrainingConfig, training: TrainingParameters, mirror: Callable[[AnyEvent], None], *, resume: bool
) -> None:
    output_dir, launch = Path(config.Global.output_dir), resolve_master(training.launch)
    if resume:
        resumed = config.Global.model_copy(update={"checkpoints": str(newest_checkpoint(output_dir))})
        config = config.model_copy(update={"Global": resumed})
    logs, config_file = log_dir(output_dir), config_path(output_dir)
    previous_config = config_file.read_text(encoding="utf-8") if resume and config_file.exists() else None
    write_text(config_file, config.to_yaml())
    command = build_launch_command(launch, logs, train_arguments(launch, output_dir))
    logger.info("starting %s", " ".join(command.arguments), extra=DRAWN)
    if launch.ranks > len(launch.devices):
        logger.info("waiting for the other machines at %s; run `kedro join` on each of these machines", launch.master)
    try:
        with TrainingProgress() as show, reporting_failures(launch, output_dir) as check:
            advice = IntervalAdvice(training)

            def notify(event: AnyEvent) -> None:
                show(event)
                mirror(event)
                if message := advice.add(event):
                    logger.info("%s", message)

            run_ranks(
                command,
                output_dir,
                logs,
                launch.hang_timeout_seconds,
                ranks=launch.ranks,
                own_ranks=launch.own_ranks,
                stop_grace_seconds=launch.stop_grace_seconds,
                on_event=notify,
                check=check,
            )
    except CheckpointError:
        if previous_config is not None:
            # The ranks refused to resume, so the checkpoints still belong to the previous configuration.
            write_text(config_file, previous_config)
        raise
