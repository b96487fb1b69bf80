"""Finds the parent run if `dvc repro`, a sweep or another program has started this `kedro run`."""

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

# Variables that DVC sets for its stages' commands.
_DVC_STAGE, _DVC_EXPERIMENT = "DVC_STAGE", "DVC_EXP_NAME"
_DVC_PROGRAMS = frozenset({"dvc", "dvc.exe"})
# Variables that other programs set to group their `kedro run` commands: a unique key and a display name.
SESSION_VARIABLE, NAME_VARIABLE = "TRACKING_PARENT_SESSION", "TRACKING_PARENT_NAME"
# Number of the attempt, starting at 1. A retry resets the parent's status, because a program that retries has not
# failed yet.
ATTEMPT_VARIABLE = "TRACKING_PARENT_ATTEMPT"
# If the first variable is `sweep` or `folds`, the parent opens and ends its own run. The other two contain the name and
# the tags of the new run.
KIND_VARIABLE, RUN_NAME_VARIABLE, TAGS_VARIABLE = "TRACKING_PARENT_KIND", "TRACKING_RUN_NAME", "TRACKING_TAGS"
_WITH_OWN_RUN: tuple[Literal["sweep"], Literal["folds"]] = ("sweep", "folds")
_RUN_NAME_TAG = "mlflow.runName"
# The names that MLflow accepts. A name with `..` or a leading `/` is not a relative path.
_TAG_NAME = re.compile(rf"(?!/)(?!.*\.\.)[\w.\- :/]{{1,{MAX_KEY_LENGTH}}}(?<!/)")


@dataclass(frozen=True)
class Parent:
    """A parent run, as described by the environment of its children.

    Attributes:
        session: unique key of the parent, the same for all children.
        kind: program that started the children. It is also the value of the `parent.kind` tag.
        title: last part of the parent's name, after the architecture and environment.
        stage: DVC stage of this run, or "" without DVC.
        process: process that the parent run belongs to. When it ends, the run ends.
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
        """Whether the parent process reports the results and the end of its run itself. If not, its children do so."""
        return self.kind in _WITH_OWN_RUN


def find_parent(environment: Mapping[str, str] = os.environ) -> Parent | None:
    """Return the parent of this run, or None if it is a standalone run."""
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
    """Return the tags in the `TRACKING_TAGS` variable. The program that starts a run may set this variable.

    Raises:
        ParameterError: if the variable is not a JSON object of strings, or if MLflow would reject a tag. MLflow would
            not create the run at all.
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
            raise ParameterError(f"{TAGS_VARIABLE} sets {name}, which is the name of the run → set {RUN_NAME_VARIABLE}")
        if not _TAG_NAME.fullmatch(name):
            raise ParameterError(
                f"{TAGS_VARIABLE} contains the tag {shorten(name, 80)!r} → use 1 to {MAX_KEY_LENGTH} letters, digits, "
                "spaces, and _ - . : / in tag names"
            )
    return {name: shorten(value, MAX_TAG_LENGTH) for name, value in tags.items()}


def _is_dvc(process: psutil.Process) -> bool:
    """Return whether the process was started as `dvc …`, `python …/bin/dvc …` or `python -m dvc …`."""
    try:
        return any(Path(argument).name in _DVC_PROGRAMS for argument in process.cmdline()[:4])
    except psutil.Error:
        return False


def _start_ticks(pid: int) -> str:
    """Return the start time of a process in clock ticks. Every process reads the same number of ticks.

    A time in seconds would differ slightly between readers.
    """
    stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8")
    return stat.rpartition(")")[2].split()[19]  # field 22 of proc(5); field 2 is the name, which may contain spaces


def _boot_id() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="utf-8")[:8]
