"""Real lines of PaddleClas' log are parsed."""

from __future__ import annotations

import math

import pytest

from resnet50_pipeline.paddleclas.upstream.log import (
    BestMetric,
    EvalAverage,
    EvalLine,
    ImageReplaced,
    ModelSaved,
    PaddleFound,
    TrainAverage,
    TrainLine,
    read_log_line,
)

_PREFIX = "[2026/11/24 09:27:34] ppcls INFO: "


def test_iteration_line_is_parsed():
    """An iteration line contains epoch, index, rate, means and costs. Units and the remaining time are not values."""
    entry = read_log_line(
        f"{_PREFIX}[Train][Epoch 1/120][Iter: 30/5005]lr(LinearWarmup): 0.01931432, top1: 0.00313, top5: 0.01250, "
        "CELoss: 6.97001, loss: 6.97002, batch_cost: 0.21142s, reader_cost: 0.00408, ips: 302.71 samples/s, "
        "eta: 1 day, 11:02:03, max_mem_reserved: 1123.00 MB"
    )
    assert isinstance(entry, TrainLine)
    assert (entry.epoch, entry.iteration, entry.iterations, entry.learning_rate) == (1, 30, 5005, 0.01931432)
    assert (entry.values["loss"], entry.values["top1"]) == (6.97002, 0.00313)
    assert (entry.values["batch_cost"], entry.values["reader_cost"], entry.values["ips"]) == (0.21142, 0.00408, 302.71)


def test_learning_rate_of_older_releases_is_parsed():
    """Releases before 2.5 print the learning rate without the name of the schedule."""
    entry = read_log_line(f"{_PREFIX}[Train][Epoch 3/9][Iter: 0/6]lr: 0.1, loss: 1.0, batch_cost: 1.0s")
    assert isinstance(entry, TrainLine)
    assert entry.learning_rate == 0.1


@pytest.mark.parametrize(
    ("text", "value"), [("nan", math.nan), ("inf", math.inf), ("-inf", -math.inf), ("1e-05", 1e-5)]
)
def test_nan_and_inf_are_parsed(text: str, value: float):
    """A printed nan or inf is parsed as a value, so that a diverged loss is not mistaken for a missing one."""
    entry = read_log_line(f"{_PREFIX}[Train][Epoch 1/2][Avg]top1: 0.1, CELoss: {text}, loss: {text}")
    assert isinstance(entry, TrainAverage)
    assert entry.values["loss"] == pytest.approx(value, nan_ok=True)


def test_evaluation_lines_are_parsed():
    """The lines, average and end of an evaluation are parsed. The end shows whether it used averaged weights."""
    line = read_log_line(
        f"{_PREFIX}[Eval][Epoch 1][Iter: 5/6]CELoss: 64.0, loss: 64.0, top1: 0.33333, top3: 1.0, batch_cost: 0.00696s, "
        "reader_cost: 0.00010, ips: 143.62579 images/sec"
    )
    assert isinstance(line, EvalLine)
    assert line.values["batch_cost"] == 0.00696
    average = read_log_line(f"{_PREFIX}[Eval][Epoch 1][Avg]CELoss: 42.6, loss: 42.6, top1: 0.33333, top5: 0.9")
    assert average == EvalAverage(1, {"CELoss": 42.6, "loss": 42.6, "top1": 0.33333, "top5": 0.9})
    assert read_log_line(f"{_PREFIX}[Eval][Epoch 7][best metric: 0.3333333432674408]") == BestMetric(7, is_ema=False)
    assert read_log_line(f"{_PREFIX}[Eval][Epoch 7][best metric ema: 0.4]") == BestMetric(7, is_ema=True)


def test_other_relevant_lines_are_parsed():
    """Saved files, Paddle's version, and replaced images are parsed."""
    assert read_log_line(f"{_PREFIX}Already save model in /data/a b/epoch_12") == ModelSaved("/data/a b/epoch_12")
    assert read_log_line(f"{_PREFIX}train with paddle 3.3.1 and device Place(gpu:0)") == PaddleFound("3.3.1")
    replaced = read_log_line(
        "[2026/11/24 09:27:34] ppcls ERROR: Exception occured when parse line: /data/a.JPEG with msg: 'NoneType' …"
    )
    assert isinstance(replaced, ImageReplaced)
    assert replaced.problem.startswith("/data/a.JPEG")


@pytest.mark.parametrize(
    "line",
    [
        "",
        "LAUNCH INFO 2026-11-24 09:27:38,529 Pod completed",
        f"{_PREFIX}    epochs : 2",
        f"{_PREFIX}------------------------------------------------------------",
        "[Train][Epoch 1/2][Iter: 3/6] without the logger's prefix",
    ],
)
def test_irrelevant_lines_are_ignored(line: str):
    """Banners, the printed configuration, and the launcher's lines are ignored."""
    assert read_log_line(line) is None
