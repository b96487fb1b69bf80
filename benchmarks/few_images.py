"""Measures the gain from fine-tuning, class weights and balanced sampling: `python benchmarks/few_images.py [--check]`.

- `finetune`: a network is trained on the digits 0 to 4. Then a network is trained on the digits 5 to 9 with 10, 20 or
  50 images per class, starting from these weights (recipe finetune) or from random weights (recipe from-scratch-small).
- `long-tail`: a network learns ten digits, with 200 images in the largest class and 4 in the smallest (50:1), without
  compensation, with class weights, and with class-balanced sampling.

Each comparison uses three seeds, which also determine the images. The best epoch is chosen on a val list with 20 images
per class, and the accuracies are measured on a test list with 70 other images per class. The gain is the difference in
balanced accuracy, in percentage points, averaged over the seeds, with its 95% confidence interval (Student's t).

Prints one line per run, and one line per target: `target | measured | bound | met`. With --check, the exit code is 1 if
a target is missed. With --results FILE, finished runs are appended to the file and not repeated, so that an interrupted
benchmark can continue. The full benchmark takes about 100 minutes on one idle core. With --smoke, it takes a few
minutes and only checks that the program works; the results are meaningless.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from targets import Target, report

from resnet50_pipeline.imagenet.lists.files import read_list_file
from resnet50_pipeline.imagenet.sample import write_sample
from resnet50_pipeline.paddleclas.config import TrainingPaths, render_training_config
from resnet50_pipeline.paddleclas.evaluated_model import find_best_model
from resnet50_pipeline.paddleclas.prediction import predict_list
from resnet50_pipeline.paddleclas.train import train_network
from resnet50_pipeline.parameters import LaunchParameters, TrainingParameters
from resnet50_pipeline.recipes import read_recipe
from resnet50_pipeline.reporting.metrics import compute_metrics
from resnet50_pipeline.training_dir import best_checkpoint

RECIPES = Path(__file__).parents[1] / "conf" / "recipes"
FIRST_HALF, SECOND_HALF, ALL = range(5), range(5, 10), range(10)
VAL_IMAGES, TEST_IMAGES = 20, 70
# The sample's transform. Digits fill the image, and a mirrored digit may be a different digit.
TRANSFORMS: dict[str, Any] = {
    "train_transform": {"size": 32, "scale": [0.9, 1.0], "ratio": [0.95, 1.05], "flip": False},
    "eval_transform": {"resize_short": 32, "size": 32},
}
# 97.5% quantile of Student's t for a mean over this many seeds.
T_QUANTILES = {2: 12.706, 3: 4.303, 4: 3.182, 5: 2.776}


@dataclass(frozen=True)
class Scale:
    """The size of the benchmark."""

    seeds: tuple[int, ...] = (0, 1, 2)
    images_per_class: tuple[int, ...] = (10, 20, 50)
    pretrain_images: int = 400
    largest_class: int = 200
    epochs: Mapping[str, int] = field(
        default_factory=lambda: {"pretrain": 8, "finetune": 40, "from-scratch-small": 100, "long-tail": 25}
    )


SMOKE = Scale(
    seeds=(0, 1),
    images_per_class=(10,),
    pretrain_images=10,
    largest_class=50,
    epochs={"pretrain": 3, "finetune": 4, "from-scratch-small": 6, "long-tail": 3},
)


class Benchmark:
    """Trains and evaluates, and records each result."""

    def __init__(self, folder: Path, options: argparse.Namespace) -> None:
        self._folder, self._options = folder, options
        self.scale = SMOKE if options.smoke else Scale()
        self._results: dict[str, float] = {}
        if options.results is not None and options.results.exists():
            for line in options.results.read_text(encoding="utf-8").splitlines():
                result = json.loads(line)
                self._results[result["run"]] = result["balanced_accuracy"]

    def has_result(self, name: str, seed: int) -> bool:
        """Return whether an earlier benchmark has finished this run."""
        return self._name(name, seed) in self._results

    def _name(self, name: str, seed: int) -> str:
        return f"{self._options.network} {name}, seed {seed}"

    def accuracy(self, name: str, seed: int, images_of_digit: Mapping[int, int], training: dict[str, Any]) -> float:
        """Train, and return the balanced accuracy of the best epoch on the test list, 0..1."""
        run = self._name(name, seed)
        if run not in self._results:
            started = time.perf_counter()
            folder = self.train(run, seed, images_of_digit, training)
            self._results[run] = self._evaluate(folder, images_of_digit)
            result = {"run": run, "balanced_accuracy": self._results[run], "seconds": time.perf_counter() - started}
            if self._options.results is not None:
                with self._options.results.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(result) + "\n")
        print(f"{run}: balanced accuracy {self._results[run]:.2%}", flush=True)
        return self._results[run]

    def train(self, run: str, seed: int, images_of_digit: Mapping[int, int], training: dict[str, Any]) -> Path:
        """Train on the first images of each digit, with labels in the order of the mapping. Return the folder."""
        folder = self._folder / run.replace(" ", "-").replace(",", "")
        root = self._dataset(seed)
        folder.mkdir()
        self._write_list(folder / "train_list.txt", root, "train", images_of_digit, 0)
        self._write_list(folder / "val_list.txt", root, "val", dict.fromkeys(images_of_digit, VAL_IMAGES), 0)
        values = {
            **{"eval_batch_size_per_rank": 100, "print_batch_step": 10, "keep_checkpoints": 1, "seed": seed},
            # An epoch may have only two steps, so most of the time would be spent on evaluating and saving.
            **{"eval_interval": 5, "save_interval": 1000},
            **{"batch_size_per_rank": 32, "loader": {"num_workers": 0}},
            **training,
            **TRANSFORMS,
            "launch": {"device": self._options.device, "devices": [0], "threads_per_rank": self._options.threads},
        }
        values["arch"] = {**values.get("arch", {}), "name": self._options.network}
        values["loader"] = {"num_workers": 0, **values["loader"]}
        parameters = TrainingParameters.model_validate(values)
        paths = TrainingPaths(root, folder / "train_list.txt", folder / "val_list.txt", folder / "training")
        return train_network(render_training_config(parameters, len(images_of_digit), paths), parameters)

    def _evaluate(self, training_dir: Path, digits: Mapping[int, int]) -> float:
        model = find_best_model(training_dir)
        root = Path(model.config.DataLoader.Eval.dataset.image_root)
        test_list = training_dir.parent / "test_list.txt"
        self._write_list(test_list, root, "val", dict.fromkeys(digits, TEST_IMAGES), VAL_IMAGES)
        launch = LaunchParameters.model_validate(
            {"device": self._options.device, "devices": [0], "threads_per_rank": self._options.threads}
        )
        predictions, summary = predict_list(
            model, test_list, launch, batch_size_per_rank=100, work_parent=training_dir.parent
        )
        return compute_metrics(predictions, summary)["balanced_accuracy"]

    def _dataset(self, seed: int) -> Path:
        """Return the folder with the digits, in an order that depends on the seed."""
        root = self._folder / f"digits-{seed}"
        if not root.exists():
            images = max(self.scale.pretrain_images, self.scale.largest_class, *self.scale.images_per_class)
            write_sample(root, images, VAL_IMAGES + TEST_IMAGES, seed=seed)
        return root

    @staticmethod
    def _write_list(path: Path, root: Path, split: str, images_of_digit: Mapping[int, int], start: int) -> None:
        entries = read_list_file(root / f"{split}_list.txt", 10)
        lines = []
        for label, (digit, images) in enumerate(images_of_digit.items()):
            paths = [one for one, of in zip(entries.paths, entries.labels, strict=True) if of == digit]
            lines += [f"{split}/{one} {label}\n" for one in paths[start : start + images]]
        path.write_text("".join(lines), encoding="utf-8")


def measure_fine_tuning(benchmark: Benchmark) -> list[Target]:
    """Return one target per recipe and number of images: its gain over training from scratch."""
    scale, recipes = benchmark.scale, {}
    for name in ("finetune", "from-scratch-small"):
        recipes[name] = read_recipe(RECIPES, name) | {"epochs": scale.epochs[name]}
        recipes[name]["lr"] = {**recipes[name]["lr"], "warmup_epoch": min(recipes[name]["lr"]["warmup_epoch"], 1)}
    one_rate = {**recipes["finetune"]["arch"]}
    del one_rate["lr_mult_list"]
    variants = {
        "fine-tuned": recipes["finetune"],
        "fine-tuned with one learning rate": recipes["finetune"] | {"arch": one_rate},
    }
    gains: dict[tuple[str, int], list[float]] = {(name, few): [] for name in variants for few in scale.images_per_class}
    for seed in scale.seeds:
        source: Path | None = None
        for images in scale.images_per_class:
            few = dict.fromkeys(SECOND_HALF, images)
            scratch = benchmark.accuracy(
                f"from scratch, {images} images per class", seed, few, recipes["from-scratch-small"]
            )
            for name, recipe in variants.items():
                run = f"{name}, {images} images per class"
                if source is None and not benchmark.has_result(run, seed):
                    whole = dict.fromkeys(FIRST_HALF, scale.pretrain_images)
                    pretraining = recipes["from-scratch-small"] | {"epochs": scale.epochs["pretrain"]}
                    source = best_checkpoint(benchmark.train(f"pretraining, seed {seed}", seed, whole, pretraining))
                tuned = benchmark.accuracy(run, seed, few, recipe | {"pretrained_model": source})
                gains[name, images].append(tuned - scratch)
    return [
        _gain_target(f"{name} instead of from scratch, {images} images per class", found)
        for (name, images), found in gains.items()
    ]


def measure_long_tail(benchmark: Benchmark) -> list[Target]:
    """Return one target per kind of compensation: its gain over training without compensation."""
    scale = benchmark.scale
    recipe = read_recipe(RECIPES, "from-scratch-small") | {"epochs": scale.epochs["long-tail"], "patience": None}
    recipe["lr"] = {**recipe["lr"], "warmup_epoch": 1}
    gains: dict[str, list[float]] = {"class weights": [], "balanced sampling": []}
    for seed in scale.seeds:
        # Each seed makes different digits rare.
        order = [(3 * place + seed) % 10 for place in ALL]
        images = {digit: round(scale.largest_class * 50 ** (-place / 9)) for place, digit in enumerate(order)}
        images = {digit: images[digit] for digit in ALL}
        per_class = round(sum(images.values()) / len(images))  # so that an epoch with sampling has the same length
        plain = benchmark.accuracy("long tail, no compensation", seed, images, recipe)
        for name, change in (
            ("class weights", {"loss": {"name": "CELoss", "class_weights": "balanced"}}),
            ("balanced sampling", {"loader": {"images_per_class": per_class}}),
        ):
            gains[name].append(benchmark.accuracy(f"long tail, {name}", seed, images, recipe | change) - plain)
    return [_gain_target(f"{name} on a long tail of 50:1", found) for name, found in gains.items()]


def _gain_target(name: str, gains: list[float]) -> Target:
    """Return the mean gain in points, which must not be negative, with its 95% confidence interval in the name."""
    points = [100 * gain for gain in gains]
    mean = statistics.mean(points)
    half = T_QUANTILES[len(points)] * statistics.stdev(points) / len(points) ** 0.5
    interval = f"95% interval {mean - half:.1f} to {mean + half:.1f}"
    return Target(f"{name}: gain in balanced accuracy, points ({interval})", mean, 0.0, at_least=True)


PARTS = {"finetune": measure_fine_tuning, "long-tail": measure_long_tail}


def main() -> int:
    """Measure the parts and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="exit with 1 if a target is missed")
    parser.add_argument("--only", nargs="+", choices=tuple(PARTS), default=tuple(PARTS), help="parts to measure")
    parser.add_argument("--network", default="ResNet18", help="network from ppcls.arch")
    parser.add_argument("--device", default="cpu", help="Paddle's name for the device")
    parser.add_argument("--threads", type=int, default=2, help="threads of the rank on a CPU")
    parser.add_argument("--results", type=Path, help="file to which finished runs are appended")
    parser.add_argument("--smoke", action="store_true", help="run only a quick check of the program")
    options = parser.parse_args()
    targets: list[Target] = []
    with tempfile.TemporaryDirectory(prefix="benchmark-few-images-") as folder:
        benchmark = Benchmark(Path(folder), options)
        for part in options.only:
            targets += PARTS[part](benchmark)
    return report(targets, is_checked=options.check)


if __name__ == "__main__":
    sys.exit(main())
