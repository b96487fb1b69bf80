"""What keeps DVC from working, or from telling the truth, and the command that mends each: DVC itself says little."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import shlex
import subprocess
from collections import defaultdict
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import yaml

from resnet50_pipeline.exceptions import DatasetError

_LOCK_FILES = ("dvc.lock", "conf/*/dvc.lock")
_REMEDY_OF_OBJECTS = (
    "kedro data-doctor --remove-damaged, then `dvc pull --force` where a remote has it, otherwise `dvc repro` for a "
    "result, `dvc commit` for data whose own file is whole"
)


@dataclass(frozen=True)
class Finding:
    """Something that is wrong, and what to do about it.

    Attributes:
        problem: what, where.
        remedy: a command, or to wait.
    """

    problem: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.problem} → {self.remedy}"


@dataclass(frozen=True)
class DamagedObject:
    """A file of the cache whose content is not what its name says, or that is not there though a version needs it.

    Attributes:
        path: in the cache.
        used_by: files and folders of which it is the content, relative to the project.
        is_missing: whether it is not there.
    """

    path: Path
    used_by: tuple[str, ...]
    is_missing: bool


def find_lock_problems(project: Path) -> Iterator[Finding]:
    """Yield who holds DVC's locks, by process, and which lock file was left unreadable.

    DVC's own message on a held repository lock names nobody. A lock ends with the process that held it, however that
    ended; only `rwlock`, a list of who reads and writes what, can be left half written.
    """
    folder = project / ".dvc" / "tmp"
    holder = _holder_of(folder / "lock")
    if holder is not None:
        yield Finding(
            f"DVC is locked by {_describe_process(holder)}",
            f"wait for it, or end it (kill {holder}); nothing is lost by either" if holder else "wait for it",
        )
    entries = _read_rwlock(folder / "rwlock")
    if entries is None:
        yield Finding(".dvc/tmp/rwlock was left half written by a process that was killed", "rm .dvc/tmp/rwlock")
        return
    # What is written says more than what is read: others may read that too.
    for mode in ("write", "read"):
        busy: dict[int, set[str]] = defaultdict(set)
        for path, infos in entries[mode].items():
            for info in infos if isinstance(infos, list) else [infos]:
                busy[info["pid"]].add(_relative(path, project))
        for pid, paths in sorted(busy.items()):
            if psutil.pid_exists(pid):
                names = ", ".join(sorted(paths)[:3]) + (f" and {len(paths) - 3} more" if len(paths) > 3 else "")
                yield Finding(
                    f"{names}: {'written' if mode == 'write' else 'read'} by {_describe_process(pid)}",
                    f"wait for it, or end it (kill {pid})",
                )


def find_lock_file_problems(project: Path) -> Iterator[Finding]:
    """Yield each dvc.lock that is cut off or otherwise damaged, or has lost stages that git's version has, or is gone.

    One that was cut between two stages is valid YAML: DVC would just run the lost stages again, training included.
    """
    there = {found.relative_to(project).as_posix() for pattern in _LOCK_FILES for found in project.glob(pattern)}
    for name in sorted(there | set(_ask_git(project, "ls-files", "--", *_LOCK_FILES).splitlines())):
        committed = _committed_stages(project, name)
        remedy = f"git checkout HEAD -- {shlex.quote(name)}" if committed else "dvc commit --force"
        stages = read_stages(project / name) if name in there else {}
        if name not in there:
            yield Finding(f"{name} is not there, and git has one: every stage would run again", remedy)
        elif stages is None:
            yield Finding(f"{name} is damaged: no whole YAML with stages is in it", remedy)
        elif lost := [one for one, entry in committed.items() if _count_outs(stages.get(one)) < _count_outs(entry)]:
            yield Finding(f"{name} has lost what git's version of it says of {', '.join(lost)}", remedy)


def read_stages(lock_file: Path) -> dict[str, Any] | None:
    """Return {stage: what was locked} of a dvc.lock; None where it is damaged, cut off in the middle of a stage too."""
    try:
        return _stages_of(lock_file.read_text(encoding="utf-8"))
    except UnicodeDecodeError:
        return None


def find_damaged_objects(project: Path) -> tuple[list[DamagedObject], int]:
    """Read everything that the present version needs of the cache, and return what is damaged, and how much was read.

    DVC believes that a file of the cache which is read-only (mode 0444) has the content that its name says, and hands
    it on; here every one is hashed, 4 at a time.

    Returns:
        The damaged objects by path, and the bytes read. Objects that are not in the cache at all count only where they
        are parts of a folder of which others are there: the rest was not pulled.

    Raises:
        DatasetError: DVC cannot read the project: there is no `.dvc`, or one of its files is damaged.
    """
    from dvc.exceptions import DvcException
    from dvc.repo import Repo

    users: dict[Path, set[str]] = defaultdict(set)
    partial: set[Path] = set()
    with contextlib.ExitStack() as stack:
        try:
            outs = stack.enter_context(Repo(project)).index.outs
        except DvcException as error:
            raise DatasetError(
                f"{project}: DVC cannot read its files: {error} → restore what was committed (git status names it), or "
                "work in a clone: an unpacked archive of the code has no repository of DVC"
            ) from error
        for out in outs:
            if not out.use_cache or not out.hash_info:
                continue
            name = _relative(out.fs_path, project)
            path = Path(out.cache.oid_to_path(out.hash_info.value))
            users[path].add(name)
            if out.hash_info.isdir:
                parts = {file: Path(out.cache.oid_to_path(md5)) for file, md5 in _files_of(path)}
                for file, part in parts.items():
                    users[part].add(f"{name}/{file}")
                if any(part.exists() for part in parts.values()):
                    partial |= {path, *parts.values()}
    with ThreadPoolExecutor(4) as pool:
        digests = dict(zip(users, pool.map(_digest_of_object, users), strict=True))
    damaged = [
        DamagedObject(path, tuple(sorted(users[path])), is_missing=digest is None)
        for path, digest in sorted(digests.items())
        if digest != _name_of(path) and (digest is not None or path in partial)
    ]
    return damaged, sum(path.stat().st_size for path, digest in digests.items() if digest is not None)


def describe_damage(objects: Iterable[DamagedObject], project: Path) -> list[Finding]:
    """Return a finding an object."""
    return [
        Finding(
            f"{', '.join(one.used_by)}: {_relative(str(one.path), project)} "
            + (
                "is missing from DVC's cache" if one.is_missing else "is damaged: its content is not what its name says"
            ),
            _REMEDY_OF_OBJECTS,
        )
        for one in objects
    ]


def remove_objects(objects: Iterable[DamagedObject], project: Path) -> int:
    """Delete damaged files of the cache, so that DVC fetches or writes them anew, and return how many were there.

    So go the files of the workspace that have the same wrong content, as links to them or as copies: DVC remembers them
    as good. One whose content is right stays.
    """
    count = 0
    for one in objects:
        if one.is_missing:
            continue
        wrong = _digest_of_object(one.path)
        for file in map(project.joinpath, one.used_by):
            if file.is_file() and _digest_of_object(file) == wrong:
                file.unlink()
        one.path.unlink()
        count += 1
    return count


def _holder_of(lock: Path) -> int | None:
    """Return the PID of the process that holds a lock file, 0 where it does not say, None where nobody holds it."""
    with contextlib.suppress(FileNotFoundError), lock.open(encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            words = file.read().split()
            return int(words[0]) if words and words[0].isdecimal() else 0
    return None


def _read_rwlock(path: Path) -> dict[str, Any] | None:
    """Return who reads and who writes what, None for what DVC refuses: an empty file too, for it is emptied first."""
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
    return _stages_of(_ask_git(project, "show", f"HEAD:./{name}")) or {}


def _ask_git(project: Path, *arguments: str) -> str:
    """Return what git prints, nothing where it does not know, as outside of a repository."""
    return subprocess.run(["git", *arguments], cwd=project, capture_output=True, text=True, check=False).stdout


def _count_outs(stage: dict[str, Any] | None) -> int:
    return len((stage or {}).get("outs", []))


def _stages_of(text: str) -> dict[str, Any] | None:
    """Return the stages of a dvc.lock, None where they are not whole: it may be valid YAML wherever it was cut."""
    try:
        loaded = yaml.safe_load(text)
    except yaml.YAMLError:
        return None
    stages = loaded.get("stages") if isinstance(loaded, dict) else None
    is_whole = isinstance(stages, dict) and bool(stages) and all(map(_is_whole_stage, stages.values()))
    return stages if is_whole and text.endswith("\n") else None


def _is_whole_stage(stage: Any) -> bool:
    """Whether a stage of a dvc.lock has its outs, which DVC writes last, and each out its size, the last of the out."""
    return (
        isinstance(stage, dict)
        and bool(stage.get("outs"))
        and all(isinstance(out, dict) and {"path", "md5", "size"} <= set(out) for out in stage["outs"])
    )


def _files_of(directory_object: Path) -> list[tuple[str, str]]:
    """Return path and digest of the files of a folder, as its object lists them; nothing where that is not readable."""
    try:
        return [(entry["relpath"], entry["md5"]) for entry in json.loads(directory_object.read_bytes())]
    except (OSError, ValueError, KeyError, TypeError):
        return []


def _digest_of_object(path: Path) -> str | None:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
    except FileNotFoundError:
        return None


def _name_of(path: Path) -> str:
    return (path.parent.name + path.name).removesuffix(".dir")


def _relative(path: str, project: Path) -> str:
    return str(Path(path).relative_to(project)) if Path(path).is_relative_to(project) else path
