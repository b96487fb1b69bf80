"""Every error that this project raises on purpose.

PipelineError                       one clear message; the command line prints it without a traceback
├── ParameterError                  a value under conf/ or --params breaks a rule
├── MissingLibraryError             a system library is not installed (libGL)
├── PreflightError                  the machine lacks what the run needs (carries every finding)
├── DatasetError
│   ├── DatasetNotFoundError        the dataset root or one of its parts is not there
│   ├── ListFileError               lines of a list file break the format (carries every problem)
│   ├── ImageDecodeError            the bytes are not an image that can be decoded whole
│   ├── DamagedShardsError           shards are not what was packed (carries every problem)
│   └── ValidationFailedError       a blocking expectation does not hold
├── TrainingConfigError             a PaddleClas YAML has a key or value that is not supported
├── CheckpointError                 a checkpoint set is missing, mixed or damaged
├── RankFailedError                 a rank or the launcher ended badly
├── LoaderProcessError              a process that loads images for a rank was killed
├── NonFiniteLossError              the loss is NaN or infinite (exit code 3: a sweep gives such a trial up)
├── SweepStoppedError               a trial of a sweep failed
├── EvaluationTableError            a table of the evaluation breaks its format (carries every problem)
├── ExportError                     the inference model does not give the checkpoint's own outputs
├── TrackingError                   MLflow refuses, or cannot be reached where it is needed (registration)
├── OutputDirectoryInUseError       another run writes to the same folder
└── RunInterruptedError             SIGINT or SIGTERM ended the run (carries the exit code)
"""

from __future__ import annotations

import signal
from collections.abc import Sequence
from pathlib import Path

MAX_PROBLEMS_SHOWN = 10


class PipelineError(Exception):
    """Base of all errors that a user can do something about."""

    exit_code = 1


class ParameterError(PipelineError):
    """A parameter value breaks a rule."""


class MissingLibraryError(PipelineError):
    """A shared library of the operating system is missing."""


class PreflightError(PipelineError):
    """The machine lacks what the run needs; `problems` names every finding."""

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("this run cannot end well:\n" + _capped(self.problems, None))


class DatasetError(PipelineError):
    """The data set is not usable as it is."""


class DatasetNotFoundError(DatasetError):
    """The dataset root, a split folder or a list file does not exist."""


class ListFileError(DatasetError):
    """Lines of a list file break the format.

    `problems` holds every finding (`file:line: text → what to do`); the message shows the first
    `MAX_PROBLEMS_SHOWN` and counts the rest.
    """

    def __init__(self, problems: Sequence[str], full_list: Path | None = None) -> None:
        self.problems = tuple(problems)
        super().__init__(_capped(self.problems, full_list))

    def name_full_list(self, path: Path) -> None:
        """Let the message name the file that holds every problem, once there is one."""
        self.args = (_capped(self.problems, path),)


class ImageDecodeError(DatasetError):
    """The bytes are not an image that can be decoded whole."""


class DamagedShardsError(DatasetError):
    """Shards are not what was packed; `problems` names each of them."""

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = tuple(problems)
        super().__init__(_capped(self.problems, None))


class ValidationFailedError(DatasetError):
    """Blocking expectations do not hold; `problems` names each of them."""

    def __init__(self, problems: Sequence[str], full_list: Path | None = None) -> None:
        self.problems = tuple(problems)
        super().__init__(_capped(self.problems, full_list))


class TrainingConfigError(PipelineError):
    """A PaddleClas YAML has a key or a value that is not supported."""


class CheckpointError(PipelineError):
    """A checkpoint set is missing, mixed or damaged."""


class RankFailedError(PipelineError):
    """A rank or the launcher ended with an error, was killed or hung."""


class LoaderProcessError(PipelineError):
    """A process that loads images for a rank was killed."""


class NonFiniteLossError(PipelineError):
    """The loss became NaN or infinite."""

    exit_code = 3


class SweepStoppedError(PipelineError):
    """A trial of a sweep, or its data stages, failed."""


class EvaluationTableError(PipelineError):
    """A table of the evaluation (predictions, label map, history) breaks its format; `problems` names every finding."""

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = tuple(problems)
        super().__init__(_capped(self.problems, None))


class ExportError(PipelineError):
    """The exported inference model does not give the outputs of its checkpoint."""


class TrackingError(PipelineError):
    """MLflow refuses what it is asked, or cannot be reached where a stage needs its answer."""


class OutputDirectoryInUseError(PipelineError):
    """Another living process holds the output directory."""


class RunInterruptedError(PipelineError):
    """A signal asked the run to stop; `exit_code` is 128 + the signal's number."""

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
