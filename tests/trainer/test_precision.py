"""Mixed precision: the scale, what is skipped, what is rounded, and what a CPU refuses."""

from __future__ import annotations

import json

import numpy as np
import paddle
import pytest

from resnet50_pipeline.exceptions import TrainingConfigError
from resnet50_pipeline.trainer import precision as module
from resnet50_pipeline.trainer.emulation import round_to
from resnet50_pipeline.trainer.network import build_network
from resnet50_pipeline.trainer.precision import LossScaler, Precision
from resnet50_pipeline.training_config import AMPConfig, ArchConfig

Arrays = dict[str, np.ndarray]
HALF = AMPConfig(emulate_on_cpu=True)
BRAIN = AMPConfig(emulate_on_cpu=True, dtype="bfloat16", scale_loss=1.0, use_dynamic_loss_scaling=False)
IMAGES = paddle.to_tensor(np.random.default_rng(0).random((4, 3, 32, 32), dtype=np.float32))


class Scaled:
    """One weight vector, its optimizer and a scaler."""

    def __init__(self, scale: float = 128.0, *, dynamic: bool = True) -> None:
        self.weight = paddle.create_parameter([3], "float32", default_initializer=paddle.nn.initializer.Constant(1.0))
        self.optimizer = paddle.optimizer.Momentum(0.5, parameters=[self.weight])
        self.scaler = LossScaler([self.weight], scale, dynamic=dynamic)

    def step(self, slopes: list[float]) -> np.ndarray:
        """Step with a loss of these slopes, and return the weights."""
        self.scaler.scale((self.weight * paddle.to_tensor(slopes)).sum()).backward()
        self.scaler.step(self.optimizer)
        self.optimizer.clear_grad()
        return self.weight.numpy()


def test_scale_cancels_out_exactly():
    """A power of two goes through backward and is divided out again without a trace."""
    plain = Scaled(1.0, dynamic=False).step([0.1, 0.7, -3.3])
    np.testing.assert_array_equal(Scaled(4096.0).step([0.1, 0.7, -3.3]), plain)


@pytest.mark.parametrize("bad", [float("inf"), float("nan")])
def test_step_with_an_overflow_is_skipped(bad: float):
    """Weights and velocity stay as they were, the scale is halved and the step counted."""
    one, other = Scaled(), Scaled()
    one.step([1.0, 1.0, 1.0])
    before = one.weight.numpy()
    np.testing.assert_array_equal(one.step([1.0, bad, 1.0]), before)
    assert one.scaler.values() == {"scale": 64.0, "good_steps": 0, "skipped_steps": 1}
    other.step([1.0, 1.0, 1.0])
    np.testing.assert_array_equal(one.step([2.0, 0.5, 1.0]), other.step([2.0, 0.5, 1.0]))


def test_scale_grows_after_so_many_good_steps(monkeypatch):
    """After STEPS_TO_GROWTH steps without an overflow in between, the scale doubles; an overflow starts the count."""
    monkeypatch.setattr(module, "STEPS_TO_GROWTH", 3)
    run = Scaled()
    for slope, scale in ((1.0, 128), (1.0, 128), (float("inf"), 64), (1.0, 64), (1.0, 64), (1.0, 128), (1.0, 128)):
        run.step([slope, 0.0, 0.0])
        assert run.scaler.values()["scale"] == scale


def test_scale_that_is_not_dynamic_stays():
    """Without use_dynamic_loss_scaling an overflow is skipped, and the scale is what was set."""
    run = Scaled(dynamic=False)
    before = run.weight.numpy()
    np.testing.assert_array_equal(run.step([float("inf"), 0.0, 0.0]), before)
    assert run.scaler.values() == {"scale": 128.0, "good_steps": 0, "skipped_steps": 1}


def test_scaler_resumes_from_json(monkeypatch):
    """Its state passes through JSON, and a restored scaler grows at the step at which the unbroken one does."""
    monkeypatch.setattr(module, "STEPS_TO_GROWTH", 4)
    whole = Scaled()
    whole.step([float("inf"), 0.0, 0.0])
    whole.step([1.0, 0.0, 0.0])
    resumed = Scaled()
    resumed.scaler.restore(json.loads(json.dumps(whole.scaler.values())))
    for _ in range(3):
        assert resumed.scaler.values() == whole.scaler.values()
        whole.step([1.0, 0.0, 0.0])
        resumed.step([1.0, 0.0, 0.0])
    assert resumed.scaler.values() == {"scale": 128.0, "good_steps": 0, "skipped_steps": 1}


def test_cpu_refuses_what_it_would_not_do():
    """Paddle's auto_cast does nothing on a CPU; a training that asks for it ends at once and says what to set."""
    network = build_network(ArchConfig(name="ResNet18", class_num=5))
    with pytest.raises(TrainingConfigError, match=r"no bfloat16 operators for a CPU.*emulate_on_cpu"):
        Precision(BRAIN.model_copy(update={"emulate_on_cpu": False}), network)


@pytest.mark.parametrize("amp", [None, AMPConfig(use_amp=False)])
def test_without_amp_everything_passes_through(amp: AMPConfig | None):
    """The loss is the very tensor, there is no state, and the step is the optimizer's."""
    network = build_network(ArchConfig(name="ResNet18", class_num=5))
    precision = Precision(amp, network)
    with precision.autocast():
        loss = network(IMAGES).mean()
    assert precision.scale(loss) is loss
    assert precision.values() == {}
    precision.restore({})


def outputs(amp: AMPConfig) -> dict[str, np.ndarray]:
    """Return what the first convolution, its BatchNorm and the head give in a training step."""
    paddle.seed(2)
    network = build_network(ArchConfig(name="ResNet18", class_num=5))
    precision = Precision(amp, network)
    seen = {}
    for name in ("stem.0.conv", "stem.0.bn", "fc"):
        layer = dict(network.named_sublayers())[name]
        layer.register_forward_post_hook(lambda _l, _i, out, name=name: seen.update({name: out.numpy()}))
    with precision.autocast():
        network(IMAGES)
    return seen


def is_held_by(array: np.ndarray, dtype: str) -> bool:
    rounded = paddle.to_tensor(array).astype(dtype).astype("float32").numpy()
    return np.array_equal(rounded, array)


def test_bfloat16_is_rounded_to_nearest_even():
    """The emulated bfloat16 is the upper half of a float32 after adding half of what is cut off (IEEE 754's rule)."""
    random = np.random.default_rng(0)
    numbers = (random.normal(size=10_000) * 10.0 ** random.integers(-20, 20, 10_000)).astype(np.float32)
    bits = numbers.view(np.uint32)
    expected = ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16 << 16).view(np.float32)
    np.testing.assert_array_equal(round_to(paddle.to_tensor(numbers), "bfloat16").numpy(), expected)


@pytest.mark.parametrize("amp", [HALF, BRAIN], ids=lambda amp: amp.dtype)
def test_o1_rounds_convolutions_and_the_head_and_o2_the_rest_too(amp: AMPConfig):
    """What Paddle's white list computes in half precision has its values under O1; under O2 BatchNorm's output too."""
    first = outputs(amp)
    assert [is_held_by(first[name], amp.dtype) for name in ("stem.0.conv", "fc", "stem.0.bn")] == [True, True, False]
    second = outputs(amp.model_copy(update={"level": "O2"}))
    assert all(is_held_by(array, amp.dtype) for array in second.values())


@pytest.mark.parametrize("amp", [HALF, BRAIN], ids=lambda amp: amp.dtype)
def test_gradients_are_near_those_of_float32_and_weights_stay_float32(amp: AMPConfig):
    """Rounding moves the loss by little, every weight and gradient is float32, and evaluation is not rounded."""
    paddle.seed(2)
    network = build_network(ArchConfig(name="ResNet18", class_num=5))
    network.eval()  # whose running statistics make it independent of the batch
    whole = network(IMAGES).square().mean()
    precision = Precision(amp, network)
    with precision.autocast():
        rounded = network(IMAGES).square().mean()
    assert float(rounded) == pytest.approx(float(whole), rel=0.05)
    assert float(rounded) != float(whole)
    precision.scale(rounded).backward()
    for name, parameter in network.named_parameters():
        assert parameter.dtype == paddle.float32
        if not parameter.stop_gradient:
            assert parameter.grad is not None, name
            assert parameter.grad.dtype == paddle.float32
    assert float(network(IMAGES).square().mean()) == float(whole)


def test_real_overflow_of_float16_lowers_the_scale():
    """A scale too large for float16's 65,504 makes infinite gradients: steps are skipped until it fits, then go on."""
    paddle.seed(2)
    network = build_network(ArchConfig(name="ResNet18", class_num=5))
    precision = Precision(HALF.model_copy(update={"scale_loss": 2.0**24}), network)
    optimizer = paddle.optimizer.SGD(1e-3, parameters=[p for p in network.parameters() if not p.stop_gradient])
    before = network.fc.weight.numpy()
    for _ in range(24):
        with precision.autocast():
            loss = network(IMAGES).square().mean()
        precision.scale(loss).backward()
        precision.step(optimizer)
        optimizer.clear_grad()
    state = precision.values()
    assert 0 < state["skipped_steps"] < 24
    assert state["scale"] == 2.0 ** (24 - state["skipped_steps"])
    assert np.isfinite(network.fc.weight.numpy()).all()
    assert not np.array_equal(network.fc.weight.numpy(), before)
