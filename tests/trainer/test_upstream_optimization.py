"""Schedules, optimizers, losses and the average give what PaddleClas' own give from the same section of the YAML."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import paddle
import pytest
from pydantic import TypeAdapter

import upstream_optimization as cases
from resnet50_pipeline.trainer.data import Mixed
from resnet50_pipeline.trainer.ema import ExponentialMovingAverage
from resnet50_pipeline.trainer.losses import build_loss
from resnet50_pipeline.trainer.optimizer import build_optimizer
from resnet50_pipeline.trainer.schedule import build_schedule
from resnet50_pipeline.training_config import LossItem, OptimizerConfig

UPSTREAM: dict[str, Any] = json.loads(cases.RESULTS.read_text())
ANY_OPTIMIZER: TypeAdapter[OptimizerConfig] = TypeAdapter(OptimizerConfig)


def optimizer_of(section: dict[str, Any]) -> OptimizerConfig:
    return ANY_OPTIMIZER.validate_python(section)


@pytest.mark.parametrize("case", cases.SCHEDULES)
def test_rates_are_upstreams(case: str):
    """Every step of every epoch has upstream's rate, whether it moves by step or by epoch."""
    config = optimizer_of({**cases.OPTIMIZERS["momentum"], "lr": cases.SCHEDULES[case]}).lr
    schedule = build_schedule(config, cases.EPOCHS, cases.STEPS)
    found = []
    for _ in range(cases.EPOCHS * cases.STEPS):
        found.append(schedule())
        schedule.step()
    np.testing.assert_allclose(found, UPSTREAM["rates"][case], rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("case", [case for case in cases.OPTIMIZERS if case != "no decay by name"])
def test_weights_move_as_upstreams(case: str):
    """Fifteen steps of given gradients lead upstream's weights and ours to the same place."""
    config, network = optimizer_of(cases.OPTIMIZERS[case]), cases.build_small_network()
    schedule = build_schedule(config.lr, cases.EPOCHS, cases.STEPS)
    found = cases.move(network, build_optimizer(config, schedule, network), schedule)
    np.testing.assert_allclose(found, UPSTREAM["moved"][case], rtol=1e-5, atol=1e-6)


def test_upstream_s_momentum_with_names_has_no_decay_at_all():
    """Why `no_weight_decay_name` of Momentum is not compared: upstream then regularizes nothing (see optimizer.py)."""
    assert UPSTREAM["moved"]["no decay by name"] == UPSTREAM["moved"]["no decay"]


@pytest.mark.parametrize("case", cases.LOSSES)
def test_losses_are_upstreams(case: str):
    """The loss of labels, and of the mixtures that upstream gives as vectors, is upstream's."""
    section, is_mixed = cases.LOSSES[case]
    logits, labels, others, share = (paddle.to_tensor(array) for array in cases.given_logits())
    loss = build_loss((LossItem.model_validate(section),), cases.CLASSES)
    found = float(loss(logits, labels, Mixed(others, share) if is_mixed else None))
    assert found == pytest.approx(UPSTREAM["losses"][case], rel=1e-6)


def test_average_is_upstreams():
    """The average after four updates is upstream's, running statistics included."""
    network = cases.build_small_network()
    average = ExponentialMovingAverage(network, cases.DECAY)
    cases.average(network, average.update)
    with average.applied():
        np.testing.assert_allclose(cases.weights_of(network), UPSTREAM["average"], rtol=1e-5, atol=1e-6)


@pytest.mark.slow
@pytest.mark.skipif("PADDLECLAS_HOME" not in os.environ, reason="needs a checkout of PaddleClas release/2.6")
def test_kept_results_are_upstreams():
    """The checkout itself gives the numbers that are kept here."""
    command = [sys.executable, str(Path(cases.__file__)), os.environ["PADDLECLAS_HOME"]]
    found = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    assert found.keys() == UPSTREAM.keys()
    for kind in ("rates", "moved"):
        for case, numbers in UPSTREAM[kind].items():
            np.testing.assert_allclose(found[kind][case], numbers, rtol=1e-5, atol=1e-6, err_msg=case)
    assert found["losses"] == pytest.approx(UPSTREAM["losses"])
    np.testing.assert_allclose(found["average"], UPSTREAM["average"], rtol=1e-6)
