"""Optimizers against their formulas in NumPy, and their state by the network's names."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import paddle
import pytest

from resnet50_pipeline.exceptions import CheckpointError
from resnet50_pipeline.trainer.network import build_network
from resnet50_pipeline.trainer.optimizer import (
    build_optimizer,
    optimizer_shapes,
    optimizer_tensors,
    restore_optimizer,
)
from resnet50_pipeline.trainer.schedule import build_schedule
from resnet50_pipeline.training_config import AdamWConfig, ArchConfig, MomentumConfig, OptimizerConfig, Regularizer

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
            "regularizer": Regularizer(name="L2", coeff=0.01),
            **changes,
        }
    )


def adamw(**changes: Any) -> AdamWConfig:
    return AdamWConfig.model_validate({"name": "AdamW", "lr": LR, "weight_decay": 0.1, "beta2": 0.99, **changes})


class Run:
    """A network, its optimizer and schedule, and what the gradients were."""

    def __init__(self, config: OptimizerConfig, arch: ArchConfig | None = None) -> None:
        paddle.seed(1)
        self.network = build_network(arch or ArchConfig(name="ResNet18", class_num=5))
        self.schedule = build_schedule(config.lr, EPOCHS, STEPS)
        self.optimizer = build_optimizer(config, self.schedule, self.network)

    def step(self) -> Arrays:
        """Step once and return the gradients."""
        self.network(IMAGES).square().mean().backward()
        gradients = {name: p.grad.numpy() for name, p in self.trained()}
        self.optimizer.step()
        self.optimizer.clear_grad()
        self.schedule.step()
        return gradients

    def trained(self) -> list[tuple[str, paddle.Tensor]]:
        """Return the parameters that an optimizer moves, by name."""
        return [(name, p) for name, p in self.network.named_parameters() if not p.stop_gradient]

    def weights(self) -> Arrays:
        """Return a copy of all weights and running statistics."""
        return {name: tensor.numpy() for name, tensor in self.network.state_dict().items()}

    def state(self) -> Arrays:
        """Return a copy of what the optimizer remembers."""
        return {name: tensor.numpy() for name, tensor in optimizer_tensors(self.network, self.optimizer).items()}


def is_spared(name: str) -> bool:
    return name.endswith((".bias", ".bn.weight"))


def momentum_formula(nesterov: bool, spared: Callable[[str], bool]) -> Callable[..., tuple[np.ndarray, Arrays]]:
    def update(name: str, w: np.ndarray, g: np.ndarray, state: Arrays, *, rate: float, step: int):
        g = g + (0 if spared(name) else 0.01) * w
        v = 0.9 * state.get("v", 0) + g
        return w - rate * (g + 0.9 * v if nesterov else v), {"v": v}

    return update


def adamw_formula(spared: Callable[[str], bool]) -> Callable[..., tuple[np.ndarray, Arrays]]:
    def update(name: str, w: np.ndarray, g: np.ndarray, state: Arrays, *, rate: float, step: int):
        m = 0.9 * state.get("m", 0) + 0.1 * g
        v = 0.99 * state.get("v", 0) + 0.01 * g**2
        w = w * (1 - rate * (0 if spared(name) else 0.1))
        return w - rate * (m / (1 - 0.9**step)) / (np.sqrt(v / (1 - 0.99**step)) + 1e-8), {"m": m, "v": v}

    return update


@pytest.mark.parametrize(
    ("config", "formula"),
    [
        (momentum(), momentum_formula(False, lambda _: False)),
        (momentum(use_nesterov=True), momentum_formula(True, lambda _: False)),
        (momentum(one_dim_param_no_weight_decay=True), momentum_formula(False, is_spared)),
        (
            momentum(no_weight_decay_name="fc stem"),
            momentum_formula(False, lambda name: "fc" in name or "stem" in name),
        ),
        (adamw(), adamw_formula(lambda _: False)),
        (adamw(one_dim_param_no_weight_decay=True), adamw_formula(is_spared)),
        (adamw(no_weight_decay_name="bn fc.bias"), adamw_formula(is_spared)),
    ],
    ids=["plain", "nesterov", "no-1d-decay", "no-decay-by-name", "adamw", "adamw-no-1d", "adamw-by-name"],
)
def test_every_weight_moves_by_the_formula(config: OptimizerConfig, formula: Callable[..., tuple[np.ndarray, Arrays]]):
    """Each step of each weight is what the formula, in double precision, makes of the gradient and its past."""
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


def test_no_decay_reaches_scales_shifts_and_biases_alone():
    """With no gradient at all, decay is all that moves a weight: kernels and the head's matrix, nothing else."""
    run = Run(momentum(one_dim_param_no_weight_decay=True, momentum=0.0))
    before = run.weights()
    for _, parameter in run.trained():
        parameter.grad = paddle.zeros_like(parameter)
    run.optimizer.step()
    after = run.weights()
    moved = {name for name in before if not np.array_equal(before[name], after[name])}
    assert moved == {name for name, p in run.trained() if len(p.shape) > 1}


def test_lr_mult_list_scales_the_rate_of_each_stage():
    """Stem and four stages have their factors, the head has 1; with momentum 0 a step is rate · factor · gradient.

    Also where some parameters have no decay: Paddle's parameter groups would set all factors to 1.
    """
    arch = ArchConfig(name="ResNet18", class_num=5, lr_mult_list=(0.1, 0.2, 0.3, 0.4, 0.5))
    config = momentum(momentum=0.0, regularizer=Regularizer(name="L2", coeff=0.0), one_dim_param_no_weight_decay=True)
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


def test_clip_norm_bounds_every_gradient_on_its_own():
    """ClipGradByNorm: no parameter moves by more than rate · clip_norm (momentum 0, no decay)."""
    run = Run(momentum(momentum=0.0, regularizer=Regularizer(name="L2", coeff=0.0), clip_norm=1e-3))
    before, rate = run.weights(), run.schedule()
    gradients = run.step()
    after = run.weights()
    assert max(np.linalg.norm(gradient) for gradient in gradients.values()) > 1e-2
    assert max(np.linalg.norm(after[name] - before[name]) for name in gradients) <= rate * 1e-3 * 1.01


@pytest.mark.parametrize("config", [momentum(), momentum(one_dim_param_no_weight_decay=True), adamw()])
def test_restored_optimizer_goes_on_bit_by_bit(config: OptimizerConfig):
    """State by name, taken to an optimizer of another network in the same process, gives the same weights exactly."""
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


def test_state_has_the_network_s_names():
    """Keys are the network's names, whatever Paddle calls its tensors in this process."""
    run = Run(adamw())
    assert run.state() == {}
    run.step()
    arrays = run.state()
    kinds = ("moment1", "moment2", "beta1_pow_acc", "beta2_pow_acc")
    assert arrays.keys() == {f"{name}/{kind}" for name, _ in run.trained() for kind in kinds}
    assert arrays["fc.weight/moment1"].shape == (512, 5)


@pytest.mark.parametrize("config", [momentum(), adamw()])
def test_shapes_are_known_before_there_is_a_state(config: OptimizerConfig):
    """What the optimizer will remember of each weight after the first step is known by name and shape before it."""
    run = Run(config)
    expected = optimizer_shapes(run.network, run.optimizer)
    run.step()
    assert expected == {name: list(array.shape) for name, array in run.state().items()}


def test_state_before_the_first_step_is_restored_too():
    """A set from before the first step has no optimizer tensors, and that is what is restored."""
    run = Run(momentum())
    restore_optimizer(run.network, run.optimizer, {}, run.schedule.state_dict())
    run.step()


@pytest.mark.parametrize("damage", ["missing", "strange", "shape", "other optimizer"])
def test_state_that_does_not_fit_is_refused(damage: str):
    """What is missing, too much, of another shape or of another optimizer is named."""
    run = Run(momentum())
    run.step()
    arrays = run.state()
    if damage == "missing":
        del arrays["fc.weight/velocity"]
    elif damage == "strange":
        arrays["fc.wait/velocity"] = arrays["fc.weight/velocity"]
    elif damage == "shape":
        arrays["fc.weight/velocity"] = arrays["fc.weight/velocity"][:, :2]
    else:
        arrays = {name.replace("/velocity", "/moment1"): array for name, array in arrays.items()}
    with pytest.raises(CheckpointError, match="optimizer's state is not of this network"):
        restore_optimizer(run.network, run.optimizer, arrays, run.schedule.state_dict())


def test_frozen_layers_have_no_state_and_do_not_move():
    """The optimizer knows trainable parameters only."""
    run = Run(momentum(), ArchConfig(name="ResNet18", class_num=5, freeze=("stem", "blocks.[0-3]")))
    before = run.weights()
    run.step()
    after = run.weights()
    frozen = {name for name in before if name.startswith(("stem.", *(f"blocks.{number}." for number in range(4))))}
    for name in frozen:
        np.testing.assert_array_equal(before[name], after[name], err_msg=name)
    assert not {name.rpartition("/")[0] for name in run.state()} & frozen
    assert not np.array_equal(before["fc.weight"], after["fc.weight"])
