"""A rank's sign of life, and its end when nobody is left to watch it."""

from __future__ import annotations

import ctypes
import os
import signal
import threading
import time
from pathlib import Path

from resnet50_pipeline.training_dir import SUPERVISOR_PID, heartbeat_path

ORPHANED_EXIT_CODE = 75
_PR_SET_PDEATHSIG = 1  # <sys/prctl.h>
_BEAT_SECONDS = 1.0
_POLL_SECONDS = 2.0


class Heartbeat:
    """Touches `heartbeat.<rank>` at most once a second: its modification time is the last finished step's."""

    def __init__(self, training_dir: Path, rank: int) -> None:
        self.folder = training_dir
        self._path = heartbeat_path(training_dir, rank)
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._path.touch()
        self._last = time.monotonic()

    def beat(self) -> None:
        """Say that a step is done."""
        now = time.monotonic()
        if now - self._last >= _BEAT_SECONDS:
            os.utime(self._path)
            self._last = now


def exit_with_parent() -> None:
    """End this process within seconds of the death of the launcher or of the process that started the launcher.

    Neither can end its children when it is SIGKILLed itself, and ranks without them would hold their cards for ever.
    """
    # The kernel ends this process with the launcher, even while a library holds the interpreter's lock.
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    launcher = os.getppid()
    supervisor = int(os.environ.get(SUPERVISOR_PID, "0"))

    def watch() -> None:
        while os.getppid() == launcher and (not supervisor or _is_alive(supervisor)):
            time.sleep(_POLL_SECONDS)
        os._exit(ORPHANED_EXIT_CODE)

    threading.Thread(target=watch, name="exit-with-parent", daemon=True).start()


def _is_alive(pid: int) -> bool:
    """Whether a process runs; one that ended and waits for its parent (a zombie) does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"
