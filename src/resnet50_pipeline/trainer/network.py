"""Builds networks from the `ppcls.arch` package in the paddleclas wheel, and compiles them."""

from __future__ import annotations

import importlib.util
import logging
import sys
import warnings
from pathlib import Path

import paddle

from resnet50_pipeline.exceptions import TrainingConfigError
from resnet50_pipeline.recipe.run import ArchConfig
from resnet50_pipeline.trainer.optimization.frozen_layers import freeze_layers

# The ResNet family in ppcls.arch (`legendary_models/resnet.py`).
RESNET_FAMILY = (
    *(f"ResNet{depth}{kind}" for depth in (18, 34, 50, 101, 152) for kind in ("", "_vd")),
    "ResNet200_vd",
)
# Suffixes of the names of BatchNorm's running means and variances.
_RUNNING_STATISTICS = ("._mean", "._variance")


def build_network(arch: ArchConfig) -> paddle.nn.Layer:
    """Build the network: float32 [N, 3, H, W] → logits [N, class_num], for both values of `data_format`.

    If `zero_init_residual` is true, the last BatchNorm scale in each residual block starts at zero, so each block
    starts as the identity (Goyal et al. 2017, "Accurate, Large Minibatch SGD", section 5.1). Layers in `freeze` are
    frozen, unless they thaw during the run (see `ThawingLayers`).

    Raises:
        TrainingConfigError: if the name is not in the ResNet family, a pattern in `freeze` matches no layer, or all
            parameters are frozen.
    """
    if arch.name not in RESNET_FAMILY:
        raise TrainingConfigError(f"Arch.name: {arch.name} is not supported; choose one of {', '.join(RESNET_FAMILY)}")
    _make_ppcls_importable()
    from ppcls.arch import build_model
    from ppcls.utils import logger

    # Constructors in ppcls.arch log warnings that are irrelevant to users of this project.
    logger.init_logger(log_level=logging.ERROR)
    # Paddle emits this warning for every BatchNorm layer in training mode (nn/layer/norm.py). It is harmless.
    warnings.filterwarnings("ignore", message="When training, we now always track global mean and variance")
    network = build_model(
        {
            "Arch": {
                "name": arch.name,
                "class_num": arch.class_num,
                "pretrained": False,
                "data_format": arch.data_format,
                "lr_mult_list": list(arch.lr_mult_list),
            }
        }
    )
    for layer in network.sublayers():
        if hasattr(layer, "_momentum"):
            layer._momentum = arch.batch_norm_momentum
    if arch.zero_init_residual:
        for block in network.blocks:
            last = block.conv2 if hasattr(block, "conv2") else block.conv1
            last.bn.weight.set_value(paddle.zeros_like(last.bn.weight))
    if arch.thaw_epoch is None:
        freeze_layers(network, arch.freeze)
    return network


def compile_network(network: paddle.nn.Layer) -> paddle.nn.Layer:
    """Compile the network to static programs for training and evaluation (`Global.to_static`).

    The parameters remain the same objects. The number and size of images are dynamic, so progressive resizing does not
    trigger recompilation.
    """
    images = paddle.static.InputSpec([None, 3, None, None], "float32", name="images", stop_gradient=True)
    # With full_graph, a layer that cannot be compiled raises an error. By default, Paddle silently runs it op by op.
    return paddle.jit.to_static(network, input_spec=[images], full_graph=True)


def running_statistics(network: paddle.nn.Layer) -> list[paddle.Tensor]:
    """Return BatchNorm's running means and variances, which differ between ranks during training."""
    return [tensor for name, tensor in network.state_dict().items() if name.endswith(_RUNNING_STATISTICS)]


def replicated_parameters(network: paddle.nn.Layer) -> dict[str, paddle.Tensor]:
    """Return the parameters, trained or frozen, whose values are the same on all ranks."""
    # BatchNorm's running statistics are parameters too, without gradients.
    named = network.named_parameters()
    return {name: parameter for name, parameter in named if not name.endswith(_RUNNING_STATISTICS)}


def _make_ppcls_importable() -> None:
    """Make the `ppcls` package inside the paddleclas wheel importable without importing `paddleclas`.

    `paddleclas/__init__.py` imports faiss, visualdl and more, which takes several seconds on each rank.
    """
    if importlib.util.find_spec("ppcls") is not None:
        return
    spec = importlib.util.find_spec("paddleclas")
    if spec is None or not spec.submodule_search_locations:
        raise TrainingConfigError(
            "the paddleclas package is not installed; run `make setup` or `pip install --no-deps paddleclas==2.6.0`"
        )
    sys.path.append(str(Path(spec.submodule_search_locations[0])))
