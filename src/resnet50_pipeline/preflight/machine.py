"""Checks this machine's memory, processors, open files and clock."""

from __future__ import annotations

import os
import platform
import resource
import sys
import tempfile
import time
from pathlib import Path

import psutil

from resnet50_pipeline.parameters import TrainingParameters
from resnet50_pipeline.preflight.findings import Finding, judge
from resnet50_pipeline.text import format_bytes

# As in pyproject.toml: typing.Self needs 3.11, and Paddle has no wheels for 3.14.
_LOWEST_PYTHON, _HIGHEST_PYTHON = (3, 11), (3, 13)
_SHM = "/dev/shm"  # noqa: S108 - only measured, never written to
_CGROUP = Path("/sys/fs/cgroup")

# Proportional set size (PSS) with paddlepaddle 3.3.1 on a CPU: a rank with ResNet50 and its optimizer after one step on
# a few small images, one loader process, and the control process with Kedro, MLflow and pandas.
_RANK_BYTES = 800 * 2**20
_LOADER_BYTES = 100 * 2**20
_CONTROL_BYTES = 600 * 2**20
# Open files of a rank, and how many more each loader process adds (pipes, queues and mapped batches).
_RANK_FILES, _LOADER_FILES = 256, 32
_CLOCK_SKEW_SECONDS = 5.0
# The prefetch_factor of paddle.io.DataLoader, in batches per loader process.
_PREFETCHED = 2


def check_python() -> Finding:
    """Check that this Python version is covered by the lock files."""
    return judge(
        _LOWEST_PYTHON <= sys.version_info[:2] <= _HIGHEST_PYTHON,
        "blocking",
        "Python",
        found=platform.python_version(),
        needed="3.11 to 3.13",
        remedy="install one of these versions, then `make setup PYTHON=/path/to/python3.12`",
    )


def check_decoders() -> Finding:
    """Check that the libraries that decode images can be imported, and show their versions."""
    try:
        from resnet50_pipeline.imaging.decode import describe_decoders
    except ImportError as error:
        return Finding("decoders", "blocking", f"cannot be imported: {error}", "simplejpeg and Pillow", "make setup")
    return Finding("decoders", "ok", describe_decoders(), "simplejpeg and Pillow")


def check_opencv() -> Finding:
    """Check that OpenCV can be imported. Unlike the headless package, `opencv-python` requires libGL and GLib."""
    try:
        import cv2
    except ImportError as error:
        remedy = "make setup, which installs opencv-python-headless; opencv-python also needs libGL and GLib"
        return Finding("OpenCV", "blocking", f"cannot be imported: {error}", "the module cv2", remedy)
    return Finding("OpenCV", "ok", cv2.__version__, "the module cv2")


def shared_memory_bytes(training: TrainingParameters) -> int:
    """Return the peak size, in bytes, of the batches that loader processes share with their ranks.

    The PaddleClas engine shares batches in /dev/shm. The formula is ranks x (2 x num_workers + 1) x bytes per batch:
    each worker prefetches 2 batches (DataLoader's prefetch_factor), and one batch is in use. An image consists of a
    float32 array [3, size, size] and two int64 values. Training and evaluation never prefetch at the same time, so only
    the larger batch counts. The native engine, however, keeps the memory of both loaders, so it needs the sum of the
    two. Without workers, no memory is shared.
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
    """Check the free space in /dev/shm. If there is not enough space, loader processes die with SIGBUS."""
    if training.engine == "native":
        return Finding(_SHM, "ok", "not used", "nothing (the native engine keeps batches in the ranks' memory)")
    needed = shared_memory_bytes(training)
    if needed == 0:
        return Finding(_SHM, "ok", "not used", "nothing (loader.num_workers: 0)")
    formula = f"{format_bytes(needed)} (ranks x (2 x workers + 1) x batch)"
    if not path.is_dir():
        return Finding(_SHM, "blocking", f"{path} does not exist", formula, f"mount a tmpfs at {path}")
    free = psutil.disk_usage(str(path)).free
    return judge(
        free >= needed,
        "blocking",
        _SHM,
        found=f"{format_bytes(free)} free",
        needed=formula,
        remedy=f"docker run --shm-size={max(1, -(-needed * 5 // 4 // 2**30))}g (or --ipc=host; Kubernetes: an emptyDir "
        "with medium: Memory), or lower training.loader.num_workers (0 needs none)",
    )


def check_memory(training: TrainingParameters, cgroup: Path = _CGROUP) -> Finding:
    """Check that the run's minimum memory is available. The minimum does not include activations on CPU ranks."""
    ranks, workers = len(training.launch.devices), training.loader.num_workers
    # Training and evaluation have separate loader processes, all alive until the rank exits.
    needed = _CONTROL_BYTES + ranks * (_RANK_BYTES + 2 * workers * _LOADER_BYTES)
    if training.engine == "native":
        needed += shared_memory_bytes(training)
    available, limit = available_memory(cgroup)
    return judge(
        available >= needed,
        "warning",
        "memory",
        found=f"{format_bytes(available)} available{limit}",
        needed=f"{format_bytes(needed)} (0.6 + ranks x (0.8 + 0.2 x workers) + prefetched batches)",
        remedy="free memory, lower training.loader.num_workers, or use fewer training.launch.devices",
    )


def available_memory(cgroup: Path = _CGROUP) -> tuple[int, str]:
    """Return the available memory in bytes, and the suffix ` (container limit)` if a control group limits it."""
    available = psutil.virtual_memory().available
    try:
        limit = int((cgroup / "memory.max").read_text())
        left = limit - int((cgroup / "memory.current").read_text())
    except (OSError, ValueError):  # no control group, or "max"
        return available, ""
    return (left, " (container limit)") if left < available else (available, "")


def check_processors(training: TrainingParameters) -> Finding:
    """Check that there is a processor for each busy thread. Otherwise, all ranks wait for the slowest one."""
    launch = training.launch
    ranks = len(launch.devices)
    # On a CPU, a rank and its loader processes rarely compute at the same time, so count only the rank's threads.
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
    """Check the limit on open files. Each loader process adds pipes and mapped batches to its rank's open files."""
    if limit is None:
        limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    needed = _RANK_FILES + 2 * training.loader.num_workers * _LOADER_FILES
    return judge(
        limit == resource.RLIM_INFINITY or limit >= needed,
        "blocking",
        "open files",
        found="unlimited" if limit == resource.RLIM_INFINITY else f"{limit} per process",
        needed=f"{needed} ({_RANK_FILES} + 2 x workers x {_LOADER_FILES})",
        remedy=f"ulimit -n {max(4096, needed)} in the shell that starts the run (docker run --ulimit nofile=…)",
    )


def check_encoding() -> Finding:
    """Check that Python encodes file names as UTF-8, which is the encoding of the list files."""
    encoding = sys.getfilesystemencoding()
    return judge(
        encoding.lower() == "utf-8",
        "warning",
        "file names",
        found=encoding,
        needed="utf-8",
        remedy="export LANG=C.UTF-8 (or PYTHONUTF8=1), so that non-ASCII names are found",
    )


def check_clock(folder: Path) -> Finding:
    """Check that the workspace is writable, and that the file server's clock agrees with this machine's clock.

    Heartbeats are file modification times. If the file server's clock is wrong, healthy ranks appear to hang.
    """
    existing = nearest_folder(folder)
    before = time.time()
    try:
        # On local file systems, this file has no name, so it disappears even if the process is killed.
        with tempfile.TemporaryFile(dir=existing) as probe:
            probe.write(b"\0")
            probe.flush()
            written = os.fstat(probe.fileno()).st_mtime
    except OSError as error:
        return Finding(
            "workspace",
            "blocking",
            f"{existing}: {error.strerror}",
            "a writable folder",
            "make the folder writable, or set workspace in conf/<environment>/globals.yml",
        )
    # File timestamps may be as coarse as 10 ms.
    skew = max(before - written - 0.02, written - time.time() - 0.02, 0.0)
    return judge(
        skew <= _CLOCK_SKEW_SECONDS,
        "warning",
        "workspace",
        found="writable" + ("" if skew < 1 else f", clock differs by {skew:.0f} s"),
        needed=f"writable, clock differs by at most {_CLOCK_SKEW_SECONDS:g} s",
        remedy="synchronize the clocks of this machine and the file server (chrony, ntpd)",
    )


def nearest_folder(path: Path) -> Path:
    """Return `path`, or its nearest parent that is an existing folder."""
    while not path.is_dir() and path != path.parent:
        path = path.parent
    return path
