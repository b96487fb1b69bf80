"""The moving average is the formula's, and the network gets its own weights back."""

from __future__ import annotations

import numpy as np
import paddle
import pytest

from resnet50_pipeline.exceptions import CheckpointError
from resnet50_pipeline.trainer.ema import ExponentialMovingAverage
from resnet50_pipeline.trainer.network import build_network
from resnet50_pipeline.training_config import ArchConfig

Arrays = dict[str, np.ndarray]
IMAGES = paddle.to_tensor(np.random.default_rng(0).random((4, 3, 32, 32), dtype=np.float32))


@pytest.fixture
def network() -> paddle.nn.Layer:
    paddle.seed(1)
    return build_network(ArchConfig(name="ResNet18", class_num=5))


def state(network: paddle.nn.Layer) -> Arrays:
    return {name: tensor.numpy().copy() for name, tensor in network.state_dict().items()}


def averaged(average: ExponentialMovingAverage) -> Arrays:
    return average.named({name: tensor.numpy() for name, tensor in average.tensors.items()})


def train(network: paddle.nn.Layer, average: ExponentialMovingAverage, steps: int) -> list[Arrays]:
    """Move the weights and return what they were after each step."""
    network.train()
    optimizer = paddle.optimizer.SGD(0.01, parameters=[p for p in network.parameters() if not p.stop_gradient])
    seen = []
    for _ in range(steps):
        network(IMAGES).square().mean().backward()
        optimizer.step()
        optimizer.clear_grad()
        average.update()
        seen.append(state(network))
    return seen


def test_average_is_the_formula_s(network: paddle.nn.Layer):
    """It is 0.9 of itself and 0.1 of the weights after each step, from the first on; so are running statistics."""
    expected = {name: array.astype(np.float64) for name, array in state(network).items()}
    average = ExponentialMovingAverage(network, decay=0.9)
    for weights in train(network, average, steps=5):
        expected = {name: 0.9 * expected[name] + 0.1 * array for name, array in weights.items()}
    found = averaged(average)
    assert found.keys() == expected.keys()
    assert any(name.endswith("._mean") for name in found)
    for name, array in expected.items():
        np.testing.assert_allclose(found[name], array, rtol=1e-5, atol=1e-6, err_msg=name)


def test_network_has_the_average_inside_and_its_own_weights_after(network: paddle.nn.Layer):
    """Inside `applied` the network is the average; after it, also after an error, it is itself bit by bit."""
    average = ExponentialMovingAverage(network, decay=0.5)
    own = train(network, average, steps=2)[-1]
    with pytest.raises(RuntimeError, match="in the middle"), average.applied():
        inside = state(network)
        raise RuntimeError("in the middle")
    for name, array in averaged(average).items():
        np.testing.assert_array_equal(inside[name], array, err_msg=name)
        np.testing.assert_array_equal(network.state_dict()[name].numpy(), own[name], err_msg=name)
    assert not np.array_equal(inside["fc.weight"], own["fc.weight"])


def test_restored_average_goes_on_bit_by_bit(network: paddle.nn.Layer):
    """The average of a run that was stopped is the average of the unbroken one."""
    whole = ExponentialMovingAverage(network, decay=0.9)
    train(network, whole, steps=2)
    resumed = ExponentialMovingAverage(network, decay=0.9)
    resumed.restore(averaged(whole))
    network(IMAGES).mean().backward()
    for average in (whole, resumed):
        average.update()
    again = averaged(resumed)
    for name, array in averaged(whole).items():
        np.testing.assert_array_equal(again[name], array, err_msg=name)


@pytest.mark.parametrize("damage", ["missing", "shape"])
def test_average_of_another_network_is_refused(network: paddle.nn.Layer, damage: str):
    """A tensor that is missing or of another shape is named."""
    average = ExponentialMovingAverage(network, decay=0.9)
    arrays = averaged(average)
    arrays["fc.bias"] = arrays["fc.bias"][:2]
    if damage == "missing":
        del arrays["fc.bias"]
    with pytest.raises(CheckpointError, match=r"fc\.bias"):
        average.restore(arrays)
