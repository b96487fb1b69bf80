"""Locks on files and folders. A lock is released when the process that holds it ends, even if the process is killed."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import logging
import os
from collections.abc import Iterator
from pathlib import Path

from filelock import lock_descriptor

logger = logging.getLogger(__name__)

_UNKNOWN = "(unknown)"
# Errors from NFS without a lock daemon, Lustre without `-o flock`, and some FUSE file systems.
_UNSUPPORTED = frozenset({errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS})


def try_lock(descriptor: int) -> bool:
    """Lock an open file or folder until the descriptor is closed. Return False if another process holds the lock.

    Raises:
        OSError: if the file system does not support locks.
    """
    return lock_descriptor(descriptor, blocking=False)


def is_unsupported(error: OSError) -> bool:
    """Return whether the error means that the file system does not support locks."""
    return error.errno in _UNSUPPORTED


def _lock_or_warn(descriptor: int, path: Path, *, wait: bool = False) -> bool:
    """Lock a file or folder. If locks are not supported, warn and continue as if no other process held the lock."""
    try:
        return lock_descriptor(descriptor, blocking=wait)
    except OSError as error:
        if not is_unsupported(error):
            raise
        logger.warning(
            "%s: the file system does not support locks (%s), so a second process that uses this folder at the same "
            "time would not be detected",
            path,
            error.strerror,
        )
        return True


@contextlib.contextmanager
def holding(path: Path, *, wait: bool = False) -> Iterator[bool]:
    """Lock an existing file or folder while the block runs, without writing to it. Yield whether the lock is held.

    Args:
        path: file or folder.
        wait: whether to wait until the lock is free.

    Raises:
        OSError: if `path` cannot be opened.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        yield _lock_or_warn(descriptor, path, wait=wait)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def claiming(path: Path) -> Iterator[str | None]:
    """Hold a lock file that contains this process's PID while the block runs.

    Yields None if this process now holds the lock. Otherwise, yields the PID of the process that holds it, or
    `(unknown)` if that process has not written its PID yet.
    """
    with path.open("a+", encoding="utf-8") as file:
        if not _lock_or_warn(file.fileno(), path):
            file.seek(0)
            yield file.read().strip() or _UNKNOWN
            return
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield None


def find_holder(path: Path) -> str | None:
    """Return the PID in a lock file, `(unknown)` if the file contains no PID, or None if no process holds the lock."""
    with contextlib.suppress(FileNotFoundError), path.open(encoding="utf-8") as file:
        try:
            # filelock does not support shared locks. With exclusive locks, two processes that check at the same time
            # would each mistake the other for the holder.
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return file.read().strip() or _UNKNOWN
        except OSError as error:
            if not is_unsupported(error):
                raise
    return None
