"""Keeps copies of a training run's checkpoint sets in an object store, and resumes from them."""

from __future__ import annotations

import contextlib
import json
import logging
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from resnet50_pipeline.checkpoint_set import delete_leftovers, read_state
from resnet50_pipeline.events import AnyEvent, CheckpointSaved, Finished, last_event
from resnet50_pipeline.exceptions import CheckpointError, CheckpointMirrorError, ParameterError
from resnet50_pipeline.paddleclas.mirror.store import CheckpointMirror
from resnet50_pipeline.parameters import TrainingParameters
from resnet50_pipeline.training_dir import best_path, checkpoint_path, checkpoint_paths, checkpoints_dir, events_path

logger = logging.getLogger(__name__)

MAX_SECONDS_AFTER_FAILURE = 30.0


def fetch_newer_sets(training: TrainingParameters, training_dir: Path) -> None:
    """Download the newest set and the best set from `training.checkpoint_mirror`, if a resumed run needs them.

    Without `training.checkpoint_mirror`, or if the newest set in the training folder is at least as new, nothing is
    downloaded. A set that is damaged in the mirror is skipped with a warning.

    Raises:
        CheckpointError: if all sets in the mirror are damaged, and the training folder has no set either.
        CheckpointMirrorError: if the mirror does not respond or refuses a request.
        ParameterError: if the run starts from scratch, but the mirror contains the sets of another run.
    """
    if training.checkpoint_mirror is None:
        return
    mirror = CheckpointMirror(training.checkpoint_mirror)
    mirror.require_writable()
    names = mirror.names()
    if not starts_from_mirror(training, training_dir):
        require_unused(training, names)
        return
    has_sets, newer = bool(checkpoint_paths(training_dir)), mirror.newer_names(training_dir)
    if newer and training_dir.exists():
        delete_leftovers(training_dir)
    damaged = []
    for name in reversed(newer):
        try:
            mirror.download(name, training_dir)
        except CheckpointError as error:
            if name == newer[0] and not has_sets:
                raise
            logger.warning("%s; using an older set", error)
            damaged.append(name)
            continue
        logger.info("downloaded the checkpoint set %s from %s", name, mirror.url)
        break
    for name in damaged:
        # Otherwise, the damaged set would remain the newest one in the mirror until the run has passed its step.
        mirror.discard(name)
    _fetch_best(mirror, training_dir, names)
    if not starts_from_mirror(training, training_dir):  # the downloaded events say that the run has finished
        require_unused(training, names)


def _fetch_best(mirror: CheckpointMirror, training_dir: Path, names: list[str]) -> None:
    """Download the best set so far if the training folder does not have it, even if no other set was downloaded."""
    sets = checkpoint_paths(training_dir)
    best = _best_epoch(sets[-1]) if sets else None
    if best is None or (checkpoints_dir(training_dir) / best).is_dir():
        return
    problem: object = f"{mirror.url} does not contain it"
    if best in names:
        try:
            mirror.download(best, training_dir, only_set=True)
        except CheckpointError as error:
            problem = error
        else:
            return
    logger.warning(
        "the best set so far, %s, is missing: %s → training continues; if no later epoch is better, evaluate another "
        "set with evaluation.model",
        *(best, problem),
    )


def starts_from_mirror(training: TrainingParameters, training_dir: Path) -> bool:
    """Return whether the run may resume from the mirror. It may not if it intentionally starts from scratch."""
    is_finished = isinstance(last_event(events_path(training_dir)), Finished)
    return training.resume is True or (training.resume == "auto" and not is_finished)


def require_unused(training: TrainingParameters, names: list[str]) -> None:
    """Check that a run from scratch does not mix its sets with those of another run.

    Raises:
        ParameterError: if the mirror contains sets.
    """
    if names:
        raise ParameterError(
            f"training.checkpoint_mirror: {training.checkpoint_mirror} contains the checkpoint sets of an earlier run "
            f"(newest: {names[-1]}), and this run starts from scratch → choose another prefix, or resume the "
            "earlier run with training.resume=true"
        )


@contextlib.contextmanager
def mirroring(training: TrainingParameters, training_dir: Path) -> Iterator[Callable[[AnyEvent], None]]:
    """Upload checkpoint sets in a background thread while the block runs.

    Yields a function to call with each event. After each saved set, the newest set and the best set are uploaded,
    unless they have already been uploaded. If an upload fails, a warning is logged, training continues, and the next
    attempt is made after the next set. At the end of the block, the last set is uploaded. If the block fails, for
    example because a scheduler stops the run, this last upload may take at most `MAX_SECONDS_AFTER_FAILURE`.
    """
    if training.checkpoint_mirror is None:
        yield lambda _event: None
        return
    uploader = _Uploader(CheckpointMirror(training.checkpoint_mirror), training_dir, training.keep_checkpoints)
    try:
        yield uploader.notice
    except BaseException:
        uploader.close(MAX_SECONDS_AFTER_FAILURE)
        raise
    uploader.close(None)


class _Uploader:
    """A thread that uploads the newest set and the best set of a training run."""

    def __init__(self, mirror: CheckpointMirror, training_dir: Path, keep: int) -> None:
        self._mirror, self._training_dir, self._keep = mirror, training_dir, keep
        self._saved, self._is_over = threading.Event(), False
        self._thread = threading.Thread(target=self._work, name="checkpoint-mirror", daemon=True)
        self._thread.start()

    def notice(self, event: AnyEvent) -> None:
        """Start uploading if the event reports a new set."""
        if isinstance(event, CheckpointSaved):
            self._saved.set()

    def close(self, most_seconds: float | None) -> None:
        """Upload the remaining sets, and end the thread."""
        self._is_over = True
        self._saved.set()
        self._thread.join(most_seconds)
        if self._thread.is_alive():
            logger.warning("%s: the last checkpoint set was not uploaded in time", self._mirror.url)

    def _work(self) -> None:
        is_over = False
        while not is_over:
            self._saved.wait()
            self._saved.clear()
            is_over = self._is_over  # read before the upload, during which the last set may be saved
            self._upload()

    def _upload(self) -> None:
        started = time.monotonic()
        sets = checkpoint_paths(self._training_dir)
        if not sets:
            return
        newest = name = sets[-1].name
        best = _best_name(self._training_dir)
        try:
            # Upload the best set first, because copies of other sets refer to it and are of little use without it.
            for name in dict.fromkeys([best, newest] if best else [newest]):
                self._mirror.upload(self._training_dir, name)
            self._mirror.prune(self._keep, best)
        except CheckpointMirrorError as error:
            if not (checkpoints_dir(self._training_dir) / name).exists():
                logger.warning(
                    "%s was deleted before its upload to %s finished → raise training.keep_checkpoints, or increase "
                    "the interval between sets",
                    *(name, self._mirror.url),
                )
                return
            logger.warning("%s was not uploaded (%s); training continues and will upload the next set", newest, error)
        else:
            logger.info("uploaded %s to %s in %.1f s", newest, self._mirror.url, time.monotonic() - started)


def _best_name(training_dir: Path) -> str | None:
    """Return the name of the best set, if it is in the training folder."""
    try:
        path = training_dir / json.loads(best_path(training_dir).read_text(encoding="utf-8"))["checkpoint"]
    except FileNotFoundError:
        return None
    return path.name if path.is_dir() else None


def _best_epoch(folder: Path) -> str | None:
    """Return the name of the set that was best when `folder` was saved, or None if no epoch had been evaluated."""
    state = read_state(folder)
    return checkpoint_path(Path(), state.best_epoch).name if state.best_epoch else None
