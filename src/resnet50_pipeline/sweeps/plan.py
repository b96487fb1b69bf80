"""Defines the configuration of a sweep, and writes the `kedro run --config` file of each trial."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from resnet50_pipeline.files import write_text
from resnet50_pipeline.parameters import SweepParameters, TrackingParameters, TrainingParameters
from resnet50_pipeline.sweeps.space import merge, nest
from resnet50_pipeline.training_dir import RUN_DIR


@dataclass(frozen=True)
class SweepPlan:
    """The configuration of a sweep.

    Attributes:
        sweep: `params:sweep`.
        training: `params:training`, without a trial's values.
        tracking: `params:tracking`.
        validation_report: file to which the `data_validation` stage writes the digest of the data.
        project_path: folder of the project.
        environment: Kedro environment, or None for the default.
        conf_source: configuration folder, or None for `conf/`.
        given: the user's `--params` as a nested dict, without `params:sweep`.
        data_stages: stages to run before the first trial.
    """

    sweep: SweepParameters
    training: TrainingParameters
    tracking: TrackingParameters
    validation_report: Path
    project_path: Path
    environment: str | None
    conf_source: str | None
    given: Mapping[str, Any]
    data_stages: tuple[str, ...]

    def write_trial_file(self, path: Path, params: Mapping[str, Any], *stages: str) -> Path:
        """Write a `--config` file to `path` for a run that stores its results in the same folder. Return `path`."""
        folder = path.parent
        own = {
            RUN_DIR: str(folder),
            "training": {"resume": "auto"},
            "evaluation": {"output_dir": str(folder)},
        }
        return self._write(path, stages, merge(merge(self.given, nest(params)), own))

    def write_data_file(self) -> Path:
        """Write the `--config` file for the run of the data stages. Return its path."""
        return self._write(self.sweep.folder / "data.yml", self.data_stages, self.given)

    def _write(self, path: Path, stages: tuple[str, ...], params: Mapping[str, Any]) -> Path:
        options = {"env": self.environment, "conf_source": self.conf_source}
        run = {"pipelines": ",".join(stages), "params": dict(params), **{k: v for k, v in options.items() if v}}
        write_text(path, yaml.safe_dump({"run": run}, sort_keys=True, allow_unicode=True))
        return path


def training_dir_of(folder: Path) -> Path:
    """Return a trial's training folder. The path below `run_dir` must match the catalog."""
    return folder / "06_models" / "training"


def metrics_path_of(folder: Path) -> Path:
    """Return the path of a trial's metrics. The path below `run_dir` must match the catalog."""
    return folder / "08_reporting" / "metrics.json"
