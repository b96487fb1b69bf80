"""Schedules, optimizers, losses and the average match PaddleClas' own when built from the same YAML sections."""

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
from resnet50_pipeline.recipe.losses import LossItem
from resnet50_pipeline.recipe.optimization import OptimizerConfig
from resnet50_pipeline.trainer.data.batches import Mixed
from resnet50_pipeline.trainer.optimization.ema import ExponentialMovingAverage
from resnet50_pipeline.trainer.optimization.losses import build_loss
from resnet50_pipeline.trainer.optimization.optimizer import build_optimizer, build_schedule

UPSTREAM: dict[str, Any] = json.loads(cases.RESULTS.read_text())
ANY_OPTIMIZER: TypeAdapter[OptimizerConfig] = TypeAdapter(OptimizerConfig)


def optimizer_of(section: dict[str, Any]) -> OptimizerConfig:
    return ANY_OPTIMIZER.validate_python(section)


@pytest.mark.parametrize("case", cases.SCHEDULES)
def test_learning_rates_match_upstream(case: str):
    """Every step of every epoch has the same rate as upstream, with and without `by_epoch`."""
    config = optimizer_of({**cases.OPTIMIZERS["momentum"], "lr": cases.SCHEDULES[case]}).lr
    schedule = build_schedule(config, cases.EPOCHS, cases.STEPS)
    found = []
    for _ in range(cases.EPOCHS * cases.STEPS):
        found.append(schedule())
        schedule.step()
    np.testing.assert_allclose(found, UPSTREAM["rates"][case], rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("case", [case for case in cases.OPTIMIZERS if case != "no decay by name"])
def test_weights_match_upstream(case: str):
    """Fifteen steps with the same gradients produce the same weights as upstream."""
    config, network = optimizer_of(cases.OPTIMIZERS[case]), cases.build_small_network()
    schedule = build_schedule(config.lr, cases.EPOCHS, cases.STEPS)
    found = cases.optimize(network, build_optimizer(config, schedule, network), schedule)
    np.testing.assert_allclose(found, UPSTREAM["moved"][case], rtol=1e-5, atol=1e-6)


def test_upstream_momentum_ignores_decay_with_names():
    """With `no_weight_decay_name`, upstream's Momentum applies no decay, so it is not compared (see optimizer.py)."""
    assert UPSTREAM["moved"]["no decay by name"] == UPSTREAM["moved"]["no decay"]


@pytest.mark.parametrize("case", cases.LOSSES)
def test_losses_match_upstream(case: str):
    """The loss equals upstream's for labels and for mixed targets, which upstream passes as vectors."""
    section, is_mixed = cases.LOSSES[case]
    logits, labels, others, share = (paddle.to_tensor(array) for array in cases.given_logits())
    loss = build_loss((LossItem.model_validate(section),), cases.CLASSES)
    found = float(loss(logits, labels, Mixed(others, share) if is_mixed else None))
    assert found == pytest.approx(UPSTREAM["losses"][case], rel=1e-6)


def test_average_matches_upstream():
    """The average after four updates equals upstream's, including running statistics."""
    network = cases.build_small_network()
    average = ExponentialMovingAverage(network, cases.DECAY)
    cases.average(network, average.update)
    with average.applied():
        np.testing.assert_allclose(cases.weights_of(network), UPSTREAM["average"], rtol=1e-5, atol=1e-6)


@pytest.mark.slow
@pytest.mark.skipif("PADDLECLAS_HOME" not in os.environ, reason="needs a checkout of PaddleClas release/2.6")
def test_recorded_results_match_the_checkout():
    """A PaddleClas checkout produces the numbers recorded in this repository."""
    command = [sys.executable, str(Path(cases.__file__)), os.environ["PADDLECLAS_HOME"]]
    found = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    assert found.keys() == UPSTREAM.keys()
    for kind in ("rates", "moved"):
        for case, numbers in UPSTREAM[kind].items():
            np.testing.assert_allclose(found[kind][case], numbers, rtol=1e-5, atol=1e-6, err_msg=case)
    assert found["losses"] == pytest.approx(UPSTREAM["losses"])
    np.testing.assert_allclose(found["average"], UPSTREAM["average"], rtol=1e-6)
