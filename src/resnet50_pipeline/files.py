"""Writing so that a reader, or a run killed half-way, never sees half a result: write aside, flush, rename."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

from resnet50_pipeline.exceptions import OutputDirectoryInUseError

_TEMPORARY_SUFFIX = ".tmp"


@contextlib.contextmanager
def replacing_file(path: Path) -> Iterator[Path]:
    """Give a path beside `path` to write to; flush it to disk and rename it to `path` when the block ends well.

    When the block raises, `path` stands as it was and the temporary file is gone. Those of processes that were killed
    over the same path go as well.
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
    """Write `data` to `path` in one step."""
    with replacing_file(path) as temporary:
        temporary.write_bytes(data)


def write_text(path: Path, text: str) -> None:
    """Write `text` to `path` in one step: UTF-8, newlines as given."""
    write_bytes(path, text.encode())


@contextlib.contextmanager
def staging_directory(parent: Path | None = None) -> Iterator[Path]:
    """Give a new folder to fill, in `parent` or in the system's place for temporary files.

    It stays when the block ends well, for `replace_directory` to move it into place, and is gone when the block raises.
    """
    staged = Path(tempfile.mkdtemp(prefix=".staged-", dir=parent))
    staged.chmod(0o755)  # mkdtemp's 0700 would shut out everybody else who is to read the result
    try:
        yield staged
    except BaseException:
        shutil.rmtree(staged)
        raise


def replace_directory(staged: Path, path: Path) -> None:
    """Make `path` the directory `staged`, which is gone afterwards; what stood at `path` is deleted.

    `staged` may lie on another file system: it is copied beside `path` first, so that the last step is a rename.
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
                shutil.copytree(staged, incoming, symlinks=True, dirs_exist_ok=True)
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


def unshare_files(folder: Path) -> None:
    """Give every file below `folder` that is a link, or has a second name elsewhere, a copy of its own in its place.

    For what is about to be appended to or overwritten: where DVC links files to its cache instead of copying them
    (`cache.type`), a write through the link would change what the cache holds under the digest of the old content.
    """
    for path in [path for path in folder.rglob("*") if path.is_file()]:
        if path.is_symlink() or path.stat().st_nlink > 1:
            with replacing_file(path) as temporary:
                shutil.copyfile(path, temporary)


@contextlib.contextmanager
def claiming_folder(folder: Path, does: str) -> Iterator[None]:
    """Hold a folder against a second process; the claim ends with this one, however that ends. Writes nothing.

    Args:
        folder: that is there.
        does: what a process that holds it does there, as `unpacks to it`.

    Raises:
        OutputDirectoryInUseError: another process holds it.
    """
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise OutputDirectoryInUseError(f"{folder}: another process {does} → wait for its end") from error
    else:
        yield
    finally:
        os.close(descriptor)


def _sibling(path: Path) -> Path:
    return path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}{_TEMPORARY_SUFFIX}")


def _create_sibling(path: Path) -> tuple[Path, int]:
    """Create a temporary file beside `path`; return it, and a descriptor that is locked until it is closed."""
    while True:
        temporary = _sibling(path)
        descriptor = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        # Between the two calls another process may have taken it for one that was left.
        if _lock(descriptor) and os.fstat(descriptor).st_nlink:
            return temporary, descriptor
        os.close(descriptor)


@contextlib.contextmanager
def _held(folder: Path) -> Iterator[None]:
    """Keep others from taking a folder, by whatever name, for one that was left."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        _lock(descriptor)
        yield
    finally:
        os.close(descriptor)


def _lock(descriptor: int) -> bool:
    """Lock a file or folder until its descriptor is closed, however that happens; False where another process has."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        # Without locks (some network file systems) nothing can be told from what was left, and nothing is removed.
        if error.errno not in (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS):
            raise
    return True


def _remove_stale(path: Path) -> None:
    """Delete what processes that are no more, killed while they wrote `path`, have left beside it."""
    prefix = f".{path.name}."
    with os.scandir(path.parent) as entries:
        names = [entry.name for entry in entries if entry.name.startswith(prefix)]
    for name in names:
        if len(name) != len(prefix) + 8 + len(_TEMPORARY_SUFFIX) or not name.endswith(_TEMPORARY_SUFFIX):
            continue
        left = path.with_name(name)
        # What cannot be opened, locked or deleted is somebody else's, or gone by now.
        with contextlib.suppress(OSError):
            descriptor = os.open(left, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if left.is_dir():
                    shutil.rmtree(left)
                else:
                    left.unlink()
            finally:
                os.close(descriptor)


def flush_to_disk(path: Path) -> None:
    """Return when what was written to a file, or renamed in a folder, is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def digest_file(path: Path) -> str:
    """Return `sha256:…` of a file's content."""
    with path.open("rb") as file:
        return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"
