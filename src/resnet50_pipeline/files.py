"""Writing so that a reader, or a run killed half-way, never sees half a result: write aside, flush, rename."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def replacing_file(path: Path) -> Iterator[Path]:
    """Give a path beside `path` to write to; flush it to disk and rename it to `path` when the block ends well.

    When the block raises, `path` stands as it was and the temporary file is gone.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = _sibling(path)
    try:
        yield temporary
        flush_to_disk(temporary)
        temporary.replace(path)
        flush_to_disk(path.parent)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


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
    try:
        try:
            staged.replace(incoming)
        except OSError:
            shutil.copytree(staged, incoming, symlinks=True)
            shutil.rmtree(staged)
        if path.exists():
            path.replace(outgoing)
        incoming.replace(path)
        flush_to_disk(path.parent)
    finally:
        if outgoing.exists() and not path.exists():
            outgoing.replace(path)
        shutil.rmtree(incoming, ignore_errors=True)
        shutil.rmtree(outgoing, ignore_errors=True)


def _sibling(path: Path) -> Path:
    return path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.tmp")


def flush_to_disk(path: Path) -> None:
    """Return when what was written to a file, or renamed in a folder, is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
