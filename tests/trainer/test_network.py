"""The wheel's networks start where they should, and schedules are PaddleClas' formulas."""

from __future__ import annotations

import math

import numpy as np
import paddle
import pytest

from resnet50_pipeline.exceptions import TrainingConfigError
from resnet50_pipeline.trainer.network import build_network, running_statistics
from resnet50_pipeline.trainer.optimizer import build_schedule
from resnet50_pipeline.training_config import ArchConfig, Cosine, Piecewise


def test_resnet50_has_its_known_size():
    """ResNet50 with 1000 classes has 25,557,032 weights (He et al. 2016; torchvision's count)."""
    network = build_network(ArchConfig(name="ResNet50", class_num=1000))
    statistics = sum(tensor.size for tensor in running_statistics(network))
    assert sum(parameter.size for parameter in network.parameters()) - statistics == 25_557_032


def test_zero_init_residual_makes_every_block_an_identity():
    """Only the last BN scale of each block is zero, and the branch then adds nothing."""
    network = build_network(ArchConfig(name="ResNet50", class_num=10, zero_init_residual=True))
    zeros = [name for name, p in network.named_parameters() if name.endswith("bn.weight") and not p.numpy().any()]
    assert len(zeros) == 16
    assert all(name.endswith("conv2.bn.weight") for name in zeros)
    block = network.blocks[1]
    block.eval()
    x = paddle.rand([1, 256, 4, 4])
    np.testing.assert_array_equal(block(x).numpy(), x.numpy())


def test_batch_norm_momentum_reaches_every_layer():
    """The running statistics follow with the momentum of the configuration."""
    network = build_network(ArchConfig(name="ResNet18", class_num=10, batch_norm_momentum=0.5))
    network.train()
    before = running_statistics(network)[0].numpy().copy()
    with paddle.no_grad():
        stem_input = paddle.rand([4, 3, 32, 32])
        batch_mean = network.stem[0].conv(stem_input).mean(axis=[0, 2, 3]).numpy()
        network(stem_input)
    np.testing.assert_allclose(running_statistics(network)[0].numpy(), 0.5 * before + 0.5 * batch_mean, atol=1e-5)


@pytest.mark.parametrize("name", ["MobileNetV3_small_x1_0", "__import__", "ResNet51"])
def test_other_networks_are_refused(name: str):
    """A name outside the ResNet family is refused by name."""
    with pytest.raises(TrainingConfigError, match=name):
        build_network(ArchConfig(name=name, class_num=10))


def rates(config: Cosine | Piecewise, epochs: int, steps_per_epoch: int) -> list[float]:
    schedule = build_schedule(config, epochs, steps_per_epoch)
    found = []
    for _ in range(epochs * steps_per_epoch):
        found.append(schedule())
        schedule.step()
    return found


def test_piecewise_drops_at_the_ends_of_epochs():
    """The reference schedule: 0.1 for 30 epochs, then a tenth at 30, 60 and 90."""
    config = Piecewise(name="Piecewise", decay_epochs=(30, 60, 90), values=(0.1, 0.01, 0.001, 0.0001))
    found = rates(config, epochs=120, steps_per_epoch=10)
    expected = [0.1] * 300 + [0.01] * 300 + [0.001] * 300 + [0.0001] * 300
    np.testing.assert_allclose(found, expected)


def test_cosine_rises_linearly_and_falls_as_half_a_cosine():
    """lr(t) = eta_min + (peak - eta_min) (1 + cos(pi t / T)) / 2 after the warm-up."""
    config = Cosine(name="Cosine", learning_rate=0.4, eta_min=0.1, warmup_epoch=1, warmup_start_lr=0.2)
    found = rates(config, epochs=5, steps_per_epoch=10)
    np.testing.assert_allclose(found[:10], np.linspace(0.2, 0.4, 11)[:10], rtol=1e-6)
    expected = [0.1 + 0.3 * (1 + math.cos(math.pi * t / 40)) / 2 for t in range(40)]
    np.testing.assert_allclose(found[10:], expected, rtol=1e-6)
