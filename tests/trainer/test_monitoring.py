"""Measurements of gradients, updates, time and memory are correct and do not affect training."""

from __future__ import annotations

import math
from time import perf_counter

import numpy as np
import paddle
import psutil
import pytest

from emulation import emulate_half_precision
from resnet50_pipeline.recipe.precision import AMPConfig
from resnet50_pipeline.recipe.run import ArchConfig
from resnet50_pipeline.trainer.meters import Totals
from resnet50_pipeline.trainer.monitoring import memory
from resnet50_pipeline.trainer.monitoring.clock import PHASES, StepClock
from resnet50_pipeline.trainer.monitoring.memory import read_memory
from resnet50_pipeline.trainer.monitoring.updates import STAGES, split_stages
from resnet50_pipeline.trainer.network import build_network
from resnet50_pipeline.trainer.step import Stepper
from steppers import Build, batch_of, weights_of

RESNET18 = {"name": "ResNet18"}
# Without momentum and weight decay, an update is the gradient times the learning rate.
PLAIN = {"momentum": 0.0, "use_nesterov": False, "l2_coeff": 0.0}


class Clock:
    """A clock that a test advances, and a counter of synchronizations."""

    def __init__(self) -> None:
        self.now = 0.0
        self.synchronizations = 0

    def synchronize(self) -> None:
        """Count the call."""
        self.synchronizations += 1


def measured(run: Stepper) -> dict:
    """Return what the monitor reports for the current interval."""
    return run.monitor.describe(np.array([run.monitor.close_interval()]), Totals(ranks=1, steps=1, rank_seconds=1.0))


def change_of(run: Stepper, before: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    statistics = ("._mean", "._variance")
    after = {name: array for name, array in weights_of(run).items() if not name.endswith(statistics)}
    return {name: array.astype(np.float64) - before[name] for name, array in after.items()}


def norm(arrays: dict[str, np.ndarray]) -> float:
    return math.sqrt(sum(float((array.astype(np.float64) ** 2).sum()) for array in arrays.values()))


@pytest.mark.parametrize(
    "values",
    [{}, {"update_freq": 2}, {"arch": {**RESNET18, "freeze": ["stem"]}}, {"virtual_ranks": 2}],
    ids=["plain", "accumulated", "frozen", "virtual-ranks"],
)
def test_gradient_norm_is_that_of_the_update(stepper: Build, values: dict):
    """The norm is that of the gradient that the optimizer applies: averaged over batches, without frozen layers."""
    run = stepper(**{"arch": RESNET18, "optimizer": PLAIN, **values})
    before, rate = weights_of(run), run.learning_rate
    run.start_epoch(1)
    for batches in range(run.batches_per_step):
        run.run(batch_of(4, start=4 * batches), batches, is_reported=True)
    expected = norm(change_of(run, before)) / rate
    assert measured(run)["gradient_norm"] == pytest.approx(expected, rel=1e-3)


def test_gradient_norm_excludes_the_loss_scale(stepper: Build, monkeypatch):
    """Under float16, the norm is measured after unscaling. A scale of 1024 does not change it."""
    emulate_half_precision(monkeypatch)
    norms = []
    for scale in (1.0, 1024.0):
        run = stepper(arch=RESNET18, amp=AMPConfig(scale_loss=scale))
        run.start_epoch(1)
        run.run(batch_of(4), 0, is_reported=True)
        norms.append(measured(run)["gradient_norm"])
        assert run.scaling == {"loss_scale": scale, "skipped_steps": 0}
    assert norms[1] == pytest.approx(norms[0], rel=0.02)


def test_skipped_step_has_no_norm(stepper: Build, monkeypatch):
    """A step whose gradients overflow is counted. It has neither a norm nor ratios."""
    emulate_half_precision(monkeypatch)
    run = stepper(arch=RESNET18, update_ratios=True, amp=AMPConfig(scale_loss=2.0**100))
    run.start_epoch(1)
    run.run(batch_of(4), 0, is_reported=True)
    found = measured(run)
    assert (found["gradient_norm"], found["update_ratios"]) == (None, {})
    assert run.scaling == {"loss_scale": 2.0**99, "skipped_steps": 1}


def test_static_loss_scale_is_not_reported(stepper: Build, monkeypatch):
    """A scale that never changes would be a constant curve. Without float16, there is no scale at all."""
    emulate_half_precision(monkeypatch)
    static = stepper(arch=RESNET18, amp=AMPConfig(use_dynamic_loss_scaling=False))
    assert static.scaling == {"loss_scale": None, "skipped_steps": 0}
    assert stepper(arch=RESNET18).scaling == {"loss_scale": None, "skipped_steps": None}


def test_update_ratio_compares_weights_before_and_after(stepper: Build):
    """The ratio of each stage is |new - old| / |old|, as computed from the weights."""
    run = stepper(arch=RESNET18, update_ratios=True)
    before = weights_of(run)
    run.start_epoch(1)
    run.run(batch_of(8), 0, is_reported=True)
    change, found = change_of(run, before), measured(run)["update_ratios"]
    assert list(found) == list(STAGES)
    for stage, prefixes in {"stem": ("stem.",), "stage2": ("blocks.2.", "blocks.3."), "head": ("fc.",)}.items():
        names = [name for name in change if name.startswith(prefixes)]
        expected = norm({n: change[n] for n in names}) / norm({n: before[n] for n in names})
        assert found[stage] == pytest.approx(expected, rel=1e-3), stage


def test_stages_of_resnet50_have_its_blocks():
    """ResNet50's stages have 3, 4, 6 and 3 blocks. Together, the stages contain every trainable parameter once."""
    network = build_network(ArchConfig(name="ResNet50", class_num=3))
    stages = split_stages(network)
    names = {id(parameter): name for name, parameter in network.named_parameters()}
    blocks = {stage: {names[id(p)].split(".")[1] for p in stages[stage]} for stage in STAGES[1:5]}
    assert [len(found) for found in blocks.values()] == [3, 4, 6, 3]
    assert blocks["stage3"] == {"7", "8", "9", "10", "11", "12"}
    trained = [name for name, parameter in network.named_parameters() if not parameter.stop_gradient]
    assert sorted(names[id(p)] for stage in stages.values() for p in stage) == sorted(trained)


@pytest.mark.parametrize(
    "values",
    [{}, {"optimizer": {"name": "AdamW", "weight_decay": 0.05}, "ema_decay": 0.9, "update_freq": 2}],
    ids=["momentum", "adamw-ema-accumulated"],
)
def test_measuring_does_not_change_the_training(stepper: Build, values: dict):
    """Weights, averages and optimizer states are bit-identical with and without measuring every step."""
    files = []
    for is_reported in (False, True):
        run = stepper(arch=RESNET18, update_ratios=is_reported, **values)
        run.start_epoch(1)
        for batches in range(6):
            run.run(batch_of(4, start=2 * batches), batches, is_reported=is_reported)
            measured(run)
        files.append(run.files())
    for file, arrays in files[0].items():
        for name, array in arrays.items():
            np.testing.assert_array_equal(files[1][file][name], array, err_msg=f"{file} {name}")


def test_steps_that_are_not_reported_measure_no_update(stepper: Build):
    """Between two reports, neither norms nor ratios are computed."""
    run = stepper(arch=RESNET18, update_ratios=True)
    run.start_epoch(1)
    run.run(batch_of(4), 0)
    found = measured(run)
    assert (found["gradient_norm"], found["update_ratios"]) == (None, {})


def run_steps(clock: StepClock, time: Clock, steps: list[tuple[float, bool]]) -> list[float]:
    for seconds, is_reported in steps:
        clock.add("load", 1.0)
        clock.start_batch(is_reported=is_reported)
        with clock.measure("forward"):
            time.now += seconds
        clock.finish_step()
    return clock.close()


@pytest.mark.parametrize(
    ("device", "forward", "synchronizations"), [("cpu", 3.0, 0), ("gpu:0", 6.0, 2)], ids=["cpu", "gpu"]
)
def test_only_reported_steps_wait_for_the_device(device: str, forward: float, synchronizations: int):
    """On a CPU, the time of a phase is the mean of all steps. On a GPU, it is that of the synchronized last step."""
    time = Clock()
    clock = StepClock(device, lambda: time.now, time.synchronize)
    found = dict(zip(PHASES, run_steps(clock, time, [(1.0, False), (2.0, False), (6.0, True)]), strict=True))
    assert (found["load"], found["forward"], found["backward"]) == (1.0, forward, 0.0)
    assert time.synchronizations == synchronizations
    assert run_steps(clock, time, [(4.0, True)])[1] == 4.0  # the next interval starts from zero


def test_phases_of_a_step_add_up(stepper: Build):
    """The phases are disjoint, so that their sum is at most the time of the step, and nearly all of it."""
    run = stepper(arch=RESNET18)
    run.start_epoch(1)
    run.run(batch_of(8), 0)
    measured(run)
    seconds = -perf_counter()
    run.run(batch_of(8), 1)
    seconds += perf_counter()
    found = measured(run)["phase_seconds"]
    assert set(found) == {"forward", "backward", "optimizer"}
    assert 0.5 * seconds < sum(found.values()) <= seconds


def test_memory_on_a_cpu_is_the_resident_memory():
    """Current and highest memory agree with psutil. Paddle has no such figure for custom devices."""
    array = np.ones(32 << 20, np.uint8)
    found = read_memory("cpu")
    assert found is not None
    current, peak = found
    assert current == pytest.approx(psutil.Process().memory_info().rss, rel=0.1)
    assert peak >= current > array.nbytes
    assert read_memory("npu:0") is None


def test_memory_is_unknown_if_the_kernel_does_not_report_it(monkeypatch, tmp_path):
    """Some kernels, such as gVisor, have no VmHWM. This does not end the training run."""
    (tmp_path / "status").write_text("Name:\tpython\nVmRSS:\t  1000 kB\n")
    monkeypatch.setattr(memory, "_STATUS", tmp_path / "status")
    assert read_memory("cpu") is None


def test_memory_on_a_gpu_is_that_of_tensors(monkeypatch):
    """On a GPU, Paddle's counters are read."""
    monkeypatch.setattr(paddle.device.cuda, "memory_allocated", lambda: 5)
    monkeypatch.setattr(paddle.device.cuda, "max_memory_allocated", lambda: 9)
    assert read_memory("gpu:1") == (5, 9)
