"""Networks from the wheel's own `ppcls.arch`: starting points, layers held fast, and compiled ones."""

from __future__ import annotations

import fnmatch
import importlib.util
import logging
import sys
import warnings
from pathlib import Path

import paddle

from resnet50_pipeline.exceptions import TrainingConfigError
from resnet50_pipeline.training_config import ArchConfig

# The ResNet family of ppcls.arch: the legendary ResNet_vb/vd definitions.
RESNET_FAMILY = (
    *(f"ResNet{depth}{kind}" for depth in (18, 34, 50, 101, 152) for kind in ("", "_vd")),
    "ResNet200_vd",
)


def build_network(arch: ArchConfig) -> paddle.nn.Layer:
    """Return the network: float32 [N, 3, H, W] → logits [N, class_num], whatever layout it computes in.

    `zero_init_residual` sets the last BatchNorm scale of every residual block to zero, so that each block begins as
    the identity (Goyal et al. 2017, "Accurate, Large Minibatch SGD", section 5.1).

    Raises:
        TrainingConfigError: the name is not one of the ResNet family, or a pattern of `freeze` is no layer's.
    """
    if arch.name not in RESNET_FAMILY:
        raise TrainingConfigError(f"Arch.name: {arch.name} is not supported; known: {', '.join(RESNET_FAMILY)}")
    _make_ppcls_importable()
    from ppcls.arch import build_model
    from ppcls.utils import logger

    # Its constructors warn about themselves at every start; what matters to a user is said by this project.
    logger.init_logger(log_level=logging.ERROR)
    # Paddle says so of every BatchNorm in training (nn/layer/norm.py), and there is no other way to train one.
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
    _freeze(network, arch.freeze)
    return network


def compile_network(network: paddle.nn.Layer) -> paddle.nn.Layer:
    """Return the network as one static program for each mode (`Global.to_static`); parameters stay the same objects.

    Batches may have any number of images of any size: progressive resizing compiles once.
    """
    images = paddle.static.InputSpec([None, 3, None, None], "float32", name="images", stop_gradient=True)
    # full_graph: a layer that cannot be compiled is an error, where Paddle's default runs it op by op without a word.
    return paddle.jit.to_static(network, input_spec=[images], full_graph=True)


def running_statistics(network: paddle.nn.Layer) -> list[paddle.Tensor]:
    """Return the BatchNorm means and variances, which differ from rank to rank during training."""
    return [tensor for name, tensor in network.state_dict().items() if name.endswith(("._mean", "._variance"))]


def _freeze(network: paddle.nn.Layer, patterns: tuple[str, ...]) -> None:
    """Hold layers fast: no gradient, and BatchNorm that normalizes with its running statistics and leaves them alone.

    Statistics that went on moving would change what frozen weights compute, and differ from those they were trained
    with; `Layer.train` cannot undo it, for it is no mode of the layer.
    """
    layers = dict(network.named_sublayers())
    for pattern in patterns:
        held = [layer for name, layer in layers.items() if fnmatch.fnmatchcase(name, pattern)]
        if not held:
            known = ", ".join(name for name, _ in network.named_children())
            raise TrainingConfigError(
                f"Arch.freeze: {pattern} is no layer of this network; known: {known}, and their own, as blocks.0"
            )
        for layer in (inner for outer in held for inner in outer.sublayers(include_self=True)):
            for parameter in layer.parameters(include_sublayers=False):
                parameter.stop_gradient = True
            if hasattr(layer, "_use_global_stats"):
                layer._use_global_stats = True
    if all(parameter.stop_gradient for parameter in network.parameters()):
        raise TrainingConfigError(f"Arch.freeze: {list(patterns)} leave nothing to train; let the head (fc) move")


def _make_ppcls_importable() -> None:
    """Let `import ppcls` find the package inside the paddleclas wheel, without `import paddleclas` itself.

    `paddleclas/__init__.py` imports faiss, visualdl and more: several seconds a rank.
    """
    if importlib.util.find_spec("ppcls") is not None:
        return
    spec = importlib.util.find_spec("paddleclas")
    if spec is None or not spec.submodule_search_locations:
        raise TrainingConfigError("the package paddleclas is not installed; run `make setup`")
    sys.path.append(str(Path(spec.submodule_search_locations[0])))
