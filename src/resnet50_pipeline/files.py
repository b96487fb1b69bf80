"""Writes files and folders atomically: under a temporary name, flushed to disk, then renamed."""

from __future__ import annotations

import atexit
import contextlib
import errno
import hashlib
import json
import os
import shutil
import stat
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

from resnet50_pipeline.exceptions import OutputDirectoryInUseError
from resnet50_pipeline.processes.locks import holding, is_unsupported, try_lock

_TEMPORARY_SUFFIX = ".tmp"
_CANNOT_FLUSH = frozenset({errno.EINVAL, errno.EOPNOTSUPP, errno.EACCES, errno.EBADF})


def shorten_path(path: Path) -> Path:
    """Return the path for display: relative to the current folder if the path is inside it."""
    here = Path.cwd()
    return path.relative_to(here) if path.is_relative_to(here) else path


@contextlib.contextmanager
def replacing_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path next to `path`. If the block succeeds, flush the file and rename it to `path`.

    If the block raises an exception, `path` is unchanged and the temporary file is removed, as are any temporary files
    that killed processes left behind for the same path.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary, descriptor = _create_sibling(path)
    try:
        yield temporary
        flush_to_disk(temporary)
        temporary.replace(path)
        flush_to_disk(path.parent)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    finally:
        os.close(descriptor)
    _remove_stale(path)


def write_bytes(path: Path, data: bytes) -> None:
    """Write `data` to `path` atomically."""
    with replacing_file(path) as temporary:
        temporary.write_bytes(data)


def write_text(path: Path, text: str) -> None:
    """Write `text` to `path` atomically, as UTF-8 and without changing newlines."""
    write_bytes(path, text.encode())


@contextlib.contextmanager
def staging_directory(parent: Path | None = None) -> Iterator[Path]:
    """Yield a new folder to fill, in `parent` or in the system's temporary folder.

    If the block fails, the folder is removed. Otherwise, it is kept for `replace_directory` to move, or removed at the
    end of the process if it is never moved.
    """
    staged = Path(tempfile.mkdtemp(prefix=".staged-", dir=parent))
    atexit.register(shutil.rmtree, staged, ignore_errors=True)
    # mkdtemp uses 0700, which other users cannot read. CIFS has fixed permissions.
    with contextlib.suppress(OSError):
        staged.chmod(0o755)
    try:
        yield staged
    except BaseException:
        shutil.rmtree(staged, ignore_errors=True)  # missing if the block moved the folder before failing
        raise


def replace_directory(staged: Path, path: Path) -> None:
    """Move the folder `staged` to `path`, and delete the previous content of `path`.

    If `staged` is on another file system, it is first copied next to `path`, so that the final step is a rename.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    incoming = _sibling(path)
    outgoing = _sibling(path)
    with contextlib.ExitStack() as locks:
        try:
            try:
                locks.enter_context(_held(staged))
                staged.replace(incoming)
            except OSError:
                incoming.mkdir()
                locks.enter_context(_held(incoming))
                _copy_content(staged, incoming)
                shutil.rmtree(staged)
            if path.exists():
                locks.enter_context(_held(path))
                path.replace(outgoing)
            incoming.replace(path)
            flush_to_disk(path.parent)
        finally:
            if outgoing.exists() and not path.exists():
                outgoing.replace(path)
            shutil.rmtree(incoming, ignore_errors=True)
            shutil.rmtree(outgoing, ignore_errors=True)
    _remove_stale(path)


def _copy_content(source: Path, target: Path) -> None:
    """Copy files, links and folders without their permissions or timestamps, which some file systems cannot set."""
    for path in source.iterdir():
        copy = target / path.name
        if path.is_symlink():
            copy.symlink_to(path.readlink())
        elif path.is_dir():
            copy.mkdir()
            _copy_content(path, copy)
        else:
            shutil.copyfile(path, copy)


def unshare_files(folder: Path) -> None:
    """Replace every symbolic or hard link under `folder` with a separate copy of the file.

    Call this before appending to or overwriting files. If DVC has linked them to its cache (`cache.type`), writing
    through a link would change the cached content under its old digest.
    """
    for path in [path for path in folder.rglob("*") if path.is_file()]:
        if path.is_symlink() or path.stat().st_nlink > 1:
            with replacing_file(path) as temporary:
                shutil.copyfile(path, temporary)


@contextlib.contextmanager
def claiming_folder(folder: Path, does: str) -> Iterator[None]:
    """Lock a folder while the block runs, without writing to it.

    The lock is released if this process is killed.

    Args:
        folder: existing folder.
        does: what the holder of the lock is doing, such as `unpacks to it`, for the error message.

    Raises:
        OutputDirectoryInUseError: if another process holds the lock.
    """
    with holding(folder) as is_free:
        if not is_free:
            raise OutputDirectoryInUseError(f"{folder}: another process {does} → wait until that process ends")
        yield


def _sibling(path: Path) -> Path:
    return path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}{_TEMPORARY_SUFFIX}")


def _create_sibling(path: Path) -> tuple[Path, int]:
    """Create a temporary file next to `path`. Return its path and a descriptor that locks it until closed."""
    while True:
        temporary = _sibling(path)
        descriptor = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        # Another process may have removed the file as stale between the two calls.
        if _lock(descriptor) and os.fstat(descriptor).st_nlink:
            return temporary, descriptor
        os.close(descriptor)


@contextlib.contextmanager
def _held(folder: Path) -> Iterator[None]:
    """Lock a folder while the block runs to keep other processes from removing it as stale, even after a rename."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        _lock(descriptor)
        yield
    finally:
        os.close(descriptor)


def _lock(descriptor: int) -> bool:
    """Lock a file or folder until its descriptor is closed. Return False if another process holds the lock."""
    try:
        return try_lock(descriptor)
    except OSError as error:
        # On network file systems without locks, stale files cannot be recognized, so no files are removed.
        if not is_unsupported(error):
            raise
        return True


def _remove_stale(path: Path) -> None:
    """Delete the temporary files of processes that were killed while they wrote `path`."""
    prefix = f".{path.name}."
    with os.scandir(path.parent) as entries:
        names = [entry.name for entry in entries if entry.name.startswith(prefix)]
    for name in names:
        if len(name) != len(prefix) + 8 + len(_TEMPORARY_SUFFIX) or not name.endswith(_TEMPORARY_SUFFIX):
            continue
        left = path.with_name(name)
        # A file that cannot be opened, locked or deleted belongs to another process or is already gone.
        with contextlib.suppress(OSError):
            descriptor = os.open(left, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
            try:
                if try_lock(descriptor):
                    shutil.rmtree(left) if left.is_dir() else left.unlink()
            finally:
                os.close(descriptor)


def flush_to_disk(path: Path) -> None:
    """Flush a file's content, or a folder's renames, to disk.

    CIFS and some FUSE file systems cannot flush folders, and write renames at a time of their choice.
    """
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _CANNOT_FLUSH or not stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise
    finally:
        os.close(descriptor)


def digest_file(path: Path) -> str:
    """Return the digest of a file's content as `sha256:…`."""
    with path.open("rb") as file:
        return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"


def digest_json(*values: object) -> str:
    """Return the digest of JSON values as `sha256:…`. The digest does not depend on the order of the keys."""
    text = json.dumps(values, sort_keys=True, ensure_ascii=False)
    return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"
