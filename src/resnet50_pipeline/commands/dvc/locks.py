"""Finds problems with locks and dvc.lock files that DVC does not report clearly."""

from __future__ import annotations

import json
import shlex
import subprocess
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import yaml

from resnet50_pipeline.processes.locks import find_holder
from resnet50_pipeline.text import list_names

if TYPE_CHECKING:
    pass

_LOCK_FILES = ("dvc.lock", "conf/*/dvc.lock")


@dataclass(frozen=True)
class Finding:
    """A problem with DVC's files, and its fix.

    Attributes:
        problem: the problem and the affected file or process.
        remedy: command that fixes the problem, or advice to wait.
    """

    problem: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.problem} → {self.remedy}"


def find_lock_problems(project: Path) -> Iterator[Finding]:
    """Yield a finding for each process that holds one of DVC's locks, and for an unreadable `rwlock` file.

    DVC's own message about a held repository lock does not identify the process. A lock is released when its process
    ends, even if the process is killed. Only `rwlock`, the list of readers and writers of each path, can be left
    incomplete.
    """
    folder = project / ".dvc" / "tmp"
    holder = _lock_holder(folder / "lock")
    if holder is not None:
        yield Finding(
            f"DVC is locked by {_describe_process(holder)}",
            f"wait until the process ends, or end it (kill {holder}); both are safe" if holder else "wait for it",
        )
    entries = _read_rwlock(folder / "rwlock")
    if entries is None:
        yield Finding(
            ".dvc/tmp/rwlock is incomplete, because a process was killed while writing it", "rm .dvc/tmp/rwlock"
        )
        return
    # Report writers first, because a path with a writer may also have readers.
    for mode in ("write", "read"):
        busy: dict[int, set[str]] = defaultdict(set)
        for path, infos in entries[mode].items():
            for info in infos if isinstance(infos, list) else [infos]:
                busy[info["pid"]].add(relative_path(path, project))
        for pid, paths in sorted(busy.items()):
            if psutil.pid_exists(pid):
                use = "written" if mode == "write" else "read"
                yield Finding(
                    f"{list_names(sorted(paths), 3)}: {use} by {_describe_process(pid)}",
                    f"wait until the process ends, or end it (kill {pid})",
                )


def find_lock_file_problems(project: Path) -> Iterator[Finding]:
    """Yield a finding for each dvc.lock that is damaged, is missing, or lacks stages of the committed version.

    A file truncated between two stages is still valid YAML, and DVC would rerun the lost stages, including training.
    """
    there = {found.relative_to(project).as_posix() for pattern in _LOCK_FILES for found in project.glob(pattern)}
    for name in sorted(there | set(_git_output(project, "ls-files", "--", *_LOCK_FILES).splitlines())):
        committed = _committed_stages(project, name)
        remedy = f"git checkout HEAD -- {shlex.quote(name)}" if committed else "dvc commit --force"
        stages = read_stages(project / name) if name in there else {}
        if name not in there:
            yield Finding(f"{name} is missing, although it is committed to Git, so DVC would rerun every stage", remedy)
        elif stages is None:
            yield Finding(f"{name} is damaged: it is truncated or not valid YAML", remedy)
        elif lost := [one for one, entry in committed.items() if _count_outs(stages.get(one)) < _count_outs(entry)]:
            yield Finding(f"{name} is missing entries that are in the committed version: {', '.join(lost)}", remedy)


def read_stages(lock_file: Path) -> dict[str, Any] | None:
    """Return the entries of a dvc.lock, keyed by stage, or None if the file is damaged or truncated within a stage."""
    try:
        return _stages_of(lock_file.read_text(encoding="utf-8"))
    except UnicodeDecodeError:
        return None


def _lock_holder(lock: Path) -> int | None:
    """Return the PID of the process that holds a lock file, 0 if the PID is unknown, or None if the lock is free."""
    holder = find_holder(lock)
    if holder is None:
        return None
    pid = holder.split()[0]
    return int(pid) if pid.isdecimal() else 0


def _read_rwlock(path: Path) -> dict[str, Any] | None:
    """Return the readers and writers of each path, or None if DVC would reject the file.

    DVC truncates the file before writing it, and rejects the empty file that a killed process leaves behind.
    """
    from dvc.rwlock import SCHEMA
    from voluptuous import Invalid

    try:
        entries: dict[str, Any] = SCHEMA(json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return {"read": {}, "write": {}}
    except (ValueError, Invalid):
        return None
    return entries


def _describe_process(pid: int) -> str:
    try:
        return f"process {pid}: {shlex.join(psutil.Process(pid).cmdline())}"
    except psutil.Error:
        return f"process {pid or '(unknown)'}"


def _committed_stages(project: Path, name: str) -> dict[str, Any]:
    return _stages_of(_git_output(project, "show", f"HEAD:./{name}")) or {}


def _git_output(project: Path, *arguments: str) -> str:
    """Return the output of a Git command, or "" if the command fails, for example outside a repository."""
    return subprocess.run(["git", *arguments], cwd=project, capture_output=True, text=True, check=False).stdout


def _count_outs(stage: dict[str, Any] | None) -> int:
    return len((stage or {}).get("outs", []))


def _stages_of(text: str) -> dict[str, Any] | None:
    """Return the stages of a dvc.lock, or None if a stage is incomplete. A truncated file may still be valid YAML."""
    try:
        loaded = yaml.safe_load(text)
    except yaml.YAMLError:
        return None
    stages = loaded.get("stages") if isinstance(loaded, dict) else None
    is_complete = isinstance(stages, dict) and bool(stages) and all(map(_is_complete_stage, stages.values()))
    return stages if is_complete and text.endswith("\n") else None


def _is_complete_stage(stage: Any) -> bool:
    """Return whether a stage in a dvc.lock has `outs`, each with a `size`. DVC writes these keys last."""
    return (
        isinstance(stage, dict)
        and bool(stage.get("outs"))
        and all(isinstance(out, dict) and {"path", "md5", "size"} <= set(out) for out in stage["outs"])
    )


def relative_path(path: str, project: Path) -> str:
    """Make a path relative to the project. Paths outside the project are unchanged."""
    return str(Path(path).relative_to(project)) if Path(path).is_relative_to(project) else path
