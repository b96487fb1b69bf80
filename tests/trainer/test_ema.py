"""The moving average follows its formula, and the network's own weights are restored after an evaluation."""

from __future__ import annotations

import numpy as np
import paddle
import pytest

from resnet50_pipeline.exceptions import CheckpointError
from resnet50_pipeline.recipe.run import ArchConfig
from resnet50_pipeline.trainer.network import build_network
from resnet50_pipeline.trainer.optimization.ema import ExponentialMovingAverage

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
    """Train for a few steps and return the weights after each one."""
    network.train()
    optimizer = paddle.optimizer.SGD(0.01, parameters=[p for p in network.parameters() if not p.stop_gradient])
    weights = []
    for _ in range(steps):
        network(IMAGES).square().mean().backward()
        optimizer.step()
        optimizer.clear_grad()
        average.update()
        weights.append(state(network))
    return weights


def test_average_follows_the_formula(network: paddle.nn.Layer):
    """Each step computes 0.9 · average + 0.1 · weights, starting from the initial weights and running statistics."""
    expected = {name: array.astype(np.float64) for name, array in state(network).items()}
    average = ExponentialMovingAverage(network, decay=0.9)
    for weights in train(network, average, steps=5):
        expected = {name: 0.9 * expected[name] + 0.1 * array for name, array in weights.items()}
    found = averaged(average)
    assert found.keys() == expected.keys()
    assert any(name.endswith("._mean") for name in found)
    for name, array in expected.items():
        np.testing.assert_allclose(found[name], array, rtol=1e-5, atol=1e-6, err_msg=name)


def test_average_is_applied_only_inside_the_block(network: paddle.nn.Layer):
    """Inside `applied`, the network uses the average. Afterward, its exact weights are back, even after an error."""
    average = ExponentialMovingAverage(network, decay=0.5)
    weights = train(network, average, steps=2)[-1]
    with pytest.raises(KeyError), average.applied():
        inside = state(network)
        raise KeyError
    for name, array in averaged(average).items():
        np.testing.assert_array_equal(inside[name], array, err_msg=name)
        np.testing.assert_array_equal(network.state_dict()[name].numpy(), weights[name], err_msg=name)
    assert not np.array_equal(inside["fc.weight"], weights["fc.weight"])


def test_restored_average_continues_exactly(network: paddle.nn.Layer):
    """After the next update, a restored average and the original are bit-identical."""
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
def test_average_of_another_network_is_rejected(network: paddle.nn.Layer, damage: str):
    """If a tensor is missing or has a different shape, the error names the tensor."""
    average = ExponentialMovingAverage(network, decay=0.9)
    arrays = averaged(average)
    arrays["fc.bias"] = arrays["fc.bias"][:2]
    if damage == "missing":
        del arrays["fc.bias"]
    with pytest.raises(CheckpointError, match=r"fc\.bias"):
        average.restore(arrays)
