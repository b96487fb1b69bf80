"""Computes convolutions with 2 to 4 output pixels as one matrix product over the whole batch.

Paddle's CPU kernel multiplies one image at a time. With 32x32 images, the feature maps in the third stage of ResNet50
are 2x2, so each product reads all the weights for only four columns, and the stage takes more than half of a training
step. A single product per batch is three to six times as fast. With 224x224 images, the maps never get this small.
"""

from __future__ import annotations

import paddle
from paddle.nn.functional import unfold

_MAX_PIXELS = 4


class SmallMapConv2D(paddle.nn.Conv2D):
    """Replaces a `Conv2D` for NCHW images that has no groups or dilation. The parameters and results stay the same."""

    def forward(self, images: paddle.Tensor) -> paddle.Tensor:
        """Return the convolution of float32 [N, C, H, W] as float32 [N, O, H', W']."""
        height, width = (self._output_size(size, axis) for axis, size in enumerate(images.shape[2:]))
        if 1 < height * width <= _MAX_PIXELS:
            return self._multiply(images, height, width)
        return super().forward(images)

    def _output_size(self, size: int, axis: int) -> int:
        output: int = (size + 2 * self._padding - self._kernel_size[axis]) // self._stride[axis] + 1
        return output

    def _multiply(self, images: paddle.Tensor, height: int, width: int) -> paddle.Tensor:
        outputs, channels, *kernel = self.weight.shape
        if kernel == [1, 1]:
            rows, columns = self._stride
            patches = images[:, :, ::rows, ::columns].transpose([1, 0, 2, 3]).reshape([channels, -1])
        else:
            patches = unfold(images, self._kernel_size, self._stride, self._padding)
            patches = patches.transpose([1, 0, 2]).reshape([channels * kernel[0] * kernel[1], -1])
        product = paddle.matmul(self.weight.reshape([outputs, -1]), patches)
        return product.reshape([outputs, -1, height, width]).transpose([1, 0, 2, 3])


def speed_up_small_maps(network: paddle.nn.Layer) -> None:
    """Use one matrix product for each convolution whose output has 2 to 4 pixels.

    This works only for networks that run op by op, because the sizes in a compiled or exported network are unknown
    until the network runs.
    """
    for layer in network.sublayers():
        is_plain = type(layer) is paddle.nn.Conv2D and layer._data_format == "NCHW" and isinstance(layer._padding, int)
        if is_plain and layer._groups == 1 and layer._dilation == [1, 1] and layer.bias is None:
            # Changing the class keeps parameters, hooks and names, and survives `copy.deepcopy`.
            layer.__class__ = SmallMapConv2D
