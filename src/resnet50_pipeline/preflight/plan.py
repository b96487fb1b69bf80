"""Defines the plan of a run: parameters, paths, launch command and YAML file."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from resnet50_pipeline.exceptions import DatasetError, ParameterError, TrainingConfigError
from resnet50_pipeline.paddleclas.launch.command import LaunchCommand, build_launch_command
from resnet50_pipeline.paddleclas.launch.machines import resolve_master, train_arguments
from resnet50_pipeline.paddleclas.upstream.checkout import HOME_VARIABLE, PaddleClasCheckout
from resnet50_pipeline.parameters import (
    DataPreparationParameters,
    DatasetParameters,
    EvaluationParameters,
    Group,
    ModelRegistrationParameters,
    TrackingParameters,
    TrainingParameters,
    read_group,
)
from resnet50_pipeline.training_dir import DATA_DIR, RUN_DIR, config_path, log_dir

if TYPE_CHECKING:
    from resnet50_pipeline.recipe.document import TrainingConfig


@dataclass(frozen=True)
class Start:
    """The launch command of a training run, and the name and text of the YAML file for the ranks."""

    command: LaunchCommand
    config_name: str
    config_text: str


@dataclass(frozen=True)
class RunPlan:
    """Parameters and paths from which the checks derive a run's requirements.

    Attributes:
        project_path: project folder, the base of relative paths.
        dataset: `params:dataset`.
        training: `params:training`.
        tracking: `params:tracking`.
        paths: catalog paths keyed by dataset name, such as train_list and training_dir.
        makes_sample: whether the run creates the sample dataset.
        evaluation: `params:evaluation`; None if the run does not include evaluation.
        registration: `params:model_registration`; None if the run does not include registration.
        packs_shards: whether the ranks read images from shards.
        result_folders: folders that the run may write results to.
        claims: folders that the run locks.
    """

    project_path: Path
    dataset: DatasetParameters
    training: TrainingParameters
    tracking: TrackingParameters
    paths: Mapping[str, Path]
    makes_sample: bool
    evaluation: EvaluationParameters | None = None
    registration: ModelRegistrationParameters | None = None
    packs_shards: bool = False
    result_folders: tuple[Path, ...] = ()
    claims: tuple[Path, ...] = ()

    @property
    def dataset_root(self) -> Path:
        """Path of the dataset folder."""
        return self.paths["dataset_root"]

    @property
    def training_dir(self) -> Path:
        """Path of the training folder."""
        return self.paths["training_dir"]

    @functools.cached_property
    def class_num(self) -> int:
        """Number of classes: `dataset.class_num` or, if unset, the number in the dataset's lists or class folders.

        1 if the dataset cannot be read, which other checks report.
        """
        if self.dataset.class_num is not None:
            return self.dataset.class_num
        from resnet50_pipeline.imagenet.layout import count_classes, find_dataset, read_lists

        try:
            lists = read_lists(find_dataset(self.dataset_root, self.dataset), None, self.dataset.label_base)
        except DatasetError:
            return 1
        return count_classes(prefixed.entries for prefixed in lists.values())

    def command(self, inherited: Mapping[str, str] | None = None) -> LaunchCommand:
        """Return the command that the `train_network` node will run; see `build_launch_command` for `inherited`.

        If the PaddleClas engine has no checkout, the command contains $PADDLECLAS_HOME instead.

        Raises:
            ParameterError: if a device is not visible to this process.
        """
        launch, training_dir = self.training.launch, self.training_dir
        with contextlib.suppress(ParameterError, OSError):  # check_network reports it
            launch = resolve_master(launch)
        if self.training.engine == "native":
            return build_launch_command(launch, log_dir(training_dir), train_arguments(launch, training_dir), inherited)
        from resnet50_pipeline.paddleclas.upstream.train import upstream_config_path

        checkout = self.checkout or PaddleClasCheckout(Path(f"${HOME_VARIABLE}"))
        return checkout.train_command(upstream_config_path(training_dir), launch, log_dir(training_dir))

    @property
    def checkout(self) -> PaddleClasCheckout | None:
        """Checkout of the PaddleClas engine. None with the native engine, or if the checkout does not exist."""
        if self.training.engine != "native":
            with contextlib.suppress(ParameterError):  # check_engine reports it
                return PaddleClasCheckout.find(self.training.paddleclas_home)
        return None

    def training_config(self) -> TrainingConfig:
        """Return the PaddleClas configuration that the `train_network` node will write."""
        from resnet50_pipeline.paddleclas.config import TrainingPaths, render_training_config

        names = ("dataset_root", "train_list", "val_list", "training_dir")
        paths = TrainingPaths(
            **{name: self.paths[name] for name in names},
            shards=self.paths.get("shards") if self.packs_shards else None,
        )
        return render_training_config(self.training, self.class_num, paths, tiff=self.dataset.tiff)

    def start(self) -> Start:
        """Return the launch command and the YAML file for training.

        Raises:
            ImportError: if OpenCV, which the operators in the YAML file require, cannot be imported.
        """
        name, text = self.config_file()
        return Start(self.command(), name, text)

    def config_file(self) -> tuple[str, str]:
        """Return the name and text of the YAML file for the engine.

        If the PaddleClas engine does not support the recipe, the native engine's YAML is returned instead.

        Raises:
            ImportError: if OpenCV, which the operators in the YAML file require, cannot be imported.
        """
        from resnet50_pipeline.paddleclas.upstream.config import to_upstream_config
        from resnet50_pipeline.paddleclas.upstream.train import upstream_config_path

        config = self.training_config()
        if self.training.engine != "native":
            with contextlib.suppress(TrainingConfigError):  # check_engine reports it
                text = to_upstream_config(config, ranks=len(self.training.launch.devices)).text
                return upstream_config_path(self.training_dir).name, text
        return config_path(self.training_dir).name, config.to_yaml()


def find_claims(workspace: Path | None, parameters: Mapping[str, Any], written: Iterable[Path]) -> list[Path]:
    """Return the folders to lock, so that no other run writes to them.

    With `run_dir`, only this folder is locked, because the trials of a sweep run at the same time. With `data_dir`, a
    run that writes only to this folder may run while another run uses the workspace.

    Args:
        workspace: folder of the environment's results, or None if there is none.
        parameters: parameter groups, and `run_dir` and `data_dir` if they are set.
        written: paths that the run writes.
    """
    if RUN_DIR in parameters:
        return [Path(parameters[RUN_DIR])]
    folders = [] if workspace is None else [workspace]
    if DATA_DIR in parameters:
        data_dir = Path(parameters[DATA_DIR])
        is_outside = any(not path.absolute().is_relative_to(data_dir.absolute()) for path in written)
        folders = [data_dir, *(folders if is_outside else [])]
    return list({folder.resolve(): folder for folder in folders}.values())


def make_plan(
    parameters: Mapping[str, Any],
    paths: Mapping[str, Path],
    project_path: Path,
    *,
    makes_sample: bool,
    workspace: Path | None = None,
) -> RunPlan:
    """Return the plan of a run.

    Args:
        parameters: parameter groups keyed by name, as mappings or models. Groups of later stages are optional.
        paths: catalog paths keyed by dataset name.
        project_path: project folder.
        makes_sample: whether the run creates the sample dataset.
        workspace: folder of the environment's results, or None if there is none.

    Raises:
        ParameterError: if a group is invalid; the message lists the errors in all groups.
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
    is_prepared = "data_preparation" in parameters  # a derived project may not have this stage
    preparation = read("data_preparation", DataPreparationParameters) if is_prepared else None
    if problems or dataset is None or training is None or tracking is None:
        raise ParameterError("\n".join(problems))
    packs_shards = preparation is not None and preparation.shards.mode is not None
    given = [Path(parameters[name]) for name in (RUN_DIR, DATA_DIR) if name in parameters]
    return RunPlan(
        project_path,
        dataset,
        training,
        tracking,
        paths,
        makes_sample,
        evaluation,
        registration,
        packs_shards,
        result_folders=(*([] if workspace is None else [workspace]), *given),
        claims=tuple(find_claims(workspace, parameters, paths.values())),
    )
