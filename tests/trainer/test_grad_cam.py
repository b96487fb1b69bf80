"""Grad-CAM heat maps of networks whose maps are known."""

from __future__ import annotations

import numpy as np
import paddle
import pytest

from resnet50_pipeline.recipe.run import ArchConfig
from resnet50_pipeline.trainer.explanation.grad_cam import compute_grad_cam
from resnet50_pipeline.trainer.network import build_network
from resnet50_pipeline.trainer.small_maps import speed_up_small_maps


@pytest.mark.parametrize("data_format", ["NCHW", "NHWC"])
def test_last_block_gives_class_activation_maps(data_format: str):
    """For a block before average pooling and a linear head, the maps are the class activation maps of Zhou et al. 2016.

    Their channels are weighted by the weights of the predicted class in the linear head.
    """
    paddle.seed(0)
    network = build_network(ArchConfig(name="ResNet18", class_num=3, data_format=data_format))
    images = np.random.default_rng(0).normal(size=(5, 3, 128, 128)).astype(np.float32)
    maps = compute_grad_cam(network, images, data_format)
    kept = []
    hook = network.blocks[-1].register_forward_post_hook(lambda _layer, _inputs, output: kept.append(output.numpy()))
    predicted = network(paddle.to_tensor(images)).numpy().argmax(axis=1)
    hook.remove()
    features = kept[0] if data_format == "NCHW" else kept[0].transpose(0, 3, 1, 2)
    expected = np.maximum(np.einsum("nchw,cn->nhw", features, network.fc.weight.numpy()[:, predicted]), 0)
    assert maps.shape == (5, 4, 4)
    np.testing.assert_allclose(maps, expected / expected.max(axis=(1, 2), keepdims=True), atol=1e-5)
    assert maps.max(axis=(1, 2)).tolist() == [1.0] * 5


def test_batches_do_not_change_the_maps():
    """The map of an image does not depend on the other images, and small images use an earlier block."""
    paddle.seed(0)
    network = build_network(ArchConfig(name="ResNet18", class_num=3))
    speed_up_small_maps(network)
    images = np.random.default_rng(1).normal(size=(30, 3, 32, 32)).astype(np.float32)
    maps = compute_grad_cam(network, images, "NCHW")
    assert maps.shape == (30, 4, 4)
    np.testing.assert_allclose(compute_grad_cam(network, images[28:], "NCHW"), maps[28:], atol=1e-4)
    assert all(parameter.grad is None for parameter in network.parameters())


def test_map_shows_the_region_that_the_class_depends_on():
    """If only one corner of the features determines the class, only that corner of the map is bright."""

    class Corner(paddle.nn.Layer):
        """Two blocks; the logit of class 1 is the sum of the upper left corner of the image."""

        def __init__(self) -> None:
            super().__init__()
            self.blocks = paddle.nn.Sequential(paddle.nn.Identity(), paddle.nn.AvgPool2D(2))

        def forward(self, images: paddle.Tensor) -> paddle.Tensor:
            features = self.blocks(images)
            return paddle.stack([0 * features.sum(axis=[1, 2, 3]) + 1e-3, features.sum(axis=[1, 2, 3])], axis=1)

    images = np.zeros((2, 3, 16, 16), dtype=np.float32)
    images[0, :, :4, :4], images[1, :, 12:, 8:] = 1, 5
    maps = compute_grad_cam(Corner(), images, "NCHW")
    expected = np.zeros((2, 8, 8))
    expected[0, :2, :2] = expected[1, 6:, 4:] = 1
    assert maps.tolist() == expected.tolist()


def test_image_without_evidence_has_an_empty_map():
    """If no region increases the logit of the predicted class, the map is 0 everywhere, not NaN."""
    network = build_network(ArchConfig(name="ResNet18", class_num=3))
    network.fc.weight.set_value(paddle.zeros_like(network.fc.weight))
    maps = compute_grad_cam(network, np.ones((1, 3, 128, 128), dtype=np.float32), "NCHW")
    assert maps.tolist() == np.zeros((1, 4, 4)).tolist()
