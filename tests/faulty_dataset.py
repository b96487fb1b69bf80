"""Helpers for tests of faulty datasets: break a dataset, run two stages on it, and inspect the outcome."""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from kedro.io import DataCatalog, MemoryDataset
from kedro.runner import SequentialRunner
from PIL import Image

from resnet50_pipeline.datasets import DirectoryDataset, JSONDataset, ParquetDataset, TextFileDataset
from resnet50_pipeline.exceptions import DatasetError
from resnet50_pipeline.imagenet.lists.fixes import ReviewCommands
from resnet50_pipeline.parameters import (
    DataPreparationParameters,
    DatasetParameters,
    DataValidationParameters,
    ShardParameters,
)
from resnet50_pipeline.pipelines import data_preparation, data_validation

REPOSITORY = Path(__file__).parents[1]
CONF = REPOSITORY / "conf" / "base" / "parameters_data_validation.yml"
BLOCKING = tuple(yaml.safe_load(CONF.read_text())["data_validation"]["blocking"])


@dataclass(frozen=True)
class Outcome:
    """The outcome of running data_validation and data_preparation.

    Attributes:
        exit_code: exit code of the command.
        message: text of the error, one problem per line.
        results: folder of all written files.
    """

    exit_code: int
    message: str
    results: Path

    @property
    def report(self) -> dict[str, Any]:
        """The validation report."""
        report: dict[str, Any] = json.loads((self.results / "validation_report.json").read_text())
        return report

    def problems(self, name: str) -> list[str]:
        """Return the problems of an expectation that are in the report."""
        return next(one["problems"] for one in self.report["expectations"] if one["name"] == name)

    def prepared(self, split: str) -> bytes:
        """Return the content of the list written for PaddleClas."""
        return (self.results / f"{split}_list.txt").read_bytes()


class FaultyDataset:
    """A dataset of 10 digits, with 4 train and 2 val images each and unprefixed lists like ImageNet's."""

    def __init__(self, root: Path, results: Path, temporary: Path) -> None:
        self.root, self._results, self._temporary = root, results, temporary

    def image(self, split: str = "train", label: int = 0, number: int = 0) -> Path:
        """Return the path of a listed image of a class."""
        lines = [line.split(" ") for line in self.lines(split)]
        return self.root / split / [path for path, of_image in lines if int(of_image) == label][number]

    def lines(self, split: str = "train") -> list[str]:
        """Return the lines of a list, without line ends."""
        return self.list_path(split).read_text().splitlines()

    def list_path(self, split: str = "train") -> Path:
        """Return the path of a list file."""
        return self.root / f"{split}_list.txt"

    def edit(self, edit: Callable[[bytes], bytes], split: str = "train") -> None:
        """Replace the bytes of a list."""
        self.list_path(split).write_bytes(edit(self.list_path(split).read_bytes()))

    def edit_lines(self, edit: Callable[[list[str]], list[str]], split: str = "train") -> None:
        """Replace the lines of a list."""
        self.list_path(split).write_text("".join(line + "\n" for line in edit(self.lines(split))))

    def run(
        self, blocking: tuple[str, ...] = BLOCKING, *, validation: dict[str, Any] | None = None, **dataset: Any
    ) -> Outcome:
        """Run both stages on the dataset, and check that they neither change it nor leave temporary files."""
        before = fingerprint(self.root)
        parameters = DatasetParameters.model_validate({"class_num": 10, **dataset})
        options = DataValidationParameters.model_validate({"blocking": blocking, "workers": 1, **(validation or {})})
        catalog = DataCatalog(
            {
                "dataset_root": DirectoryDataset(str(self.root)),
                "params:dataset": MemoryDataset(parameters),
                "params:data_validation": MemoryDataset(options),
                "params:data_preparation": MemoryDataset(DataPreparationParameters(shards=ShardParameters())),
                "manifest": ParquetDataset(str(self._results / "manifest.parquet")),
                "listed_images": ParquetDataset(
                    str(self._results / "manifest.parquet"), ["split", "synset", "path", "label", "bytes", "status"]
                ),
                "validation_report": JSONDataset(str(self._results / "validation_report.json")),
                "data_docs": DirectoryDataset(str(self._results / "data_docs")),
                "findings_review": MemoryDataset(ReviewCommands("kedro review …", "kedro data-fix …")),
                "manifest_file": TextFileDataset(str(self._results / "manifest.parquet")),
                "shards_folder": MemoryDataset(self._results / "shards"),
                "shards": DirectoryDataset(str(self._results / "shards")),
                "train_list": TextFileDataset(str(self._results / "train_list.txt")),
                "val_list": TextFileDataset(str(self._results / "val_list.txt")),
                "label_map": JSONDataset(str(self._results / "label_map.json")),
            }
        )
        exit_code, message = 0, ""
        try:
            SequentialRunner().run(data_validation.create_pipeline(), catalog)
            SequentialRunner().run(data_preparation.create_pipeline(), catalog)
        except DatasetError as error:
            exit_code, message = error.exit_code, str(error)
        assert fingerprint(self.root) == before
        assert list(self._temporary.iterdir()) == []
        assert not [path for path in self._results.rglob("*") if path.name.startswith(".")]
        return Outcome(exit_code, message, self._results)


def kedro_run(project: Path, root: Path, *parameters: str) -> Outcome:
    """Run `kedro run --pipelines data_validation,data_preparation` on a dataset, and check that it does not change."""
    shutil.rmtree(project / "data" / "test" / "08_reporting", ignore_errors=True)
    before = fingerprint(root)
    done = subprocess.run(
        [
            Path(sys.executable).with_name("kedro"),
            *("run", "--env", "test", "--pipelines", "data_validation,data_preparation"),
            *("--params", ",".join([f"dataset.root={root}", *parameters])),
        ],
        cwd=project,
        env={**os.environ, "PYTHONPATH": str(project / "src"), "PYTHONWARNINGS": "ignore"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert fingerprint(root) == before
    assert "Traceback" not in done.stderr, done.stderr
    message = done.stderr.partition("error: ")[2] if done.returncode else ""
    assert bool(message) == bool(done.returncode), done.stderr
    return Outcome(done.returncode, message, project / "data" / "test" / "08_reporting")


def fingerprint(root: Path) -> dict[str, str]:
    """Return the digest or link target of every file below a folder; special files are not opened."""
    found = {}
    for path in root.rglob("*"):
        if path.is_symlink():
            found[str(path.relative_to(root))] = f"link to {path.readlink()}"
        elif path.is_file():
            found[str(path.relative_to(root))] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


def encode(mode: str = "RGB", image_format: str = "JPEG", seed: int = 0, **options: object) -> bytes:
    """Return an image file of noise."""
    channels = {"RGB": 3, "CMYK": 4, "L": 1}[mode]
    pixels = np.random.default_rng(seed).bytes(28 * 28 * channels)
    buffer = io.BytesIO()
    Image.frombytes(mode, (28, 28), pixels).save(buffer, image_format, **options)
    return buffer.getvalue()
