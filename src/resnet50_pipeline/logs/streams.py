"""Keeps a process alive after its terminal closes or its pipe loses its reader, by dropping further output."""

from __future__ import annotations

import errno
import io
import os
import sys
from typing import TextIO

# Errors from writing to a closed terminal and to a pipe without a reader.
_GONE = (errno.EIO, errno.EPIPE)


def survive_closed_terminal(*, result_in_stdout: bool = False) -> None:
    """Drop all output to stdout and stderr once the terminal is closed or the pipe has no reader.

    Otherwise, the next printed line would raise OSError and end the run.

    Args:
        result_in_stdout: whether the command prints its result to stdout. Such a command still exits when its
            pipe has no reader.
    """
    sys.stdout = _surviving_stream(sys.stdout, sys.__stdout__, (errno.EIO,) if result_in_stdout else _GONE)
    sys.stderr = _surviving_stream(sys.stderr, sys.__stderr__, _GONE)


class _SurvivingFile(io.FileIO):
    """A file descriptor that is redirected to /dev/null when a write fails with one of the errors in `gone`."""

    def __init__(self, descriptor: int, gone: tuple[int, ...]) -> None:
        super().__init__(descriptor, "wb", closefd=False)
        self._gone = gone

    def write(self, data: object, /) -> int:
        """Write or drop the bytes, and return their number."""
        try:
            return super().write(data)  # type: ignore[arg-type] # typeshed has no public name for bytes-like
        except OSError as error:
            if error.errno not in self._gone:
                raise
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self.fileno())
            os.close(nowhere)
            return super().write(data)  # type: ignore[arg-type]


def _surviving_stream(stream: TextIO, own: TextIO | None, gone: tuple[int, ...]) -> TextIO:
    """Wrap a stream so that it drops output instead of failing, unless a test or tool has replaced the stream."""
    if stream is not own or not isinstance(stream, io.TextIOWrapper):
        return stream
    stream.flush()
    return io.TextIOWrapper(
        io.BufferedWriter(_SurvivingFile(stream.fileno(), gone)),
        encoding=stream.encoding,
        errors=stream.errors,
        line_buffering=stream.line_buffering,
        write_through=stream.write_through,
    )
