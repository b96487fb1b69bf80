"""TCP ports for servers that tests start."""

from __future__ import annotations

import itertools
import os
import re
import socket

# Below the range that Linux uses for outgoing connections, so no client of another test can take a port before the
# server starts. Every test process has its own range.
_FIRST, _PER_PROCESS = 20_000, 1_000
_candidates = itertools.cycle(range(_PER_PROCESS))


def free_port() -> int:
    """Return a port on which no program listens, and which no other test process returns."""
    worker = int(re.sub(r"\D", "", os.environ.get("PYTEST_XDIST_WORKER", "")) or 0)
    for candidate in itertools.islice(_candidates, _PER_PROCESS):
        port = _FIRST + worker % 12 * _PER_PROCESS + candidate
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("", port))
            except OSError:
                continue
            return port
    raise RuntimeError("no port is free")
