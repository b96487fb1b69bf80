"""The wheel's networks have the correct weights and outputs in both layouts, even if partly frozen or compiled."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import paddle
import pytest
from pydantic import ValidationError

from resnet50_pipeline.exceptions import TrainingConfigError
from resnet50_pipeline.recipe.run import ArchConfig
from resnet50_pipeline.trainer.network import RESNET_FAMILY, build_network, compile_network, running_statistics

IMAGES = paddle.to_tensor(np.random.default_rng(0).random((4, 3, 64, 64), dtype=np.float32))

# Weights without running statistics, 1000 classes: torchvision's counts (He et al. 2016).
SIZES = {
    "ResNet18": 11_689_512,
    "ResNet34": 21_797_672,
    "ResNet50": 25_557_032,
    "ResNet101": 44_549_160,
    "ResNet152": 60_192_808,
}


def build(name: str = "ResNet18", seed: int = 1, **changes: object) -> paddle.nn.Layer:
    paddle.seed(seed)
    return build_network(ArchConfig.model_validate({"name": name, "class_num": 5, **changes}))


def twin(network: paddle.nn.Layer, **changes: object) -> paddle.nn.Layer:
    """Return a network with the same weights, but built with different arguments."""
    other = build(seed=9, **changes)
    other.set_state_dict({name: paddle.to_tensor(tensor.numpy()) for name, tensor in network.state_dict().items()})
    return other


def train(network: paddle.nn.Layer, steps: int) -> list[float]:
    network.train()
    optimizer = paddle.optimizer.Momentum(1e-3, parameters=[p for p in network.parameters() if not p.stop_gradient])
    losses = []
    for _ in range(steps):
        loss = network(IMAGES).square().mean()
        loss.backward()
        optimizer.step()
        optimizer.clear_grad()
        losses.append(float(loss))
    return losses


def test_networks_have_the_published_sizes():
    """The plain networks have the published numbers of parameters."""
    for name, size in SIZES.items():
        network = build_network(ArchConfig(name=name, class_num=1000))
        statistics = sum(tensor.size for tensor in running_statistics(network))
        # Unlike torchvision's, PaddleClas' networks of basic blocks have a convolution in the first shortcut of the
        # first stage. It adds 64 · 64 weights, and 64 scales and shifts.
        extra = 64 * 64 + 2 * 64 if name in {"ResNet18", "ResNet34"} else 0
        assert sum(p.size for p in network.parameters()) - statistics == size + extra, name


@pytest.mark.parametrize("name", RESNET_FAMILY)
def test_every_network_of_the_family_returns_logits(name: str):
    """Every name in the family builds a network that takes NCHW images and returns one logit per class."""
    network = build(name)
    network.eval()
    with paddle.no_grad():
        assert network(IMAGES[:1, :, :32, :32]).shape == [1, 5]


@pytest.mark.parametrize("name", ["MobileNetV3_small_x1_0", "__import__", "ResNet51"])
def test_other_networks_are_rejected(name: str):
    """A name outside the ResNet family raises an error that quotes the name."""
    with pytest.raises(TrainingConfigError, match=name):
        build(name)


def test_unsupported_arguments_are_rejected():
    """`Arch.pretrained: true`, which would download weights, is rejected like any unsupported argument."""
    for key, value in {"pretrained": True, "use_ssld": True, "layer_type": "DiverseBranchBlock"}.items():
        with pytest.raises(ValidationError, match=key):
            build(**{key: value})


def test_zero_init_residual_makes_every_block_the_identity():
    """Only the last BatchNorm scale of each block is zero, so the block returns its input."""
    network = build("ResNet50", zero_init_residual=True)
    zeros = [name for name, p in network.named_parameters() if name.endswith("bn.weight") and not p.numpy().any()]
    assert len(zeros) == 16
    assert all(name.endswith("conv2.bn.weight") for name in zeros)
    block = network.blocks[1]
    block.eval()
    x = paddle.rand([1, 256, 4, 4])
    np.testing.assert_array_equal(block(x).numpy(), x.numpy())


def test_batch_norm_momentum_reaches_every_layer():
    """Running statistics are updated with the configured momentum."""
    network = build(batch_norm_momentum=0.5)
    network.train()
    before = running_statistics(network)[0].numpy().copy()
    with paddle.no_grad():
        batch_mean = network.stem[0].conv(IMAGES).mean(axis=[0, 2, 3]).numpy()
        network(IMAGES)
    np.testing.assert_allclose(running_statistics(network)[0].numpy(), 0.5 * before + 0.5 * batch_mean, atol=1e-5)


@pytest.mark.parametrize("name", ["ResNet18", "ResNet50_vd"])
def test_nhwc_matches_nchw(name: str):
    """With the same weights and NCHW batches, both layouts produce the same logits and the same first loss."""
    network = build(name)
    other = twin(network, name=name, data_format="NHWC")
    for one in (network, other):
        one.eval()
    with paddle.no_grad():
        expected, found = network(IMAGES).numpy(), other(IMAGES).numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())
    assert train(other, 1)[0] == pytest.approx(train(network, 1)[0], rel=1e-2)


@pytest.fixture
def frozen() -> Iterator[paddle.nn.Layer]:
    yield build(freeze=("stem", "blocks.[01]"))


def test_frozen_layers_do_not_change(frozen: paddle.nn.Layer):
    """Training changes neither the weights nor the running statistics of frozen layers, but changes all others."""
    before = {name: tensor.numpy().copy() for name, tensor in frozen.state_dict().items()}
    train(frozen, 2)
    changed = {name for name, tensor in frozen.state_dict().items() if not np.array_equal(tensor.numpy(), before[name])}
    expected = {name for name in before if name.startswith(("stem.", "blocks.0.", "blocks.1."))}
    assert changed == before.keys() - expected


def test_frozen_batch_norm_gives_the_same_output_in_both_modes(frozen: paddle.nn.Layer):
    """A frozen layer uses its running statistics in training too."""
    outputs = []
    for set_mode in (frozen.train, frozen.eval):
        set_mode()
        with paddle.no_grad():
            outputs.append(frozen.blocks[1](frozen.blocks[0](frozen.max_pool(frozen.stem(IMAGES)))).numpy())
    np.testing.assert_array_equal(*outputs)


@pytest.mark.parametrize(
    ("patterns", "named"),
    [(("blocks.77",), r"blocks\.77.*stem"), (("*",), r"\['\*'\].*fc")],
)
def test_useless_freeze_patterns_are_rejected(patterns: tuple[str, ...], named: str):
    """A pattern that matches no layer raises an error that lists the layers. Freezing everything is an error too."""
    with pytest.raises(TrainingConfigError, match=named):
        build(freeze=patterns)


@pytest.mark.parametrize("arch", [{}, {"freeze": ("stem",)}, {"data_format": "NHWC"}], ids=["plain", "frozen", "nhwc"])
def test_compiled_network_gives_identical_results(arch: dict):
    """Losses, weights, statistics, and an evaluation at a different image size are bit-identical."""
    network = build(**arch)
    compiled = compile_network(twin(network, **arch))
    assert train(compiled, 3) == train(network, 3)
    for name, tensor in network.state_dict().items():
        np.testing.assert_array_equal(compiled.state_dict()[name].numpy(), tensor.numpy(), err_msg=name)
    for one in (network, compiled):
        one.eval()
    with paddle.no_grad():
        small = IMAGES[:3, :, :48, :40]
        np.testing.assert_array_equal(compiled(small).numpy(), network(small).numpy())


@pytest.mark.parametrize("side", [8, 33, 97])
def test_any_crop_size_is_accepted(side: int):
    """The network accepts crops of 8x8 pixels or more, because it averages over the last feature map."""
    network = build()
    network.eval()
    with paddle.no_grad():
        assert network(paddle.zeros([1, 3, side, side])).shape[0] == 1
