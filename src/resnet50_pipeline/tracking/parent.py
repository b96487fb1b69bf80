"""The run that gathers others: those of one `dvc repro`, or of whatever else starts several `kedro run`."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Literal

import psutil
from pydantic import TypeAdapter, ValidationError

from resnet50_pipeline.exceptions import ParameterError
from resnet50_pipeline.tracking.process import ProcessIdentity

# What DVC tells the commands of its stages.
_DVC_STAGE, _DVC_EXPERIMENT = "DVC_STAGE", "DVC_EXP_NAME"
_DVC_PROGRAMS = frozenset({"dvc", "dvc.exe"})
# A program that runs several `kedro run` itself says so: a key that no other parent has, and a name for people.
SESSION_VARIABLE, NAME_VARIABLE = "TRACKING_PARENT_SESSION", "TRACKING_PARENT_NAME"
# Which try of this part it is, from 1 on: a program that tries again what failed has not failed itself.
ATTEMPT_VARIABLE = "TRACKING_PARENT_ATTEMPT"
# `sweep`: it has a run of its own, and says itself what becomes of that. And what it knows of the run that it starts.
KIND_VARIABLE, RUN_NAME_VARIABLE, TAGS_VARIABLE = "TRACKING_PARENT_KIND", "TRACKING_RUN_NAME", "TRACKING_TAGS"


@dataclass(frozen=True)
class Parent:
    """What is known of a parent run by each of its children.

    Attributes:
        session: a key that no other run has, and on which all children agree.
        kind: what gathers them; its tag `parent.kind`.
        title: what people recognise it by, beside architecture and environment.
        stage: which part of the parent this run is; "" where nobody says.
        process: whose end is the parent's.
        is_retry: whether this run is another try of a part that failed.
    """

    session: str
    kind: Literal["dvc", "program", "sweep"]
    title: str
    stage: str
    process: ProcessIdentity
    is_retry: bool = False

    @property
    def has_run_of_its_own(self) -> bool:
        """Whether the parent itself says what it shows and how it ended, and its children do not."""
        return self.kind == "sweep"


def find_parent(environment: Mapping[str, str] = os.environ) -> Parent | None:
    """Return what the calling process was started by, if that gathers runs; None for a `kedro run` of its own."""
    if session := environment.get(SESSION_VARIABLE):
        identity = ProcessIdentity.of(psutil.Process().parent() or psutil.Process())
        is_retry = environment.get(ATTEMPT_VARIABLE, "1") != "1"
        kind: Literal["sweep", "program"] = "sweep" if environment.get(KIND_VARIABLE) == "sweep" else "program"
        return Parent(session, kind, environment.get(NAME_VARIABLE, session), "", identity, is_retry)
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
    """Return the tags that the program which starts a run gives it, as a JSON object of strings.

    Raises:
        ParameterError: the variable holds something else.
    """
    text = environment.get(TAGS_VARIABLE)
    if not text:
        return {}
    try:
        return TypeAdapter(dict[str, str]).validate_json(text)
    except ValidationError as error:
        raise ParameterError(
            f'{TAGS_VARIABLE} is {text!r}; it is a JSON object of strings, as {{"sweep.trial": "3"}}'
        ) from error


def _is_dvc(process: psutil.Process) -> bool:
    """Return whether it is `dvc …`, `python …/bin/dvc …` or `python -m dvc …`."""
    try:
        return any(Path(argument).name in _DVC_PROGRAMS for argument in process.cmdline()[:4])
    except psutil.Error:
        return False


def _start_ticks(pid: int) -> str:
    """Return when a process started, in the kernel's own unit: the same for every reader, as seconds are not."""
    stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8")
    return stat.rpartition(")")[2].split()[19]  # field 22 of proc(5); the name, field 2, may hold anything


def _boot_id() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="utf-8")[:8]
