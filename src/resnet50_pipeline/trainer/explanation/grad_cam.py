"""Computes heat maps of the image regions that a prediction is based on, with Grad-CAM.

Selvaraju et al. 2017, "Grad-CAM: Visual Explanations from Deep Networks via Gradient-based Localization". The channels
of a feature map are weighted by the mean gradient of the predicted class's logit, and negative sums are set to 0.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import numpy as np
import paddle
from numpy.typing import NDArray

_SMALLEST_SIDE = 4
_BATCH_SIZE = 24


def compute_grad_cam(network: paddle.nn.Layer, images: NDArray[np.float32], data_format: str) -> NDArray[np.float32]:
    """Return a heat map for each image and its most probable class.

    The maps come from the last residual block whose output has at least 4x4 pixels. For images of 224 pixels, that is
    the last block of the network (7x7), as in the paper. For images of 32 pixels, whose last block has a single pixel,
    it is the last block of the second stage (4x4).

    Args:
        network: network of the ResNet family. It is set to evaluation mode.
        images: normalized images, [N, 3, H, W].
        data_format: memory layout inside the network, `NCHW` or `NHWC`.

    Returns:
        [N, h, w] in 0..1. The maximum of each map is 1, or 0 if no region increases the logit.
    """
    network.eval()
    space = (2, 3) if data_format == "NCHW" else (1, 2)
    block = _find_block(network, images[:1], space)
    maps = [
        _explain_batch(network, block, paddle.to_tensor(images[start : start + _BATCH_SIZE]), space)
        for start in range(0, len(images), _BATCH_SIZE)
    ]
    return np.concatenate(maps)


def _find_block(network: paddle.nn.Layer, image: NDArray[np.float32], space: tuple[int, int]) -> paddle.nn.Layer:
    sides: list[int] = []
    with contextlib.ExitStack() as hooks, paddle.no_grad():
        for block in network.blocks:
            hook = block.register_forward_post_hook(
                lambda _layer, _inputs, output: sides.append(min(output.shape[axis] for axis in space))
            )
            hooks.callback(hook.remove)
        network(paddle.to_tensor(image))
    large = [block for block, side in zip(network.blocks, sides, strict=True) if side >= _SMALLEST_SIDE]
    return large[-1] if large else next(iter(network.blocks))


def _explain_batch(
    network: paddle.nn.Layer, block: paddle.nn.Layer, images: paddle.Tensor, space: tuple[int, int]
) -> NDArray[np.float32]:
    with _output_as_variable(block) as outputs:
        logits = network(images)
    (features,) = outputs
    # The images are independent of each other, so the gradient of the sum contains the gradient of each image.
    (gradient,) = paddle.grad(logits.max(axis=1).sum(), features)
    weights = gradient.mean(axis=space, keepdim=True)
    channels = 6 - sum(space)  # the remaining axis of the four: not the batch, height or width
    maps = paddle.nn.functional.relu((weights * features).sum(axis=channels)).numpy()
    largest = maps.max(axis=(1, 2), keepdims=True)
    scaled: NDArray[np.float32] = maps / np.where(largest > 0, largest, 1)
    return scaled


@contextlib.contextmanager
def _output_as_variable(block: paddle.nn.Layer) -> Iterator[list[paddle.Tensor]]:
    """Start the gradient at the block's output, so that no gradients of earlier layers are computed."""
    outputs: list[paddle.Tensor] = []

    def replace(_layer: paddle.nn.Layer, _inputs: object, output: paddle.Tensor) -> paddle.Tensor:
        features = output.detach()
        features.stop_gradient = False
        outputs.append(features)
        return features

    hook = block.register_forward_post_hook(replace)
    try:
        yield outputs
    finally:
        hook.remove()
