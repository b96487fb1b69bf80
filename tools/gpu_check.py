"""Checks training on this machine's GPUs within five minutes, without a network: `sh tools/gpu_check.sh`.

The program runs `kedro preflight`, then short training runs on random images, each with another setting, and compares
their speed with a bare loop. It prints a table and writes a JSON file to attach to an issue. The exit code is 1 if a
check failed. `--device cpu` runs the same program on a machine without GPUs.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from rich.console import Console
from rich.table import Table

from resnet50_pipeline.events import CheckpointSaved, TrainStep, read_events
from resnet50_pipeline.exceptions import PipelineError
from resnet50_pipeline.files import write_text
from resnet50_pipeline.paddleclas.config import TrainingPaths, render_training_config
from resnet50_pipeline.paddleclas.launch.command import (
    TRAINER_PROGRAM,
    Program,
    build_launch_command,
    visible_devices_variable,
)
from resnet50_pipeline.paddleclas.train import train_network
from resnet50_pipeline.parameters import TrainingParameters
from resnet50_pipeline.preflight.cards import read_cards
from resnet50_pipeline.recipe.document import TrainingConfig
from resnet50_pipeline.text import format_bytes
from resnet50_pipeline.training_dir import checkpoint_paths, config_path, events_path

PROJECT = Path(__file__).parents[1]
PROBE = TRAINER_PROGRAM.with_name("probes") / "device_check.py"
CLASSES, IMAGES = 10, 64
PROBE_SECONDS = 240


@dataclass(frozen=True)
class Options:
    """What to run: device, numbers of the devices, network, steps per run, images per batch, and image size."""

    device: str
    devices: tuple[int, ...]
    arch: str
    steps: int
    batch_size: int
    image_size: int


@dataclass(frozen=True)
class Check:
    """The result of a check: ok, failed or skipped."""

    name: str
    status: str
    detail: str = ""
    images_per_second: float | None = None
    share_of_bare_loop: float | None = None
    peak_memory_bytes: int | None = None
    seconds: float = 0.0


@dataclass
class Report:
    """All results, as in the JSON file."""

    options: Options
    versions: dict[str, Any]
    checks: list[Check] = field(default_factory=list)
    preflight: list[dict[str, Any]] = field(default_factory=list)


class Skip(Exception):  # noqa: N818 - not an error
    """The check does not apply to this machine."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run all checks, print the table and write the JSON file."""
    parser = argparse.ArgumentParser(prog="gpu_check.sh", description=__doc__)
    parser.add_argument("--device", default="gpu", help="gpu, cpu, or the name of a Paddle custom device")
    parser.add_argument("--devices", default="0,1", help="numbers of the devices; the second is for the run on two")
    parser.add_argument("--arch", default="ResNet50", help="network")
    parser.add_argument("--steps", type=int, default=50, help="steps of each run, at least 4")
    parser.add_argument("--batch-size", type=int, default=64, help="images per batch")
    parser.add_argument("--image-size", type=int, default=224, help="side of the training images in pixels")
    parser.add_argument("--output", type=Path, default=PROJECT / "build" / "gpu_check.json", help="JSON file to write")
    given = parser.parse_args(arguments)
    options = Options(
        given.device,
        tuple(int(number) for number in given.devices.split(",")),
        given.arch,
        max(given.steps, 4),
        given.batch_size,
        given.image_size,
    )
    with tempfile.TemporaryDirectory(prefix="gpu-check-") as folder:
        report = run_checks(options, Path(folder))
    write_text(given.output, json.dumps(asdict(report), indent=1) + "\n")
    show(report)
    print(f"Attach {given.output} to your issue.")
    return int(any(check.status == "failed" for check in report.checks))


def run_checks(options: Options, folder: Path) -> Report:
    """Run all checks. A failed check does not end the others."""
    report = Report(options, {"python": sys.version.split()[0]})
    cards = read_cards(options.devices[:1]) if options.device == "gpu" else "no GPU requested"
    report.versions["cards"] = cards if isinstance(cards, str) else asdict(cards)
    write_images(folder / "data", options)
    runs = Runs(options, folder)
    checks: list[tuple[str, Callable[[], Check]]] = [
        ("preflight", lambda: check_preflight(options, report)),
        ("bare loop", lambda: runs.measure_bare_loop(report)),
        ("float32", lambda: runs.train("float32")),
        ("AMP, NHWC", lambda: runs.train("AMP, NHWC", **amp_parameters(options))),
        ("normalize_on_device", lambda: runs.train("normalize_on_device", loader={"normalize_on_device": True})),
        ("pinned copies", runs.check_copies),
        ("DALI", lambda: runs.train("DALI", **dali_parameters(options))),
        ("two ranks", lambda: runs.train("two ranks", ranks=2)),
        ("exact resume", runs.check_resume),
    ]
    for name, run in checks:
        print(f"{name} …", flush=True)
        started = time.perf_counter()
        try:
            check = run()
        except Skip as reason:
            check = Check(name, "skipped", str(reason))
        except (PipelineError, subprocess.SubprocessError, OSError, ValueError) as error:
            check = Check(name, "failed", " ".join(f"{type(error).__name__}: {error}".split())[:500])
        report.checks.append(Check(**{**asdict(check), "name": name, "seconds": time.perf_counter() - started}))
    return report


def check_preflight(options: Options, report: Report) -> Check:
    """Run `kedro preflight` for the sample on the devices."""
    devices = ",".join(map(str, available_devices(options)))
    command = [sys.executable, "-m", "kedro", "preflight", "--json"]
    command += ["--params", f"training.launch.device={options.device},training.launch.devices=[{devices}]"]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, timeout=PROBE_SECONDS, check=False)
    if not done.stdout.strip().startswith("{"):
        raise ValueError(f"kedro preflight ended with exit code {done.returncode}: {done.stderr.strip()[-300:]}")
    report.preflight = json.loads(done.stdout)["findings"]
    bad = [one for one in report.preflight if one["status"] != "ok"]
    detail = "; ".join(f"{one['check']}: {one['found']}" for one in bad) or f"{len(report.preflight)} checks passed"
    return Check("preflight", "failed" if done.returncode else "ok", detail)


class Runs:
    """Training runs with a few changed parameters, in their own folders."""

    def __init__(self, options: Options, folder: Path) -> None:
        self._options, self._folder = options, folder
        self._bare_images_per_second: float | None = None
        self._copies: dict[str, Any] | None = None

    def train(self, name: str, *, ranks: int = 1, **changes: Any) -> Check:
        """Train for one epoch. Return its speed without the first report, which includes the warm-up."""
        if ranks > len(available_devices(self._options)):
            raise Skip("only one device")
        _, output = self._prepare(name, ranks, changes)
        steps = [event for event in read_events(events_path(output)) if isinstance(event, TrainStep)]
        speed = statistics.median(event.images_per_second for event in steps[1:])
        memory = max((event.peak_memory_bytes or 0 for event in steps), default=0)
        bare = self._bare_images_per_second
        norm = steps[-1].gradient_norm
        return Check(
            name,
            "ok",
            f"loss {steps[0].loss:.3f} to {steps[-1].loss:.3f}"
            + ("" if norm is None else f", gradient norm {norm:.3g}"),
            images_per_second=speed,
            share_of_bare_loop=None if bare is None else speed / (bare * ranks),
            peak_memory_bytes=memory or None,
        )

    def measure_bare_loop(self, report: Report) -> Check:
        """Measure the bare loop in a process with the ranks' environment."""
        training, config, output = self._render("bare loop", 1, {})
        write_text(config_path(output), config.to_yaml())
        arguments = ["--config", str(config_path(output)), "--steps", str(self._options.steps)]
        program = Program(PROBE, import_path=TRAINER_PROGRAM.parents[2])
        environment = build_launch_command(training.launch, output / "log", arguments, program=program).environment
        if (variable := visible_devices_variable(self._options.device)) is not None:
            # Without the launcher, the process would use the first visible device.
            environment = {**environment, variable: str(training.launch.devices[0])}
        (output / "log" / "home").mkdir(parents=True, exist_ok=True)
        done = subprocess.run(
            [sys.executable, "-W", "ignore", str(PROBE), *arguments],
            env=environment,
            capture_output=True,
            text=True,
            timeout=PROBE_SECONDS,
            check=False,
        )
        if done.returncode:
            raise ValueError(f"the bare loop failed: {done.stderr.strip()[-300:]}")
        found = json.loads(done.stdout.strip().splitlines()[-1])
        report.versions |= {name: found[name] for name in ("paddle", "cuda", "cudnn")}
        self._copies = found["copies"]
        self._bare_images_per_second = self._options.batch_size / found["bare_step_seconds"]
        return Check(
            "bare loop",
            "ok",
            f"{found['bare_step_seconds'] * 1e3:.1f} ms per step, float32",
            images_per_second=self._bare_images_per_second,
        )

    def check_copies(self) -> Check:
        """Return the result of the copies that the process of the bare loop has made."""
        if self._copies is None:
            raise Skip("the bare loop failed")
        status = "failed" if self._copies["differing"] else "ok"
        detail = f"{self._copies['differing']} copies differ; {self._copies['gib_per_second']:.1f} GiB/s"
        return Check("pinned copies", status, detail)

    def check_resume(self) -> Check:
        """Train two epochs in deterministic mode, and the second epoch again from the set of the first."""
        changes = {"epochs": 2, "deterministic": True, "keep_checkpoints": 9}
        training, output = self._prepare("whole", 1, changes, images=self._options.steps // 2)
        resumed = output.with_name("resumed")
        shutil.copytree(output, resumed)
        first, *later = checkpoint_paths(resumed)
        for path in later:
            shutil.rmtree(path)
        _cut_events(events_path(resumed), first.name)
        config = self._config(training, resumed, self._options.steps // 2)
        train_network(config, training.model_copy(update={"resume": True}))
        digests = [
            {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(last.glob("*.safetensors"))}
            for last in (checkpoint_paths(folder)[-1] for folder in (output, resumed))
        ]
        differing = [name for name, digest in digests[0].items() if digests[1].get(name) != digest]
        if differing:
            return Check("exact resume", "failed", f"{', '.join(differing)} differ after the resume")
        return Check("exact resume", "ok", f"SHA-256 of the weights {digests[0]['weights.safetensors'][:16]}…")

    def _prepare(
        self, name: str, ranks: int, changes: dict[str, Any], images: int | None = None
    ) -> tuple[TrainingParameters, Path]:
        training, config, output = self._render(name, ranks, changes, images)
        train_network(config, training)
        return training, output

    def _render(
        self, name: str, ranks: int, changes: dict[str, Any], steps: int | None = None
    ) -> tuple[TrainingParameters, TrainingConfig, Path]:
        options = self._options
        steps = steps or options.steps
        workers = min(8, (os.cpu_count() or 2) // 2) if options.device != "cpu" else 0
        training = TrainingParameters.model_validate(
            {
                "epochs": 1,
                "batch_size_per_rank": options.batch_size,
                "eval_batch_size_per_rank": options.batch_size,
                "print_batch_step": max(1, steps // 5),
                "launch": {"device": options.device, "devices": available_devices(options)[:ranks]},
                "arch": {"name": options.arch},
                "lr": {"name": "Cosine", "learning_rate": 0.01},
                "train_transform": {"size": options.image_size},
                "eval_transform": {"resize_short": options.image_size, "size": options.image_size},
                **changes,
                # All runs have the same number of workers, so that their speeds are comparable.
                "loader": {"num_workers": workers, **changes.get("loader", {})},
            }
        )
        output = self._folder / name.replace(" ", "-").replace(",", "")
        return training, self._config(training, output, steps, ranks), output

    def _config(self, training: TrainingParameters, output: Path, steps: int, ranks: int = 1) -> TrainingConfig:
        data = self._folder / "data"
        train_list = data / f"train_{steps * ranks}.txt"
        write_list(train_list, steps * ranks * self._options.batch_size)
        return render_training_config(training, CLASSES, TrainingPaths(data, train_list, data / "val_list.txt", output))


def amp_parameters(options: Options) -> dict[str, Any]:
    """Return the parameters of half precision and NHWC. Paddle has no half precision on a CPU."""
    if options.device == "cpu":
        return {"arch": {"name": options.arch, "data_format": "NHWC"}}
    return {"arch": {"name": options.arch, "data_format": "NHWC"}, "amp": {"use_amp": True}}


def dali_parameters(options: Options) -> dict[str, Any]:
    """Return the parameters of DALI.

    Raises:
        Skip: if DALI is missing, or the device is not an NVIDIA GPU.
    """
    if options.device != "gpu":
        raise Skip("needs an NVIDIA GPU")
    if importlib.util.find_spec("nvidia") is None or importlib.util.find_spec("nvidia.dali") is None:
        raise Skip("nvidia-dali is not installed")
    return {"loader": {"use_dali": True}}


def available_devices(options: Options) -> list[int]:
    """Return the device numbers to use. On a GPU, only cards that NVML finds."""
    if options.device != "gpu":
        return list(options.devices)
    found = [number for number in options.devices if not isinstance(read_cards([number]), str)]
    return found or list(options.devices[:1])


def write_images(data: Path, options: Options) -> None:
    """Write random JPEG files, a little larger than the crops, and the val list."""
    draw = np.random.default_rng(0)
    side = options.image_size + 32
    (data / "images").mkdir(parents=True)
    for number in range(IMAGES):
        coarse = draw.integers(0, 256, (side // 8, side // 8, 3), dtype=np.uint8)
        picture = Image.fromarray(coarse).resize((side, side), Image.Resampling.BICUBIC)
        picture.save(data / "images" / f"{number}.jpg", quality=90)
    write_list(data / "val_list.txt", IMAGES)


def write_list(path: Path, images: int) -> None:
    """Write a list file that repeats the images. The class of an image is the last digit of its number."""
    numbers = (number % IMAGES for number in range(images))
    write_text(path, "".join(f"images/{number}.jpg {number % CLASSES}\n" for number in numbers))


def _cut_events(path: Path, name: str) -> None:
    """Delete the events after the checkpoint set with this name, as if the run had been killed then."""
    kept = list(_until_saved(path, name))
    write_text(path, "".join(f"{line}\n" for line in kept))


def _until_saved(path: Path, name: str) -> Iterator[str]:
    for line, event in zip(path.read_text(encoding="utf-8").splitlines(), read_events(path), strict=True):
        yield line
        if isinstance(event, CheckpointSaved) and event.path.endswith(name):
            return


def show(report: Report) -> None:
    """Print the versions and the table."""
    versions = ", ".join(
        f"{name} {report.versions[name]}" for name in ("paddle", "cuda", "cudnn") if name in report.versions
    )
    options = report.options
    title = f"{options.arch}, {options.batch_size} images of {options.image_size} pixels, {options.device}; {versions}"
    table = Table(title=title, title_justify="left")
    for column in ("check", "result", "images/s", "/ bare loop", "peak memory", "seconds", "detail"):
        table.add_column(column, justify="left" if column in ("check", "result", "detail") else "right")
    for check in report.checks:
        table.add_row(
            check.name,
            check.status,
            "" if check.images_per_second is None else f"{check.images_per_second:,.1f}",
            "" if check.share_of_bare_loop is None else f"{check.share_of_bare_loop:.2f}",
            "" if check.peak_memory_bytes is None else format_bytes(check.peak_memory_bytes),
            f"{check.seconds:.0f}",
            check.detail,
        )
    Console().print(table)


if __name__ == "__main__":
    sys.exit(main())
