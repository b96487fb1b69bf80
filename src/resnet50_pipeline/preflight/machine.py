"""Memory, files, clock and libraries of this machine, against what the ranks and their loaders take."""

from __future__ import annotations

import ctypes
import os
import platform
import resource
import sys
import tempfile
import time
from pathlib import Path

import psutil

from resnet50_pipeline.exceptions import MissingLibraryError
from resnet50_pipeline.parameters import TrainingParameters
from resnet50_pipeline.preflight.findings import Finding, judge, show_bytes

# What opencv-python is linked against and does not carry, and the packages that hold it.
SYSTEM_LIBRARIES = {
    "libGL.so.1": ("libgl1", "mesa-libGL"),
    "libgthread-2.0.so.0": ("libglib2.0-0", "glib2"),
}
_SHM = "/dev/shm"  # noqa: S108 - the device, not a place for files of ours
_CGROUP = Path("/sys/fs/cgroup")

# Measured (PSS, paddlepaddle 3.3.1 on CPU): a rank with ResNet50 and its optimizer after one step of a few small
# images, what a loader process adds of its own, and Kedro with MLflow and pandas beside them.
_RANK_BYTES = 800 * 2**20
_LOADER_BYTES = 100 * 2**20
_CONTROL_BYTES = 600 * 2**20
# Files that Paddle and Python hold open in a rank; each loader process adds pipes, queues and mapped batches.
_RANK_FILES, _LOADER_FILES = 256, 32
_CLOCK_SKEW_SECONDS = 5.0
# paddle.io.DataLoader's prefetch_factor: batches that each loader process has under way.
_PREFETCHED = 2


def check_python() -> Finding:
    """Paddleclas 2.6.0 pins a numpy that exists up to Python 3.11; typing.Self asks for 3.11."""
    return judge(
        sys.version_info[:2] == (3, 11),
        "blocking",
        "Python",
        found=platform.python_version(),
        needed="3.11",
        remedy="install Python 3.11, then `make setup PYTHON=/path/to/python3.11`",
    )


def require_system_libraries() -> None:
    """Check that the shared libraries that OpenCV needs are installed, before `import cv2` fails without a hint.

    Raises:
        MissingLibraryError: with the commands that install them.
    """
    missing = [name for name in SYSTEM_LIBRARIES if not _can_be_loaded(name)]
    if missing:
        apt = " ".join(SYSTEM_LIBRARIES[name][0] for name in missing)
        dnf = " ".join(SYSTEM_LIBRARIES[name][1] for name in missing)
        raise MissingLibraryError(
            f"OpenCV needs {' and '.join(missing)}, which this machine does not have; install with\n"
            f"  apt-get install -y {apt}    (Debian, Ubuntu)\n"
            f"  dnf install -y {dnf}    (Fedora, RHEL)"
        )


def check_system_libraries() -> Finding:
    """`require_system_libraries`, as a finding."""
    needed = " and ".join(SYSTEM_LIBRARIES)
    try:
        require_system_libraries()
    except MissingLibraryError as error:
        what, _, how = str(error).partition("; install with\n")
        return Finding("libraries", "blocking", what, needed, " ".join(how.split()))
    return Finding("libraries", "ok", "those of OpenCV", needed)


def shared_memory_bytes(training: TrainingParameters) -> int:
    """Return what the loaders share with their ranks at most: in /dev/shm with PaddleClas' engine.

    ranks x (2 x num_workers + 1) x bytes of a batch: each worker has 2 batches under way (DataLoader's
    prefetch_factor), and one is in use. An image is float32 [3, size, size] and two int64. Train and eval batches are
    never under way together, so the larger counts; but the native engine's loaders keep their memory, so both do.
    Without workers nothing is shared.
    """
    workers = training.loader.num_workers
    if workers == 0:
        return 0
    batches = [
        images * (3 * size * size * 4 + 16)
        for images, size in (
            (training.batch_size_per_rank, training.train_transform.size),
            (training.eval_batch_size_per_rank, training.eval_transform.size),
        )
    ]
    counted = sum(batches) if training.engine == "native" else max(batches)
    return len(training.launch.devices) * (_PREFETCHED * workers + 1) * counted


def check_shared_memory(training: TrainingParameters, path: Path = Path(_SHM)) -> Finding:
    """A loader that finds no room in /dev/shm is killed by SIGBUS, hours later as well as at once."""
    if training.engine == "native":
        return Finding(_SHM, "ok", "not used", "nothing (engine native: batches are in the ranks' own memory)")
    needed = shared_memory_bytes(training)
    if needed == 0:
        return Finding(_SHM, "ok", "not used", "nothing (loader.num_workers: 0)")
    formula = f"{show_bytes(needed)} (ranks x (2 x workers + 1) x batch)"
    if not path.is_dir():
        return Finding(_SHM, "blocking", f"{path} is not there", formula, "mount a tmpfs there")
    free = psutil.disk_usage(str(path)).free
    return judge(
        free >= needed,
        "blocking",
        _SHM,
        found=f"{show_bytes(free)} free",
        needed=formula,
        remedy=f"docker run --shm-size={max(1, -(-needed * 5 // 4 // 2**30))}g (or --ipc=host; Kubernetes: an emptyDir "
        "with medium: Memory), or lower training.loader.num_workers (0 needs none)",
    )


def check_memory(training: TrainingParameters, cgroup: Path = _CGROUP) -> Finding:
    """A floor, not an estimate: what processes take before the first batch; activations on CPU come on top."""
    ranks, workers = len(training.launch.devices), training.loader.num_workers
    # Train and eval have loader processes of their own, which live as long as the rank.
    needed = _CONTROL_BYTES + ranks * (_RANK_BYTES + 2 * workers * _LOADER_BYTES)
    if training.engine == "native":
        needed += shared_memory_bytes(training)
    available, limit = available_memory(cgroup)
    return judge(
        available >= needed,
        "warning",
        "memory",
        found=f"{show_bytes(available)} available{limit}",
        needed=f"{show_bytes(needed)} (0.6 + ranks x (0.8 + 0.2 x workers) + batches under way)",
        remedy="free memory, or lower training.loader.num_workers, or name fewer training.launch.devices",
    )


def available_memory(cgroup: Path = _CGROUP) -> tuple[int, str]:
    """Return the bytes that can be had, and ` (container limit)` where it is a control group that says so."""
    available = psutil.virtual_memory().available
    try:
        limit = int((cgroup / "memory.max").read_text())
        left = limit - int((cgroup / "memory.current").read_text())
    except (OSError, ValueError):  # no control group, or "max"
        return available, ""
    return (left, " (container limit)") if left < available else (available, "")


def check_processors(training: TrainingParameters) -> Finding:
    """More busy threads than processors make every rank wait for the slowest."""
    launch = training.launch
    ranks = len(launch.devices)
    # Loader processes of ranks that compute on the CPU work while their rank waits, or it waits for them.
    busy = launch.threads_per_rank + (training.loader.num_workers if launch.device != "cpu" else 0)
    needed = ranks * busy
    processors = len(os.sched_getaffinity(0))
    return judge(
        processors >= needed,
        "warning",
        "processors",
        found=str(processors),
        needed=f"{needed} (ranks x {'threads' if launch.device == 'cpu' else '(threads + workers)'})",
        remedy="lower training.launch.threads_per_rank or training.loader.num_workers, or expect slower steps",
    )


def check_open_files(training: TrainingParameters, limit: int | None = None) -> Finding:
    """Every loader process has pipes and mapped batches with its rank; at the limit it is `Too many open files`."""
    if limit is None:
        limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    needed = _RANK_FILES + 2 * training.loader.num_workers * _LOADER_FILES
    return judge(
        limit == resource.RLIM_INFINITY or limit >= needed,
        "blocking",
        "open files",
        found=f"{'no limit' if limit == resource.RLIM_INFINITY else limit} a process",
        needed=f"{needed} ({_RANK_FILES} + 2 x workers x {_LOADER_FILES})",
        remedy=f"ulimit -n {max(4096, needed)} in the shell that starts the run (docker run --ulimit nofile=…)",
    )


def check_encoding() -> Finding:
    """List files are UTF-8, and so must be the names of the files that they list."""
    encoding = sys.getfilesystemencoding()
    return judge(
        encoding.lower() == "utf-8",
        "warning",
        "file names",
        found=encoding,
        needed="utf-8",
        remedy="export LANG=C.UTF-8 (or PYTHONUTF8=1): other names than ASCII would not be found",
    )


def check_clock(folder: Path) -> Finding:
    """Heartbeats are modification times: a file server whose clock differs looks like ranks that hang."""
    existing = nearest_folder(folder)
    before = time.time()
    try:
        # Has no name on local file systems, so nothing is left even by a kill.
        with tempfile.TemporaryFile(dir=existing) as probe:
            probe.write(b"\0")
            probe.flush()
            written = os.fstat(probe.fileno()).st_mtime
    except OSError as error:
        return Finding(
            "workspace",
            "blocking",
            f"{existing}: {error.strerror}",
            "a folder that can be written to",
            "make it writable, or set workspace in conf/<environment>/globals.yml",
        )
    # Clocks of files tick in steps of up to 10 ms.
    skew = max(before - written - 0.02, written - time.time() - 0.02, 0.0)
    return judge(
        skew <= _CLOCK_SKEW_SECONDS,
        "warning",
        "workspace",
        found="writable" + ("" if skew < 1 else f", its clock {skew:.0f} s off"),
        needed=f"writable, clock within {_CLOCK_SKEW_SECONDS:g} s",
        remedy="synchronise the clocks of this machine and of the file server (chrony, ntpd)",
    )


def nearest_folder(path: Path) -> Path:
    """Return `path`, or the nearest folder above it that exists already."""
    while not path.is_dir() and path != path.parent:
        path = path.parent
    return path


def _can_be_loaded(library: str) -> bool:
    try:
        ctypes.CDLL(library)
    except OSError:
        return False
    return True
