"""Optimizers match NumPy implementations of their formulas, and their state is saved under the network's names."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import paddle
import pytest

from resnet50_pipeline.exceptions import CheckpointError
from resnet50_pipeline.recipe.optimization import AdamWConfig, MomentumConfig, OptimizerConfig
from resnet50_pipeline.recipe.run import ArchConfig
from resnet50_pipeline.trainer.network import build_network
from resnet50_pipeline.trainer.optimization.optimizer import build_optimizer, build_schedule
from resnet50_pipeline.trainer.optimization.optimizer_state import (
    optimizer_shapes,
    optimizer_tensors,
    restore_optimizer,
)

Arrays = dict[str, np.ndarray]
LR = {"name": "Cosine", "learning_rate": 0.05, "warmup_epoch": 1, "warmup_start_lr": 0.01}
EPOCHS, STEPS = 3, 2
IMAGES = paddle.to_tensor(np.random.default_rng(0).random((4, 3, 32, 32), dtype=np.float32))


def momentum(**changes: Any) -> MomentumConfig:
    return MomentumConfig.model_validate(
        {
            "name": "Momentum",
            "momentum": 0.9,
            "lr": LR,
            "regularizer": {"name": "L2", "coeff": 0.01},
            **changes,
        }
    )


def adamw(**changes: Any) -> AdamWConfig:
    return AdamWConfig.model_validate({"name": "AdamW", "lr": LR, "weight_decay": 0.1, "beta2": 0.99, **changes})


class Run:
    """A network with its optimizer and schedule."""

    def __init__(self, config: OptimizerConfig, arch: ArchConfig | None = None) -> None:
        paddle.seed(1)
        self.network = build_network(arch or ArchConfig(name="ResNet18", class_num=5))
        self.schedule = build_schedule(config.lr, EPOCHS, STEPS)
        self.optimizer = build_optimizer(config, self.schedule, self.network)

    def step(self) -> Arrays:
        """Take one step and return the gradients."""
        self.network(IMAGES).square().mean().backward()
        gradients = {name: p.grad.numpy() for name, p in self.trained()}
        self.optimizer.step()
        self.optimizer.clear_grad()
        self.schedule.step()
        return gradients

    def trained(self) -> list[tuple[str, paddle.Tensor]]:
        """Return the trainable parameters, keyed by name."""
        return [(name, p) for name, p in self.network.named_parameters() if not p.stop_gradient]

    def weights(self) -> Arrays:
        """Return a copy of all weights and running statistics."""
        return {name: tensor.numpy() for name, tensor in self.network.state_dict().items()}

    def state(self) -> Arrays:
        """Return a copy of the optimizer's state."""
        return {name: tensor.numpy() for name, tensor in optimizer_tensors(self.network, self.optimizer).items()}


def has_no_decay(name: str) -> bool:
    return name.endswith((".bias", ".bn.weight"))


def momentum_formula(nesterov: bool, without_decay: Callable[[str], bool]) -> Callable[..., tuple[np.ndarray, Arrays]]:
    def update(name: str, w: np.ndarray, g: np.ndarray, state: Arrays, *, rate: float, step: int):
        g = g + (0 if without_decay(name) else 0.01) * w
        v = 0.9 * state.get("v", 0) + g
        return w - rate * (g + 0.9 * v if nesterov else v), {"v": v}

    return update


def adamw_formula(without_decay: Callable[[str], bool]) -> Callable[..., tuple[np.ndarray, Arrays]]:
    def update(name: str, w: np.ndarray, g: np.ndarray, state: Arrays, *, rate: float, step: int):
        m = 0.9 * state.get("m", 0) + 0.1 * g
        v = 0.99 * state.get("v", 0) + 0.01 * g**2
        w = w * (1 - rate * (0 if without_decay(name) else 0.1))
        return w - rate * (m / (1 - 0.9**step)) / (np.sqrt(v / (1 - 0.99**step)) + 1e-8), {"m": m, "v": v}

    return update


@pytest.mark.parametrize(
    ("config", "formula"),
    [
        (momentum(), momentum_formula(False, lambda _: False)),
        (momentum(use_nesterov=True), momentum_formula(True, lambda _: False)),
        (momentum(one_dim_param_no_weight_decay=True), momentum_formula(False, has_no_decay)),
        (
            momentum(no_weight_decay_name="fc stem"),
            momentum_formula(False, lambda name: "fc" in name or "stem" in name),
        ),
        (adamw(), adamw_formula(lambda _: False)),
        (adamw(one_dim_param_no_weight_decay=True), adamw_formula(has_no_decay)),
        (adamw(no_weight_decay_name="bn fc.bias"), adamw_formula(has_no_decay)),
    ],
    ids=["plain", "nesterov", "no-1d-decay", "no-decay-by-name", "adamw", "adamw-no-1d", "adamw-by-name"],
)
def test_every_weight_follows_the_formula(config: OptimizerConfig, formula: Callable[..., tuple[np.ndarray, Arrays]]):
    """With the same gradients, each step changes each weight as the formula does in double precision."""
    run = Run(config)
    state: dict[str, Arrays] = {}
    for step in range(1, 5):
        before, rate = run.weights(), run.schedule()
        gradients = run.step()
        after = run.weights()
        for name, gradient in gradients.items():
            old, slope = before[name].astype(np.float64), gradient.astype(np.float64)
            expected, state[name] = formula(name, old, slope, state.get(name, {}), rate=rate, step=step)
            moved = np.abs(expected - old).max()
            np.testing.assert_allclose(after[name], expected, rtol=1e-5, atol=1e-4 * moved + 1e-8, err_msg=name)


def test_only_one_dimensional_parameters_are_exempt_from_decay():
    """With zero gradients, weight decay alone changes convolution kernels and the head's matrix, and nothing else."""
    run = Run(momentum(one_dim_param_no_weight_decay=True, momentum=0.0))
    before = run.weights()
    for _, parameter in run.trained():
        parameter.grad = paddle.zeros_like(parameter)
    run.optimizer.step()
    after = run.weights()
    moved = {name for name in before if not np.array_equal(before[name], after[name])}
    assert moved == {name for name, p in run.trained() if len(p.shape) > 1}


def test_lr_mult_list_scales_the_rate_of_each_stage():
    """With momentum 0, a step is rate · factor · gradient. The factor of the head is 1.

    Some parameters have no weight decay here. In this case, Paddle's parameter groups would set all factors to 1.
    """
    arch = ArchConfig(name="ResNet18", class_num=5, lr_mult_list=(0.1, 0.2, 0.3, 0.4, 0.5))
    config = momentum(momentum=0.0, regularizer={"name": "L2", "coeff": 0.0}, one_dim_param_no_weight_decay=True)
    run = Run(config, arch)
    before, rate = run.weights(), run.schedule()
    gradients = run.step()
    after = run.weights()
    for name, factor in {
        "stem.0.conv.weight": 0.1,
        "blocks.0.conv0.conv.weight": 0.2,
        "blocks.3.conv0.conv.weight": 0.3,
        "blocks.5.conv1.bn.bias": 0.4,
        "blocks.7.conv1.conv.weight": 0.5,
        "fc.weight": 1.0,
    }.items():
        np.testing.assert_allclose(before[name] - after[name], rate * factor * gradients[name], rtol=2e-2, atol=1e-8)


def test_clip_norm_limits_each_gradient_separately():
    """Gradient clipping limits each step: with momentum 0 and no decay, the change is at most rate · clip_norm."""
    run = Run(momentum(momentum=0.0, regularizer={"name": "L2", "coeff": 0.0}, clip_norm=1e-3))
    before, rate = run.weights(), run.schedule()
    gradients = run.step()
    after = run.weights()
    assert max(np.linalg.norm(gradient) for gradient in gradients.values()) > 1e-2
    assert max(np.linalg.norm(after[name] - before[name]) for name in gradients) <= rate * 1e-3 * 1.01


@pytest.mark.parametrize("config", [momentum(), momentum(one_dim_param_no_weight_decay=True), adamw()])
def test_restored_optimizer_continues_exactly(config: OptimizerConfig):
    """After the state is restored into a second network in the same process, the weights stay bit-identical."""
    whole = Run(config)
    for _ in range(2):
        whole.step()
    arrays, schedule = whole.state(), whole.schedule.state_dict()
    resumed = Run(config)
    resumed.network.set_state_dict({name: paddle.to_tensor(array) for name, array in whole.weights().items()})
    restore_optimizer(resumed.network, resumed.optimizer, arrays, schedule)
    assert resumed.optimizer.get_lr() == whole.optimizer.get_lr()
    for _ in range(2):
        whole.step()
        resumed.step()
    found = resumed.weights()
    for name, array in whole.weights().items():
        np.testing.assert_array_equal(found[name], array, err_msg=name)
    again = resumed.state()
    for name, array in whole.state().items():
        np.testing.assert_array_equal(again[name], array, err_msg=name)


def test_state_has_the_names_of_the_network():
    """The keys are the network's parameter names, regardless of how Paddle names the tensors in this process."""
    run = Run(adamw())
    assert run.state() == {}
    run.step()
    arrays = run.state()
    kinds = ("moment1", "moment2", "beta1_pow_acc", "beta2_pow_acc")
    assert arrays.keys() == {f"{name}/{kind}" for name, _ in run.trained() for kind in kinds}
    assert arrays["fc.weight/moment1"].shape == (512, 5)


@pytest.mark.parametrize("config", [momentum(), adamw()])
def test_shapes_are_known_before_the_first_step(config: OptimizerConfig):
    """`optimizer_shapes` predicts the names and shapes of the state after the first step."""
    run = Run(config)
    expected = optimizer_shapes(run.network, run.optimizer)
    run.step()
    assert expected == {name: list(array.shape) for name, array in run.state().items()}


def test_empty_state_can_be_restored():
    """A run can resume from a checkpoint set saved before the first step, which has no optimizer state."""
    run = Run(momentum())
    restore_optimizer(run.network, run.optimizer, {}, run.schedule.state_dict())
    run.step()


@pytest.mark.parametrize("damage", ["missing", "unknown", "shape", "other optimizer"])
def test_state_of_another_network_or_optimizer_is_rejected(damage: str):
    """If a tensor is missing, unknown, of the wrong shape or from another optimizer, the error names the tensor."""
    run = Run(momentum())
    run.step()
    arrays = run.state()
    if damage == "missing":
        del arrays["fc.weight/velocity"]
    elif damage == "unknown":
        arrays["fc.wait/velocity"] = arrays["fc.weight/velocity"]
    elif damage == "shape":
        arrays["fc.weight/velocity"] = arrays["fc.weight/velocity"][:, :2]
    else:
        arrays = {name.replace("/velocity", "/moment1"): array for name, array in arrays.items()}
    named = {"unknown": r"fc\.wait/velocity", "other optimizer": "/moment1"}.get(damage, r"fc\.weight/velocity")
    with pytest.raises(CheckpointError, match=named):
        restore_optimizer(run.network, run.optimizer, arrays, run.schedule.state_dict())


def test_frozen_layers_have_no_state_and_do_not_change():
    """The optimizer contains only trainable parameters."""
    run = Run(momentum(), ArchConfig(name="ResNet18", class_num=5, freeze=("stem", "blocks.[0-3]")))
    before = run.weights()
    run.step()
    after = run.weights()
    frozen = {name for name in before if name.startswith(("stem.", *(f"blocks.{number}." for number in range(4))))}
    for name in frozen:
        np.testing.assert_array_equal(before[name], after[name], err_msg=name)
    assert not {name.rpartition("/")[0] for name in run.state()} & frozen
    assert not np.array_equal(before["fc.weight"], after["fc.weight"])
