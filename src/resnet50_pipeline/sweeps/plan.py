"""What a sweep is going to do: the configuration of the trials, and the `kedro run` of each."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from resnet50_pipeline.files import write_text
from resnet50_pipeline.parameters import DatasetParameters, SweepParameters, TrackingParameters, TrainingParameters
from resnet50_pipeline.sweeps.space import merge, nest
from resnet50_pipeline.training_dir import RUN_DIR

LEASH = Path(__file__).with_name("leash.py")
RUN_FILE, LOG_FILE = "run.yml", "trial.log"


@dataclass(frozen=True)
class SweepPlan:
    """What a sweep is going to do.

    Attributes:
        sweep: `params:sweep`.
        dataset: `params:dataset`.
        training: `params:training`, as it is but for the space.
        tracking: `params:tracking`.
        workspace: the folder of the data stages' results.
        validation_report: the file in which data_validation names the data.
        project_path: the project's folder.
        environment: Kedro's, None for its default.
        conf_source: another folder than `conf/`, or None.
        given: what `--params` said, nested, without the sweep's own.
        data_stages: of the chain, those before the training.
    """

    sweep: SweepParameters
    dataset: DatasetParameters
    training: TrainingParameters
    tracking: TrackingParameters
    workspace: Path
    validation_report: Path
    project_path: Path
    environment: str | None
    conf_source: str | None
    given: Mapping[str, Any]
    data_stages: tuple[str, ...]

    def write_run_file(self, folder: Path, params: Mapping[str, Any], *stages: str, name: str = RUN_FILE) -> Path:
        """Write what `kedro run --config` reads for a trial in `folder`, and return its path."""
        own = {
            RUN_DIR: str(folder),
            "training": {"output_dir": str(training_dir_of(folder)), "resume": "auto"},
            "evaluation": {"output_dir": str(folder)},
        }
        values = merge(merge(self.given, nest(params)), own)
        return self._write(folder / name, stages, values)

    def write_data_run_file(self) -> Path:
        """Write what `kedro run --config` reads for the data stages, and return its path."""
        return self._write(self.sweep.folder / "data.yml", self.data_stages, self.given)

    def _write(self, path: Path, stages: tuple[str, ...], values: Mapping[str, Any]) -> Path:
        run: dict[str, Any] = {"pipelines": ",".join(stages), "params": dict(values)}
        if self.environment:
            run["env"] = self.environment
        if self.conf_source:
            run["conf_source"] = self.conf_source
        write_text(path, yaml.safe_dump({"run": run}, sort_keys=True, allow_unicode=True))
        return path


def training_dir_of(folder: Path) -> Path:
    """Return the folder of a trial's training, as the catalog has it below `run_dir`."""
    return folder / "06_models" / "training"


def metrics_of(folder: Path) -> Path:
    """Return the file of a trial's figures, as the catalog has it."""
    return folder / "08_reporting" / "metrics.json"


def command_of(run_file: Path) -> list[str]:
    """Return the command of a `kedro run` that ends with this process."""
    return [
        *(sys.executable, "-I", "-S", str(LEASH), str(os.getpid())),
        *(sys.executable, "-m", "kedro", "run", "--config", str(run_file)),
    ]
