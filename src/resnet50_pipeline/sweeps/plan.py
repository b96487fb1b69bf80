"""Configures a sweep, and writes the `kedro run --config` file of each trial."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from resnet50_pipeline.child_runs.run_file import merge, write_run_file
from resnet50_pipeline.parameters import SweepParameters, TrackingParameters, TrainingParameters
from resnet50_pipeline.sweeps.space import nest
from resnet50_pipeline.training_dir import RUN_DIR


@dataclass(frozen=True)
class SweepPlan:
    """The configuration of a sweep.

    Attributes:
        sweep: `params:sweep`.
        training: `params:training`, without a trial's values.
        tracking: `params:tracking`.
        validation_report: file in which the `data_validation` stage stores the data digest.
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
        """Write a `--config` file to `path`, for a run that writes its results to the same folder. Return `path`."""
        folder = path.parent
        own = {
            RUN_DIR: str(folder),
            # In a shared mirror, the runs would overwrite each other's sets.
            "training": {"resume": "auto", "checkpoint_mirror": None},
            "evaluation": {"output_dir": str(folder)},
        }
        return self._write(path, stages, merge(merge(self.given, nest(params)), own))

    def write_data_file(self) -> Path:
        """Write the `--config` file for the data stages' run. Return its path."""
        return self._write(self.sweep.folder / "data.yml", self.data_stages, self.given)

    def _write(self, path: Path, stages: tuple[str, ...], params: Mapping[str, Any]) -> Path:
        return write_run_file(path, stages, params, environment=self.environment, conf_source=self.conf_source)
