"""Mixed precision scales the loss, skips steps that overflow, and is rejected on devices that do not support it."""

from __future__ import annotations

import json

import numpy as np
import paddle
import pytest

from emulation import emulate_half_precision, round_to
from resnet50_pipeline.exceptions import TrainingConfigError
from resnet50_pipeline.recipe.precision import AMPConfig
from resnet50_pipeline.recipe.run import ArchConfig
from resnet50_pipeline.trainer.network import build_network
from resnet50_pipeline.trainer.optimization import precision as module
from resnet50_pipeline.trainer.optimization.precision import LossScaler, Precision

Arrays = dict[str, np.ndarray]
HALF = AMPConfig()
BRAIN = AMPConfig(dtype="bfloat16", scale_loss=1.0, use_dynamic_loss_scaling=False)
IMAGES = paddle.to_tensor(np.random.default_rng(0).random((4, 3, 32, 32), dtype=np.float32))


@pytest.fixture
def emulated(monkeypatch) -> None:
    """Emulate half precision on a CPU."""
    emulate_half_precision(monkeypatch)


class Scaled:
    """A weight vector with an optimizer and a loss scaler."""

    def __init__(self, scale: float = 128.0, *, dynamic: bool = True) -> None:
        self.weight = paddle.create_parameter([3], "float32", default_initializer=paddle.nn.initializer.Constant(1.0))
        self.optimizer = paddle.optimizer.Momentum(0.5, parameters=[self.weight])
        self.scaler = LossScaler([self.weight], scale, dynamic=dynamic)

    def step(self, slopes: list[float]) -> np.ndarray:
        """Take a step with a loss that has a given gradient, and return the weights."""
        self.scaler.scale((self.weight * paddle.to_tensor(slopes)).sum()).backward()
        self.scaler.step(self.optimizer)
        self.optimizer.clear_grad()
        return self.weight.numpy()


def test_scale_cancels_out_exactly():
    """Scaling the loss by a power of two and unscaling the gradients gives bit-identical weights."""
    plain = Scaled(1.0, dynamic=False).step([0.1, 0.7, -3.3])
    np.testing.assert_array_equal(Scaled(4096.0).step([0.1, 0.7, -3.3]), plain)


@pytest.mark.parametrize("bad", [float("inf"), float("nan")])
def test_step_with_an_overflow_is_skipped(bad: float):
    """A step that overflows changes neither weights nor velocity, halves the scale, and is counted."""
    one, other = Scaled(), Scaled()
    one.step([1.0, 1.0, 1.0])
    before = one.weight.numpy()
    np.testing.assert_array_equal(one.step([1.0, bad, 1.0]), before)
    assert one.scaler.values() == {"scale": 64.0, "good_steps": 0, "skipped_steps": 1}
    other.step([1.0, 1.0, 1.0])
    np.testing.assert_array_equal(one.step([2.0, 0.5, 1.0]), other.step([2.0, 0.5, 1.0]))


def test_scale_doubles_after_enough_good_steps(monkeypatch):
    """The scale doubles after STEPS_TO_GROWTH consecutive steps without an overflow."""
    monkeypatch.setattr(module, "STEPS_TO_GROWTH", 3)
    run = Scaled()
    for slope, scale in ((1.0, 128), (1.0, 128), (float("inf"), 64), (1.0, 64), (1.0, 64), (1.0, 128), (1.0, 128)):
        run.step([slope, 0.0, 0.0])
        assert run.scaler.values()["scale"] == scale


def test_static_scale_does_not_change():
    """Without use_dynamic_loss_scaling, a step that overflows is skipped, but the scale stays the same."""
    run = Scaled(dynamic=False)
    before = run.weight.numpy()
    np.testing.assert_array_equal(run.step([float("inf"), 0.0, 0.0]), before)
    assert run.scaler.values() == {"scale": 128.0, "good_steps": 0, "skipped_steps": 1}


def test_scaler_resumes_from_json(monkeypatch):
    """A scaler restored from JSON doubles its scale at the same step as the original one."""
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


def test_cpu_rejects_mixed_precision():
    """Paddle's auto_cast has no effect on a CPU, so using AMP there raises an error that names the dtype."""
    network = build_network(ArchConfig(name="ResNet18", class_num=5))
    with pytest.raises(TrainingConfigError, match=r"AMP.*bfloat16"):
        Precision(BRAIN, network)


@pytest.mark.parametrize("amp", [None, AMPConfig(use_amp=False)])
def test_without_amp_nothing_is_scaled(amp: AMPConfig | None):
    """Without AMP, `scale` returns the same loss tensor, and there is no state to save."""
    network = build_network(ArchConfig(name="ResNet18", class_num=5))
    precision = Precision(amp, network)
    with precision.autocast():
        loss = network(IMAGES).mean()
    assert precision.scale(loss) is loss
    assert precision.values() == {}
    precision.restore({})


def outputs(amp: AMPConfig) -> dict[str, np.ndarray]:
    """Return the outputs of the first convolution, its BatchNorm and the head in a training step."""
    paddle.seed(2)
    network = build_network(ArchConfig(name="ResNet18", class_num=5))
    precision = Precision(amp, network)
    found: dict[str, np.ndarray] = {}
    for name in ("stem.0.conv", "stem.0.bn", "fc"):
        layer = dict(network.named_sublayers())[name]
        layer.register_forward_post_hook(lambda _l, _i, out, name=name: found.update({name: out.numpy()}))
    with precision.autocast():
        network(IMAGES)
    return found


def is_exact_in(array: np.ndarray, dtype: str) -> bool:
    rounded = paddle.to_tensor(array).astype(dtype).astype("float32").numpy()
    return np.array_equal(rounded, array)


def test_bfloat16_is_rounded_to_nearest_even():
    """The emulated bfloat16 is the upper half of a float32, rounded to nearest even as IEEE 754 requires."""
    random = np.random.default_rng(0)
    numbers = (random.normal(size=10_000) * 10.0 ** random.integers(-20, 20, 10_000)).astype(np.float32)
    bits = numbers.view(np.uint32)
    expected = ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16 << 16).view(np.float32)
    np.testing.assert_array_equal(round_to(paddle.to_tensor(numbers), "bfloat16").numpy(), expected)


@pytest.mark.usefixtures("emulated")
@pytest.mark.parametrize("amp", [HALF, BRAIN], ids=lambda amp: amp.dtype)
def test_o1_rounds_convolutions_and_head_but_o2_rounds_all_layers(amp: AMPConfig):
    """Under O1, the operators on Paddle's white list produce half-precision values. Under O2, BatchNorm does too."""
    first = outputs(amp)
    assert [is_exact_in(first[name], amp.dtype) for name in ("stem.0.conv", "fc", "stem.0.bn")] == [True, True, False]
    second = outputs(amp.model_copy(update={"level": "O2"}))
    assert all(is_exact_in(array, amp.dtype) for array in second.values())


@pytest.mark.usefixtures("emulated")
@pytest.mark.parametrize("amp", [HALF, BRAIN], ids=lambda amp: amp.dtype)
def test_weights_and_gradients_stay_float32(amp: AMPConfig):
    """Rounding changes the loss by less than 5%, weights and gradients are float32, and evaluation is not rounded."""
    paddle.seed(2)
    network = build_network(ArchConfig(name="ResNet18", class_num=5))
    network.eval()  # running statistics, so that an image's output does not depend on its batch
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


@pytest.mark.usefixtures("emulated")
def test_overflow_of_float16_lowers_the_scale():
    """A scale above float16's maximum (65,504) makes gradients infinite. Steps are skipped until the scale fits."""
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
