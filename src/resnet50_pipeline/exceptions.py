"""Defines the errors that users can fix.

PipelineError                       base class; the command line prints the message without a traceback
├── ParameterError                  a value in conf/ or --params is invalid
├── PreflightError                  the machine cannot execute the run (carries every finding)
├── DatasetError
│   ├── DatasetNotFoundError        the dataset root or a part of it is missing
│   ├── ListFileError               lines of a list file are invalid (carries every problem)
│   ├── ImageDecodeError            the bytes cannot be fully decoded as an image
│   ├── ImagesChangedError          images have changed since validation (carries every problem)
│   ├── DamagedShardsError          shards differ from what was packed (carries every problem)
│   └── ValidationFailedError       a blocking expectation failed
├── TrainingConfigError             a PaddleClas YAML has an unsupported key or value
├── CheckpointError                 a checkpoint set is missing, mixed, or damaged
├── CheckpointMirrorError           the store for checkpoint sets rejects a request, or does not respond (exit code 75)
├── RankFailedError                 a rank or the launcher failed (exit code 75 if it was killed, crashed or hung)
├── LoaderProcessError              a DataLoader worker of a rank failed
│   └── LoaderProcessKilledError    a DataLoader worker of a rank was killed (exit code 75)
├── DeviceMemoryError               a device is out of memory
├── ReplicasDifferError             the weights of the ranks are not identical: silent data corruption (exit code 5)
├── NonFiniteLossError              the loss or a weight is NaN or infinite (exit code 3; a sweep prunes such a trial)
├── SweepStoppedError               a trial of a sweep failed
├── FoldFailedError                 a fold of a cross-validation failed
├── EvaluationTableError            an evaluation table is invalid (carries every problem)
├── ResultNotSavedError             a result cannot be written: no space, no permission, read-only
├── ExportError                     the inference model's outputs differ from the checkpoint's
├── TrackingError                   MLflow rejects a request
│   ├── TrackingUnreachableError    the MLflow server, which the stage needs, does not respond (exit code 75)
│   └── VersionNotFoundError        a registered model has no such version
├── OutputDirectoryInUseError       another run is writing to the same folder
└── RunInterruptedError             SIGINT, SIGTERM or SIGHUP ended the run (carries the exit code)
"""

from __future__ import annotations

import errno
import signal
from collections.abc import Sequence
from pathlib import Path

MAX_PROBLEMS_SHOWN = 10


RETRY_EXIT_CODE = 75
"""Exit code of failures that may not occur again, so that a scheduler may repeat the run: EX_TEMPFAIL in sysexits.h."""


class PipelineError(Exception):
    """Base class of all errors that users can fix."""

    exit_code = 1


class ParameterError(PipelineError):
    """A parameter value is invalid."""


class PreflightError(PipelineError):
    """The machine does not meet the requirements of the run. `problems` contains all findings."""

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("this run would fail:\n" + _capped(self.problems, None))


class DatasetError(PipelineError):
    """The dataset cannot be used in its current state."""


class DatasetNotFoundError(DatasetError):
    """The dataset root, a split folder or a list file does not exist."""


class ListFileError(DatasetError):
    """Lines of a list file are invalid.

    `problems` contains all findings (`file:line: text → what to do`). The message shows the first `MAX_PROBLEMS_SHOWN`
    findings and the number of remaining findings.
    """

    def __init__(self, problems: Sequence[str], full_list: Path | None = None) -> None:
        self.problems = tuple(problems)
        super().__init__(_capped(self.problems, full_list))

    def name_full_list(self, path: Path) -> None:
        """Add the path of the file that lists all problems to the message."""
        self.args = (_capped(self.problems, path),)


class ImageDecodeError(DatasetError):
    """The bytes cannot be fully decoded as an image.

    Attributes:
        remedy: what to do with the file, such as "download or copy it again"; may be empty.
    """

    def __init__(self, message: str, remedy: str = "") -> None:
        super().__init__(message)
        self.remedy = remedy

    def named(self, name: str) -> ImageDecodeError:
        """Return a copy of the error, with the listed image's name before its message and the remedy after it."""
        remedy = f" → {self.remedy}, or remove its line from the list" if self.remedy else ""
        return ImageDecodeError(f"{name}: {self}{remedy}")


class ImagesChangedError(DatasetError):
    """Images have changed since data_validation. `problems` lists all of them."""

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = tuple(problems)
        super().__init__(
            f"{_capped(self.problems, None)}\n→ restore the images, or rerun data_validation and data_preparation"
        )


class DamagedShardsError(DatasetError):
    """Shards differ from the data that was packed. `problems` lists all damaged shards."""

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = tuple(problems)
        super().__init__(_capped(self.problems, None))


class ValidationFailedError(DatasetError):
    """Blocking expectations failed. `problems` lists all of them."""

    def __init__(self, problems: Sequence[str], full_list: Path | None = None) -> None:
        self.problems = tuple(problems)
        super().__init__(_capped(self.problems, full_list))


class TrainingConfigError(PipelineError):
    """A PaddleClas YAML file has an unsupported key or value."""


class CheckpointError(PipelineError):
    """A checkpoint set is missing, mixed, or damaged."""


class CheckpointMirrorError(PipelineError):
    """The object store for copies of checkpoint sets does not respond or rejects a request."""


class RankFailedError(PipelineError):
    """A rank or the launcher failed, was killed, or hung. `is_transient` is true if a restart may succeed."""

    is_transient = False

    def __init__(self, message: str, *, is_transient: bool = False) -> None:
        self.is_transient = is_transient
        if is_transient:
            self.exit_code = RETRY_EXIT_CODE
        super().__init__(message)


class LoaderProcessError(PipelineError):
    """A DataLoader worker of a rank failed."""

    is_transient = False


class LoaderProcessKilledError(LoaderProcessError):
    """A DataLoader worker of a rank was killed."""

    is_transient = True
    exit_code = RETRY_EXIT_CODE


class DeviceMemoryError(PipelineError):
    """A rank's device is out of memory."""


class NonFiniteLossError(PipelineError):
    """The loss or a weight became NaN or infinite."""

    exit_code = 3


class ReplicasDifferError(PipelineError):
    """The weights or the optimizer state of the ranks are not identical."""

    exit_code = 5


class SweepStoppedError(PipelineError):
    """A sweep's trial, or one of its data stages, failed."""


class FoldFailedError(PipelineError):
    """The run of a fold failed."""


class EvaluationTableError(PipelineError):
    """An evaluation table (predictions, label map, history) is invalid. `problems` contains all findings."""

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = tuple(problems)
        super().__init__(_capped(self.problems, None))


class ResultNotSavedError(PipelineError):
    """A file or folder of results cannot be written."""

    def __init__(self, path: Path, error: OSError) -> None:
        is_full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        step = (
            "free some space"
            if is_full
            else "make the folder writable, or set workspace in conf/<environment>/globals.yml"
        )
        super().__init__(f"{path}: write failed: {error.strerror or error} → {step}, then rerun")


class ExportError(PipelineError):
    """The exported inference model's outputs differ from those of its checkpoint."""


class TrackingError(PipelineError):
    """MLflow rejected a request."""


class TrackingUnreachableError(TrackingError):
    """The MLflow server does not respond."""

    exit_code = RETRY_EXIT_CODE


class VersionNotFoundError(TrackingError):
    """A registered model has no version with this number or alias."""


class OutputDirectoryInUseError(PipelineError):
    """Another running process uses the output folder."""


class RunInterruptedError(PipelineError):
    """A signal stopped the run. `exit_code` is 128 plus the signal number."""

    def __init__(self, signal_number: int) -> None:
        self.signal_number = signal_number
        self.exit_code = 128 + signal_number
        super().__init__(f"stopped by {signal.Signals(signal_number).name}")


def _capped(problems: Sequence[str], full_list: Path | None) -> str:
    shown = "\n".join(problems[:MAX_PROBLEMS_SHOWN])
    hidden = len(problems) - MAX_PROBLEMS_SHOWN
    if hidden > 0:
        shown += f"\n... and {hidden} more"
    if full_list is not None:
        shown += f"\nfull list: {full_list}"
    return shown
