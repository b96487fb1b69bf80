"""Measures one rank: its step compared with a bare loop, the share of events and metrics, and the pause for a set.

The native step includes everything in a `TrainingRun`: reading, decoding and cropping images, meters, events and
heartbeat. The bare loop has its batches in memory as tensors and computes only forward, loss, backward and step.
"""

from __future__ import annotations

import contextlib
import gc
import io
import shutil
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from targets import Target
from training_recipe import BATCH_SIZE, make_config, make_parameters, write_digits

from resnet50_pipeline.events import CheckpointSaved, EpochEnd, EventWriter, Started, TrainStep, read_events
from resnet50_pipeline.logs.terminal import TerminalView
from resnet50_pipeline.paddleclas.progress import TrainingProgress
from resnet50_pipeline.progress import ProgressLines, showing_in
from resnet50_pipeline.recipe.document import TrainingConfig
from resnet50_pipeline.training_dir import events_path

ROUNDS = 7
STEPS = 10  # per round
BOOKKEEPING_STEPS = 400
PRINT_STEP = 5  # as in conf/base; conf/imagenet prints half as often


def measure(folder: Path) -> list[Target]:
    """Return the targets for one rank. This takes about three minutes."""
    import paddle

    paddle.set_device("cpu")
    root = folder / "digits"
    write_digits(root, train_images_per_class=STEPS * BATCH_SIZE // 10)

    def config(**changes: Any) -> TrainingConfig:
        training = make_parameters(print_batch_step=PRINT_STEP, **changes)
        return make_config(training, root, folder / "training")

    plain, saving = config(), config(save_interval_steps=STEPS // 2)
    batches = load_batches(plain)
    bare_loop(plain, batches)  # a warm-up: the first loop also allocates Paddle's buffers
    rounds = [measure_round(number, plain, saving, batches) for number in range(ROUNDS)]
    step = statistics.median(one.bare for one in rounds) / STEPS
    bookkeeping = bookkeeping_seconds(folder)
    print(f"bare step {step * 1e3:.0f} ms; meters, heartbeat and events {bookkeeping * 1e3:.2f} ms per step")
    with_set = statistics.median(one.saving - one.native for one in rounds)
    print(f"a set written within an epoch changes the epoch's time by {with_set * 1e3:+.0f} ms (median of differences)")
    print(f"the progress bar takes {progress_bar_share():.2%} of a core of the control plane")
    return [
        Target("native step / bare loop", statistics.median(one.native / one.bare for one in rounds), 1.03),
        Target("events, meters and heartbeat / step", bookkeeping / step, 0.005),
        Target("times of eight ranks / step", rank_times_seconds(plain) / step, 0.001),
        Target("gradient norm / step", monitoring_share(plain, batches), 0.01),
        Target("gradient norm and update ratios / step", monitoring_share(config(update_ratios=True), batches), 0.03),
        Target("pause for a set / paddle.save", statistics.median(one.stall / one.save for one in rounds), 1.0),
    ]


@dataclass(frozen=True)
class Round:
    """Seconds of one round: a bare, a native and a saving epoch, the pause for the set, and a plain `paddle.save`."""

    bare: float
    native: float
    saving: float
    stall: float
    save: float


def measure_round(
    number: int, plain: TrainingConfig, saving: TrainingConfig, batches: Sequence[tuple[Any, Any]]
) -> Round:
    """Measure all tasks one after another, in reverse order in every other round."""
    seconds: dict[str, float] = {}
    tasks: list[Callable[[], dict[str, float]]] = [
        lambda: {"bare": bare_loop(plain, batches)},
        lambda: {"native": native_epoch(plain)[0]},
        lambda: dict(zip(("saving", "stall"), native_epoch(saving), strict=True)),
        lambda: {"save": paddle_save_seconds(plain)},
    ]
    for task in tasks if number % 2 == 0 else tasks[::-1]:
        gc.collect()  # networks contain reference cycles
        seconds |= task()
    print(f"round {number + 1}:", ", ".join(f"{name} {value * 1e3:.0f} ms" for name, value in seconds.items()))
    return Round(**seconds)


def load_batches(config: TrainingConfig) -> list[tuple[Any, Any]]:
    """Return the batches of the first epoch as tensors: images [N, 3, H, W] and labels [N, 1]."""
    from resnet50_pipeline.imagenet.lists.files import read_list_file
    from resnet50_pipeline.trainer.data.dataset import ListDataset
    from resnet50_pipeline.trainer.data.loader import Loader
    from resnet50_pipeline.trainer.data.sampling import TrainBatches
    from resnet50_pipeline.trainer.share import Share

    split = config.DataLoader.Train
    entries = read_list_file(Path(split.dataset.cls_label_path), class_num=config.Arch.class_num)
    order = TrainBatches(len(entries), split, Share(1, range(1)), config.Global.seed)
    order.epoch = 1
    loader = Loader(ListDataset(entries, split, config.Global.seed), order, split)
    return [(batch.images, batch.labels.reshape([-1, 1])) for batch in loader]


def bare_loop(config: TrainingConfig, batches: Sequence[tuple[Any, Any]]) -> float:
    """Return the seconds that a minimal training loop takes for the batches."""
    import paddle
    import paddle.nn.functional as F  # noqa: N812

    from resnet50_pipeline.trainer.network import build_network

    network = build_network(config.Arch)
    optimizer = paddle.optimizer.Momentum(
        learning_rate=0.02, momentum=0.9, parameters=network.parameters(), weight_decay=paddle.regularizer.L2Decay(1e-4)
    )
    network.train()
    started = time.perf_counter()
    for images, labels in batches:
        loss = F.cross_entropy(network(images), labels)
        loss.backward()
        optimizer.step()
        optimizer.clear_grad()
    float(loss)
    return time.perf_counter() - started


def native_epoch(config: TrainingConfig) -> tuple[float, float]:
    """Train one epoch with a `TrainingRun`. Return its seconds and the seconds it pauses for sets within the epoch."""
    from resnet50_pipeline.trainer.heartbeat import Heartbeat
    from resnet50_pipeline.trainer.ranks import Ranks
    from resnet50_pipeline.trainer.training import TrainingRun

    output_dir = Path(config.Global.output_dir)
    shutil.rmtree(output_dir, ignore_errors=True)
    TrainingRun(config, Ranks(0, 1, "cpu"), Heartbeat(output_dir, 0)).execute()
    events = read_events(events_path(output_dir))
    (seconds,) = [event.seconds for event in events if isinstance(event, EpochEnd)]
    stalls = [event.stall_seconds for event in events if isinstance(event, CheckpointSaved) and event.epoch == 0]
    return seconds, sum(stalls)


def paddle_save_seconds(config: TrainingConfig) -> float:
    """Return the seconds that a plain `paddle.save` takes to write the weights to the disk of the checkpoint sets."""
    import paddle

    from resnet50_pipeline.trainer.network import build_network

    weights = build_network(config.Arch).state_dict()
    path = Path(config.Global.output_dir).parent / "weights.pdparams"
    started = time.perf_counter()
    paddle.save(weights, str(path))
    return time.perf_counter() - started


def bookkeeping_seconds(folder: Path) -> float:
    """Return the seconds per step for meters and heartbeat, and for its share of writing and displaying events.

    During training, another process displays the events; here, the time to display them is included.
    """
    import paddle

    from resnet50_pipeline.trainer.data.batches import Batch
    from resnet50_pipeline.trainer.heartbeat import Heartbeat
    from resnet50_pipeline.trainer.meters import EpochMeters
    from resnet50_pipeline.trainer.ranks import Ranks

    heartbeat, meters = Heartbeat(folder / "bookkeeping", 0), EpochMeters(Ranks(0, 1, "cpu"), 0)
    writer = EventWriter(folder / "bookkeeping" / "events.jsonl")
    loss, logits = paddle.ones([]), paddle.ones([BATCH_SIZE, 10])
    labels = paddle.zeros([BATCH_SIZE], dtype="int64")
    batch = Batch(images=paddle.ones([BATCH_SIZE, 3, 32, 32]), labels=labels, index=labels, mixed=None)
    started = time.perf_counter()
    for step in range(1, BOOKKEEPING_STEPS + 1):
        meters.add(loss, logits, batch, reader_seconds=0.0)
        heartbeat.beat()
        if step % PRINT_STEP == 0:
            totals = meters.close_interval(step, wants_to_stop=False).totals
            writer.write(_train_step(step, totals.mean_loss, totals.top1))
    show_events(folder / "bookkeeping" / "events.jsonl")
    return (time.perf_counter() - started) / BOOKKEEPING_STEPS


def rank_times_seconds(config: TrainingConfig) -> float:
    """Return the seconds per step for measuring a rank's times and for finding the slow ones among eight ranks.

    The ranks exchange their times in a message that they exchange anyway.
    """
    import numpy as np

    from resnet50_pipeline.trainer.meters import Totals
    from resnet50_pipeline.trainer.monitoring.clock import PHASES
    from resnet50_pipeline.trainer.monitoring.monitor import Monitor
    from resnet50_pipeline.trainer.network import build_network
    from resnet50_pipeline.trainer.ranks import Ranks

    monitor = Monitor(build_network(config.Arch), Ranks(0, 1, "cpu"), config.Global)
    totals = Totals(ranks=8, steps=PRINT_STEP, rank_seconds=8.0 * PRINT_STEP)
    started = time.perf_counter()
    for step in range(1, BOOKKEEPING_STEPS + 1):
        monitor.start_batch(step, is_reported=False)
        for phase in PHASES:
            with monitor.clock.measure(phase):
                pass
        monitor.finish_step(step)
        if step % PRINT_STEP == 0:
            ranks = np.tile(monitor.close_interval(), (8, 1))
            monitor.describe(ranks, totals)
            monitor.find_stragglers(ranks, totals)
    return (time.perf_counter() - started) / BOOKKEEPING_STEPS


def monitoring_share(config: TrainingConfig, batches: Sequence[tuple[Any, Any]]) -> float:
    """Return the time to measure gradients and updates every PRINT_STEP steps, as a share of the time of the steps."""
    import paddle

    from resnet50_pipeline.trainer.data.batches import Batch
    from resnet50_pipeline.trainer.ranks import Ranks
    from resnet50_pipeline.trainer.step import Stepper

    stepper = Stepper(config, Ranks(0, 1, "cpu"), len(batches))
    stepper.start_epoch(1)
    seconds: dict[bool, list[float]] = {False: [], True: []}
    for step in range(2 * ROUNDS):
        images, labels = batches[step % len(batches)]
        labels = labels.reshape([-1])
        batch = Batch(images=images, labels=labels, index=paddle.arange(len(labels)), mixed=None)
        started = time.perf_counter()
        stepper.run(batch, step, is_reported=step % 2 == 1)
        seconds[step % 2 == 1].append(time.perf_counter() - started)
    plain, measured = (statistics.median(found[1:]) for found in seconds.values())
    return (measured - plain) / PRINT_STEP / plain


def show_events(path: Path) -> None:
    """Read and display every event, as the control plane does."""
    with progress_bar() as show:
        for event in read_events(path):
            show(event)


def progress_bar_share(seconds: float = 3.0) -> float:
    """Return the share of a core that the live progress bar takes between events."""
    with progress_bar() as show:
        show(
            Started(
                ranks=1, device="cpu", epochs=1, steps_per_epoch=9, train_images=9, val_images=9, first_step=0,
                paddle_version="",
            )
        )  # fmt: skip
        started = time.process_time()
        time.sleep(seconds)
        return (time.process_time() - started) / seconds


@contextlib.contextmanager
def progress_bar() -> Iterator[TrainingProgress]:
    """Yield a live progress bar in an emulated terminal."""
    view = TerminalView(Console(file=io.StringIO(), force_terminal=True, width=80), ProgressLines())
    with showing_in(view), TrainingProgress() as show:
        yield show


def _train_step(step: int, loss: float, top1: float) -> TrainStep:
    return TrainStep(
        step=step, epoch=1, loss=loss, top1=top1, learning_rate=0.1, images_per_second=1.0, reader_seconds=0.0,
        batch_seconds=1.0,
    )  # fmt: skip
