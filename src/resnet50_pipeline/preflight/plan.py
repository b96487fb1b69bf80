"""What a run is going to do, as far as the machine matters for it."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from resnet50_pipeline.exceptions import ParameterError, TrainingConfigError
from resnet50_pipeline.paddleclas.launch import LaunchCommand, build_launch_command
from resnet50_pipeline.paddleclas.machines import meeting_place, train_arguments
from resnet50_pipeline.paddleclas.upstream import HOME_VARIABLE, PaddleClasCheckout
from resnet50_pipeline.parameters import (
    DatasetParameters,
    EvaluationParameters,
    Group,
    ModelRegistrationParameters,
    TrackingParameters,
    TrainingParameters,
    as_group,
)
from resnet50_pipeline.preflight.machine import require_system_libraries
from resnet50_pipeline.training_dir import config_path, log_dir

if TYPE_CHECKING:
    from resnet50_pipeline.training_config import TrainingConfig


@dataclass(frozen=True)
class Start:
    """What would be started: the command, and name and text of the YAML that the ranks are given."""

    command: LaunchCommand
    config_name: str
    config_text: str


@dataclass(frozen=True)
class RunPlan:
    """The parameters that decide what a run needs, and where it works.

    Attributes:
        project_path: the project's folder; relative paths are taken from it.
        dataset: `params:dataset`.
        training: `params:training`.
        tracking: `params:tracking`.
        paths: the catalog's files by dataset name, as train_list and training_dir.
        makes_sample: whether the run writes its own data set first.
        evaluation: `params:evaluation`; None where the run has no such stage.
        registration: `params:model_registration`; None where the run has no such stage.
    """

    project_path: Path
    dataset: DatasetParameters
    training: TrainingParameters
    tracking: TrackingParameters
    paths: Mapping[str, Path]
    makes_sample: bool
    evaluation: EvaluationParameters | None = None
    registration: ModelRegistrationParameters | None = None

    @property
    def output_dir(self) -> Path:
        """The folder of the training run, absolute."""
        return self.project_path / self.training.output_dir

    @property
    def workspace(self) -> Path:
        """The folder that everything a run writes lies in."""
        return find_workspace(self.paths) or self.output_dir.parent

    def command(self, inherited: Mapping[str, str] | None = None) -> LaunchCommand:
        """Return what the node train_network starts; `inherited` as in `build_launch_command`.

        Without the checkout that the engine of PaddleClas needs it says $PADDLECLAS_HOME in its place.

        Raises:
            ParameterError: a device is not among those that this process may see.
        """
        launch, output_dir = self.training.launch, self.training.output_dir
        with contextlib.suppress(ParameterError, OSError):  # where machines cannot meet: check_network says so
            launch = meeting_place(launch)
        if self.training.engine == "native":
            return build_launch_command(launch, log_dir(output_dir), train_arguments(self.training), inherited)
        from resnet50_pipeline.paddleclas.upstream_train import upstream_config_path

        checkout = self.checkout or PaddleClasCheckout(Path(f"${HOME_VARIABLE}"))
        return checkout.command("train", upstream_config_path(output_dir), launch, log_dir(output_dir))

    @property
    def checkout(self) -> PaddleClasCheckout | None:
        """The checkout of the engine of PaddleClas; None where another engine trains, or none is there."""
        if self.training.engine != "native":
            with contextlib.suppress(ParameterError):  # check_engine says so
                return PaddleClasCheckout.find(self.training.paddleclas_home)
        return None

    def training_config(self) -> TrainingConfig:
        """Return the PaddleClas configuration that the node render_training_config writes."""
        from resnet50_pipeline.paddleclas.config import render_training_config

        return render_training_config(self.training, self.dataset, self.paths["train_list"], self.paths["val_list"])

    def start(self) -> Start:
        """Return everything that would be started.

        Raises:
            MissingLibraryError: OpenCV, whose operators the YAML names, cannot be imported.
        """
        name, text = self.config_file()
        return Start(self.command(), name, text)

    def config_file(self) -> tuple[str, str]:
        """Return name and text of the YAML that the engine is given.

        Where the recipe is not one for the engine of PaddleClas it is the one that the native engine would get.

        Raises:
            MissingLibraryError: OpenCV, whose operators the YAML names, cannot be imported.
        """
        require_system_libraries()
        from resnet50_pipeline.paddleclas.upstream_config import to_upstream_config
        from resnet50_pipeline.paddleclas.upstream_train import upstream_config_path

        config = self.training_config()
        if self.training.engine != "native":
            with contextlib.suppress(TrainingConfigError):  # check_engine says so
                text = to_upstream_config(config, ranks=len(self.training.launch.devices)).text
                return upstream_config_path(self.training.output_dir).name, text
        return config_path(self.training.output_dir).name, config.to_yaml()


def find_workspace(paths: Mapping[str, Path]) -> Path | None:
    """Return the folder that everything a run writes lies in; None for a catalog that has no such folder."""
    places = [paths[name].absolute() for name in ("manifest", "training_dir") if name in paths]
    return Path(os.path.commonpath(places)) if len(places) > 1 else None


def make_plan(
    parameters: Mapping[str, Any], paths: Mapping[str, Path], project_path: Path, *, makes_sample: bool
) -> RunPlan:
    """Return the plan of a run.

    Args:
        parameters: by group, as `conf/` has them or as models; of the later stages those that the run has.
        paths: the catalog's files by dataset name.
        project_path: the project's folder.
        makes_sample: whether the run writes its own data set first.

    Raises:
        ParameterError: with every group that breaks its rules.
    """
    problems: list[str] = []

    def read(group: str, model: type[Group]) -> Group | None:
        try:
            return read_group(parameters, group, model)
        except ParameterError as error:
            problems.append(str(error))
            return None

    dataset = read("dataset", DatasetParameters)
    training = read("training", TrainingParameters)
    tracking = read("tracking", TrackingParameters)
    evaluation = read("evaluation", EvaluationParameters) if "evaluation" in parameters else None
    registered = "model_registration"
    registration = read(registered, ModelRegistrationParameters) if registered in parameters else None
    if problems or dataset is None or training is None or tracking is None:
        raise ParameterError("\n".join(problems))
    return RunPlan(project_path, dataset, training, tracking, paths, makes_sample, evaluation, registration)


def read_group(parameters: Mapping[str, Any], group: str, model: type[Group]) -> Group:
    """Return a parameter group as its model; Kedro has made it one already where a node of the run takes it.

    Raises:
        ParameterError: the group breaks its rules.
    """
    return as_group(parameters.get(group, {}), group, model)
