"""Parses lines of PaddleClas' log (`ppcls/engine/`, release/2.6 and its successor, the develop branch).

PaddleClas prints one line every `Global.print_batch_step` batches:

    [2026/11/24 09:27:34] ppcls INFO: [Train][Epoch 1/2][Iter: 3/6]lr(Piecewise): 0.10, top1: 0.37, loss: 2.4, …
"""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class PaddleFound:
    """`train with paddle …`: the engine has been built. The line contains Paddle's version."""

    version: str


@dataclass(frozen=True)
class TrainLine:
    """`[Train]…[Iter: i/n]`: rank 0's metrics, averaged since the start of the epoch, and its timings."""

    epoch: int
    iteration: int
    """0-based."""
    iterations: int
    learning_rate: float
    """Learning rate of the next step, because upstream advances its schedule before printing."""
    values: dict[str, float]


@dataclass(frozen=True)
class TrainAverage:
    """`[Train]…[Avg]`: rank 0's means over the epoch."""

    epoch: int
    values: dict[str, float]


@dataclass(frozen=True)
class EvalLine:
    """`[Eval]…[Iter: i/n]`: rank 0's times per batch."""

    values: dict[str, float]


@dataclass(frozen=True)
class EvalAverage:
    """`[Eval]…[Avg]`: means over the val list."""

    epoch: int
    values: dict[str, float]


@dataclass(frozen=True)
class BestMetric:
    """`[best metric: …]`: an epoch was evaluated. `is_ema` is true if the averaged weights were evaluated."""

    epoch: int
    is_ema: bool


@dataclass(frozen=True)
class ModelSaved:
    """`Already save model in …`: a checkpoint was saved.

    `stem` is the path without the suffixes `.pdparams`, `.pdopt` and `.pdstates`. Upstream writes `.pdstates` last.
    """

    stem: str


@dataclass(frozen=True)
class ImageReplaced:
    """An image could not be read, and upstream used another random image instead."""

    problem: str


LogEntry = (
    PaddleFound | TrainLine | TrainAverage | EvalLine | EvalAverage | BestMetric | ModelSaved | ImageReplaced | None
)

_NUMBER = r"[-+]?(?:\d+(?:\.\d*)?(?:[eE][-+]?\d+)?|nan|inf)"
_VALUE = re.compile(rf"(\w+): ({_NUMBER})")
_RATE = re.compile(rf"\blr(?:\([^)]*\))?: ({_NUMBER})")
_LINE = re.compile(r"ppcls (?:INFO|WARNING|ERROR): (.*)$")
_TRAIN = re.compile(r"\[Train\]\[Epoch (\d+)/\d+\]\[(?:Iter: (\d+)/(\d+)|Avg)\](.*)$")
_EVAL = re.compile(r"\[Eval\]\[Epoch (\d+)\]\[(Iter: \d+/\d+|Avg)\](.*)$")
_BEST = re.compile(r"\[Eval\]\[Epoch (\d+)\]\[best metric( ema)?: ")
_PADDLE = re.compile(r"train with paddle (\S+) and device")
_SAVED = re.compile(r"Already save model in (.+)$")
_REPLACED = re.compile(r"Exception occured when parse line: (.*)$")  # the spelling is upstream's


def read_log_line(line: str) -> LogEntry:  # noqa: PLR0911 - one return for each kind of line
    """Parse a log line. Return None if the line does not describe training progress."""
    found = _LINE.search(line)
    if found is None:
        return None
    message = found[1]
    if train := _TRAIN.match(message):
        epoch, iteration, iterations, rest = train.groups()
        if iteration is None:
            return TrainAverage(int(epoch), _values(rest))
        rate = _RATE.search(rest)
        learning_rate = float(rate[1]) if rate else float("nan")
        return TrainLine(int(epoch), int(iteration), int(iterations), learning_rate, _values(rest))
    if evaluated := _EVAL.match(message):
        epoch, kind, rest = evaluated.groups()
        return EvalAverage(int(epoch), _values(rest)) if kind == "Avg" else EvalLine(_values(rest))
    if best := _BEST.match(message):
        return BestMetric(int(best[1]), is_ema=best[2] is not None)
    if saved := _SAVED.match(message):
        return ModelSaved(saved[1].strip())
    if paddle := _PADDLE.match(message):
        return PaddleFound(paddle[1])
    if replaced := _REPLACED.match(message):
        return ImageReplaced(replaced[1])
    return None


def _values(text: str) -> dict[str, float]:
    return {name: float(value) for name, value in _VALUE.findall(text)}
