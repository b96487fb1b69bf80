"""Walks folders and stats what is in them; also a program, which starts in milliseconds for it imports hardly anything.

python -I -S folder_walk.py ROOT    folders on the standard input, what was found on the standard output
"""

from __future__ import annotations

import os
import sys
from array import array
from collections.abc import Iterable

# What stands for the time of a thing that is no regular file: a symbolic link, a FIFO, a device.
NOT_A_FILE = -1


class Found:
    """Files in the order in which they were found.

    Attributes:
        paths: relative to the root.
        sizes: int64, bytes.
        mtimes: int64, nanoseconds since 1970; `NOT_A_FILE` where it is no regular file.
    """

    def __init__(self) -> None:
        self.paths: list[str] = []
        self.sizes = array("q")
        self.mtimes = array("q")

    def pack(self) -> bytes:
        """Return paths, sizes and times as bytes, for a pipe."""
        names = os.fsencode("\0".join(self.paths))
        counts = array("q", [len(names), len(self.sizes)])
        return counts.tobytes() + names + self.sizes.tobytes() + self.mtimes.tobytes()


def walk_folders(root: str, folders: Iterable[str], found: Found) -> None:
    """Add everything below each of `folders` that is not a folder. Symbolic links are not followed.

    Args:
        root: dataset root, ends in a slash.
        folders: relative to `root`, each ends in a slash.
        found: is added to.
    """
    add_path, add_size, add_mtime = found.paths.append, found.sizes.append, found.mtimes.append
    pending = list(folders)
    while pending:
        folder = pending.pop()
        # Through a descriptor, the kernel resolves the name of each file alone and not its whole path.
        descriptor = os.open(root + folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            with os.scandir(descriptor) as entries:
                for entry in entries:
                    if entry.is_file(follow_symlinks=False):
                        status = entry.stat(follow_symlinks=False)
                        add_path(folder + entry.name)
                        add_size(status.st_size)
                        add_mtime(status.st_mtime_ns)
                    elif entry.is_dir(follow_symlinks=False):
                        pending.append(f"{folder}{entry.name}/")
                    else:
                        add_path(folder + entry.name)
                        add_size(entry.stat(follow_symlinks=False).st_size)
                        add_mtime(NOT_A_FILE)
        finally:
            os.close(descriptor)


def main() -> None:
    """Walk the folders of the standard input, which are separated by NUL."""
    found = Found()
    walk_folders(sys.argv[1], os.fsdecode(sys.stdin.buffer.read()).split("\0"), found)
    sys.stdout.buffer.write(found.pack())


if __name__ == "__main__":
    main()
