"""Finds the parent run if this `kedro run` was started by `dvc repro`, a sweep or another program."""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Literal

import psutil
from pydantic import TypeAdapter, ValidationError

from resnet50_pipeline.exceptions import ParameterError
from resnet50_pipeline.tracking.limits import MAX_KEY_LENGTH, MAX_TAG_LENGTH, shorten
from resnet50_pipeline.tracking.process import ProcessIdentity

# Set by DVC for the commands of its stages.
_DVC_STAGE, _DVC_EXPERIMENT = "DVC_STAGE", "DVC_EXP_NAME"
_DVC_PROGRAMS = frozenset({"dvc", "dvc.exe"})
# Set by other programs to group their `kedro run` commands: a unique key and a display name.
SESSION_VARIABLE, NAME_VARIABLE = "TRACKING_PARENT_SESSION", "TRACKING_PARENT_NAME"
# Attempt number, starting at 1. A retry resets the parent's status, because the program may still succeed.
ATTEMPT_VARIABLE = "TRACKING_PARENT_ATTEMPT"
# If the kind is `sweep` or `folds`, the parent opens and ends its own run. The other two variables contain the new
# run's name and tags.
KIND_VARIABLE, RUN_NAME_VARIABLE, TAGS_VARIABLE = "TRACKING_PARENT_KIND", "TRACKING_RUN_NAME", "TRACKING_TAGS"
_WITH_OWN_RUN: tuple[Literal["sweep"], Literal["folds"]] = ("sweep", "folds")
_RUN_NAME_TAG = "mlflow.runName"
# Tag names that MLflow accepts. They must look like relative paths, without `..` or a leading `/`.
_TAG_NAME = re.compile(rf"(?!/)(?!.*\.\.)[\w.\- :/]{{1,{MAX_KEY_LENGTH}}}(?<!/)")


@dataclass(frozen=True)
class Parent:
    """A parent run, as described by its children's environment variables.

    Attributes:
        session: unique key of the parent, the same for all children.
        kind: program that started the children. This is also the value of the `parent.kind` tag.
        title: last part of the parent's name, after the architecture and environment.
        stage: DVC stage of this run, or "" without DVC.
        process: process that owns the parent run. The parent run ends with this process.
        is_retry: whether this run repeats a failed run.
    """

    session: str
    kind: Literal["dvc", "program", "sweep", "folds"]
    title: str
    stage: str
    process: ProcessIdentity
    is_retry: bool = False

    @property
    def has_own_run(self) -> bool:
        """Whether the parent process ends the parent run and logs its results. If not, the children do."""
        return self.kind in _WITH_OWN_RUN


def find_parent(environment: Mapping[str, str] = os.environ) -> Parent | None:
    """Return the parent of this run, or None if this run is a standalone run."""
    if session := environment.get(SESSION_VARIABLE):
        identity = ProcessIdentity.of(psutil.Process().parent() or psutil.Process())
        is_retry = environment.get(ATTEMPT_VARIABLE, "1") != "1"
        kind = next((kind for kind in _WITH_OWN_RUN if kind == environment.get(KIND_VARIABLE)), None)
        return Parent(session, kind or "program", environment.get(NAME_VARIABLE, session), "", identity, is_retry)
    if _DVC_STAGE not in environment:
        return None
    process = next((process for process in psutil.Process().parents() if _is_dvc(process)), None)
    if process is None:
        return None
    started = datetime.fromtimestamp(process.create_time()).astimezone()
    experiment = environment.get(_DVC_EXPERIMENT)
    title = f"dvc exp {experiment}" if experiment else "dvc repro"
    return Parent(
        session=f"dvc-{socket.gethostname()}-{_boot_id()}-{process.pid}-{_start_ticks(process.pid)}",
        kind="dvc",
        title=f"{title} {started:%Y-%m-%d %H:%M}",
        stage=environment[_DVC_STAGE],
        process=ProcessIdentity.of(process),
    )


def given_tags(environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Return the tags in the `TRACKING_TAGS` variable, which is set by the program that starts the run.

    Raises:
        ParameterError: if the variable is not a JSON object of strings, or contains a tag that MLflow rejects. A
            rejected tag would prevent MLflow from creating the run.
    """
    text = environment.get(TAGS_VARIABLE)
    if not text:
        return {}
    try:
        tags = TypeAdapter(dict[str, str]).validate_json(text)
    except ValidationError as error:
        raise ParameterError(
            f'{TAGS_VARIABLE} is {text!r}; set it to a JSON object of strings, for example {{"sweep.trial": "3"}}'
        ) from error
    for name in tags:
        if name == _RUN_NAME_TAG:
            raise ParameterError(f"{TAGS_VARIABLE} sets {name}, the name of the run → set {RUN_NAME_VARIABLE} instead")
        if not _TAG_NAME.fullmatch(name):
            raise ParameterError(
                f"{TAGS_VARIABLE}: invalid tag name {shorten(name, 80)!r} → use 1 to {MAX_KEY_LENGTH} letters, "
                "digits, spaces or _ - . : /"
            )
    return {name: shorten(value, MAX_TAG_LENGTH) for name, value in tags.items()}


def _is_dvc(process: psutil.Process) -> bool:
    """Return whether the process was started as `dvc …`, `python …/bin/dvc …` or `python -m dvc …`."""
    try:
        return any(Path(argument).name in _DVC_PROGRAMS for argument in process.cmdline()[:4])
    except psutil.Error:
        return False


def _start_ticks(pid: int) -> str:
    """Return a process's start time in clock ticks. Unlike seconds, ticks are the same for every reader."""
    stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8")
    return stat.rpartition(")")[2].split()[19]  # field 22 of proc(5); field 2 is the name, which may contain spaces


def _boot_id() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="utf-8")[:8]
