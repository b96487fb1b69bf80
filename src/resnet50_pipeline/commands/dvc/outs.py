"""Finds damaged files in DVC's cache, and untracked files in DVC's outs."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shlex
from collections import defaultdict
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from resnet50_pipeline.commands.dvc.locks import Finding, relative_path
from resnet50_pipeline.exceptions import DatasetError
from resnet50_pipeline.text import list_names

if TYPE_CHECKING:
    from dvc.output import Output

_REMEDY_OF_OBJECTS = (
    "kedro data-doctor --remove-damaged, then `dvc pull --force` if a remote has the file, `dvc repro` if the file is "
    "a result, or `dvc commit` if your data is intact"
)


@dataclass(frozen=True)
class DamagedObject:
    """A cache file that is missing, or whose content does not match the digest in its file name.

    Attributes:
        path: path of the file in the cache.
        used_by: files and folders in the workspace with this content, relative to the project.
        is_missing: whether the file is missing.
    """

    path: Path
    used_by: tuple[str, ...]
    is_missing: bool


def find_damaged_objects(project: Path) -> tuple[list[DamagedObject], int]:
    """Hash every cache file that the current version needs, and return the damaged files.

    DVC trusts read-only cache files (mode 0444) and never hashes them again. This function hashes all files, four at a
    time.

    Returns:
        The damaged objects, sorted by path, and the number of bytes read. Missing objects count as damaged only if
        other files in the same folder are in the cache; otherwise, the folder was never pulled.

    Raises:
        DatasetError: if DVC cannot read the project, because `.dvc` is missing or one of its files is damaged.
    """
    users: dict[Path, set[str]] = defaultdict(set)
    partial: set[Path] = set()
    with _reading_outs(project) as outs:
        for out in outs:
            if not out.use_cache or not out.hash_info:
                continue
            name = relative_path(out.fs_path, project)
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
        if digest != _digest_in_name(path) and (digest is not None or path in partial)
    ]
    return damaged, sum(path.stat().st_size for path, digest in digests.items() if digest is not None)


def count_absent_files(project: Path) -> int:
    """Return how many files of the current version are missing from the cache, for example before a `dvc pull`.

    Raises:
        DatasetError: if DVC cannot read the project, because `.dvc` is missing or one of its files is damaged.
    """
    absent = 0
    with _reading_outs(project) as outs:
        for out in outs:
            if not out.use_cache or not out.hash_info:
                continue
            path = Path(out.cache.oid_to_path(out.hash_info.value))
            if not path.exists():
                absent += out.meta.nfiles or 1
            elif out.hash_info.isdir:
                absent += sum(not Path(out.cache.oid_to_path(md5)).exists() for _, md5 in _files_of(path))
    return absent


def find_refused_names(project: Path) -> Iterator[Finding]:
    """Yield a finding for each non-UTF-8 file name in a cached out. DVC's own error does not name the file.

    Raises:
        DatasetError: if DVC cannot read the project, because `.dvc` is missing or one of its files is damaged.
    """
    with _reading_outs(project) as outs:
        folders = sorted({Path(out.fs_path) for out in outs if out.use_cache and Path(out.fs_path).is_dir()})
    for folder in folders:
        for path in find_names_that_are_not_utf8(folder):
            yield Finding(
                f"{quote_bytes(os.fsencode(path.relative_to(project)))}: DVC supports only UTF-8 names",
                f"rename it: mv {quote_bytes(os.fsencode(path.relative_to(project)))} NEW_NAME",
            )


def find_names_that_are_not_utf8(folder: Path) -> Iterator[Path]:
    """Yield the files and folders below a folder whose names are not UTF-8, sorted by path."""
    for place, folders, files in sorted(os.walk(folder)):
        for name in sorted([*folders, *files]):
            try:
                os.fsencode(name).decode()
            except UnicodeDecodeError:
                yield Path(place) / name


def quote_bytes(name: bytes) -> str:
    """Quote a name that is not valid UTF-8 in a form that bash and zsh can read.

    The result has the form `$'caf…'`, with the bytes as octal escapes.
    """
    plain = (chr(byte) if 32 <= byte < 127 and byte not in b"'\\" else f"\\{byte:03o}" for byte in name)
    return f"$'{''.join(plain)}'"


def find_unsaved_files(project: Path) -> Iterator[Finding]:
    """Yield a finding for each stage or `.dvc` file with untracked files in its cached outs.

    `dvc exp run`, `dvc exp apply` and `dvc checkout --force` would delete or replace these files. Files in uncached
    outs and files outside all outs are not reported, because DVC does not touch them.

    Raises:
        DatasetError: if DVC cannot read the project, because `.dvc` is missing or one of its files is damaged.
    """
    unsaved: dict[str, list[str]] = defaultdict(list)
    with _reading_outs(project) as outs:
        for out in outs:
            # The same check as in `dvc data status`. `status()` also reports missing files, which cannot be lost.
            if out.use_cache and out.exists and out.status():
                unsaved[out.stage.addressing].extend(_unsaved_files_of(out, project))
    for stage, files in sorted(unsaved.items()):
        if files:
            yield Finding(f"not stored by DVC: {list_names(files, 3)}", f"dvc commit --force {shlex.quote(stage)}")


def _unsaved_files_of(out: Output, project: Path) -> list[str]:
    """Return the files in an out that have no copy in the cache, as paths relative to the project."""
    root = Path(out.fs_path)
    stored = Path(out.cache.oid_to_path(out.hash_info.value)) if out.hash_info else None
    if not root.is_dir():
        digest = _digest_of_object(root)
        kept = {root: _digest_in_name(stored)} if stored is not None and stored.exists() else {}
        return [relative_path(str(root), project)] if kept.get(root) != digest else []
    kept = {root / name: md5 for name, md5 in _files_of(stored)} if stored is not None else {}
    kept = {path: md5 for path, md5 in kept.items() if Path(out.cache.oid_to_path(md5)).exists()}
    files = (Path(path) for path in out.dvcignore.find(out.fs, out.fs_path))
    return [relative_path(str(path), project) for path in sorted(files) if kept.get(path) != _digest_of_object(path)]


@contextlib.contextmanager
def _reading_outs(project: Path) -> Iterator[Iterable[Output]]:
    """Yield the outs of all dvc.yaml and `.dvc` files.

    Raises:
        DatasetError: if DVC cannot read the project, because `.dvc` is missing or one of its files is damaged.
    """
    from dvc.exceptions import DvcException
    from dvc.repo import Repo

    with contextlib.ExitStack() as stack:
        try:
            outs = list(stack.enter_context(Repo(project)).index.outs)
        except DvcException as error:
            raise DatasetError(
                f"{project}: DVC cannot read its files: {error} → restore the committed files (see `git status`), or "
                "use a clone; an unpacked source archive is not a DVC repository"
            ) from error
        yield outs


def describe_damage(objects: Iterable[DamagedObject], project: Path) -> list[Finding]:
    """Return one finding per damaged object."""
    return [
        Finding(
            f"{', '.join(one.used_by)}: {relative_path(str(one.path), project)} "
            + (
                "is missing from DVC's cache"
                if one.is_missing
                else "is damaged: its content does not match the digest in its name"
            ),
            _REMEDY_OF_OBJECTS,
        )
        for one in objects
    ]


def remove_objects(objects: Iterable[DamagedObject], project: Path) -> int:
    """Delete damaged cache files and return their number. DVC can then fetch or write the files again.

    Workspace files that link to damaged files or have the same wrong content are deleted too, because DVC's state
    database lists them as valid. Intact files are kept.
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


def _files_of(directory_object: Path) -> list[tuple[str, str]]:
    """Return the path and digest of each file in a folder's cache object, or [] if the object cannot be read."""
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


def _digest_in_name(path: Path) -> str:
    return (path.parent.name + path.name).removesuffix(".dir")
