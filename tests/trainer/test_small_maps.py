"""Convolutions with few output pixels give the same results as `Conv2D`."""

from __future__ import annotations

import copy

import numpy as np
import paddle
import pytest

from resnet50_pipeline.recipe.run import ArchConfig
from resnet50_pipeline.trainer.network import build_network
from resnet50_pipeline.trainer.small_maps import SmallMapConv2D, speed_up_small_maps


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 8])
@pytest.mark.parametrize(("kernel", "stride"), [(1, 1), (1, 2), (3, 1), (3, 2), (7, 2)])
def test_outputs_and_gradients_equal_those_of_conv2d(size: int, kernel: int, stride: int) -> None:
    """For every map size, outputs and both gradients equal those of `Conv2D` up to rounding."""
    paddle.seed(1)
    plain = paddle.nn.Sequential(
        paddle.nn.Conv2D(5, 7, kernel, stride=stride, padding=kernel // 2, bias_attr=False, data_format="NCHW")
    )
    fast = copy.deepcopy(plain)
    speed_up_small_maps(fast)
    assert isinstance(fast[0], SmallMapConv2D)
    results = []
    for network in (plain, fast):
        images = paddle.to_tensor(np.random.default_rng(0).normal(size=(6, 5, size, size)), "float32")
        images.stop_gradient = False
        output = network(images)
        (output * output).sum().backward()
        results.append((output, images.grad, network[0].weight.grad))
    for one, other in zip(*results, strict=True):
        np.testing.assert_allclose(one.numpy(), other.numpy(), rtol=1e-5, atol=1e-5)


def test_only_plain_nchw_convolutions_change() -> None:
    """All convolutions of a ResNet are replaced, but none with groups, dilation, a bias or another layout."""
    network = build_network(ArchConfig(name="ResNet18", class_num=2))
    speed_up_small_maps(network)
    assert all(
        isinstance(layer, SmallMapConv2D) for layer in network.sublayers() if isinstance(layer, paddle.nn.Conv2D)
    )
    other = paddle.nn.Sequential(
        paddle.nn.Conv2D(4, 4, 3, groups=2, bias_attr=False),
        paddle.nn.Conv2D(4, 4, 3, dilation=2, bias_attr=False),
        paddle.nn.Conv2D(4, 4, 3),
        paddle.nn.Conv2D(4, 4, 3, bias_attr=False, data_format="NHWC"),
    )
    speed_up_small_maps(other)
    assert not any(isinstance(layer, SmallMapConv2D) for layer in other)
