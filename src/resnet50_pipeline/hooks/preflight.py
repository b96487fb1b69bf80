"""What a run needs of the machine and of the user, checked before anything heavy is imported."""

from __future__ import annotations

import contextlib
import ctypes
import difflib
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from kedro.framework.hooks import hook_impl
from kedro.io import CatalogProtocol
from kedro.pipeline import Pipeline
from pydantic import ValidationError

from resnet50_pipeline.exceptions import MissingLibraryError, ParameterError
from resnet50_pipeline.imagenet.layout import find_dataset
from resnet50_pipeline.paddleclas.output_dir import claim_output_dir
from resnet50_pipeline.parameters import DatasetParameters
from resnet50_pipeline.pipeline_registry import makes_sample

DATASET_ROOT = "dataset_root"
PARAMETER_GROUPS = (
    "dataset",
    "sample_data",
    "data_validation",
    "training",
    "evaluation",
    "model_registration",
    "tracking",
)
# What opencv-python is linked against and does not carry, and the packages that hold it.
SYSTEM_LIBRARIES = {
    "libGL.so.1": ("libgl1", "mesa-libGL"),
    "libgthread-2.0.so.0": ("libglib2.0-0", "glib2"),
}


class PreflightHooks:
    """Refuses a run that cannot end well."""

    def __init__(self) -> None:
        self._claims = contextlib.ExitStack()

    @hook_impl(tryfirst=True)
    def before_pipeline_run(
        self, run_params: dict[str, Any], pipeline: Pipeline, catalog: CatalogProtocol[Any, Any]
    ) -> None:
        """Check parameter groups, paths, system libraries and the data set's folder, and claim the workspace.

        Raises:
            ParameterError: a group has an unknown name, a path of the parameters is not that of the catalog, or the
                sample would take the place of the user's own data.
            OutputDirectoryInUseError: another run writes to the same workspace.
            MissingLibraryError: OpenCV cannot be imported on this machine.
            DatasetNotFoundError: the data set, or a part of it, is not there.
        """
        parameters = catalog.load("parameters")
        require_known_groups(parameters)
        require_agreeing_paths(parameters, catalog)
        require_system_libraries()
        if DATASET_ROOT in pipeline.all_outputs():
            _require_sample_of_our_own(run_params)
        elif {DATASET_ROOT, "params:dataset"} & pipeline.inputs():
            require_dataset(parameters)
        if workspace := find_workspace(catalog):
            self._claims.enter_context(claim_output_dir(workspace))

    @hook_impl(trylast=True)
    def after_pipeline_run(self) -> None:
        """Give the workspace up."""
        self._claims.close()

    @hook_impl(trylast=True)
    def on_pipeline_error(self) -> None:
        """Give the workspace up."""
        self._claims.close()


def require_agreeing_paths(parameters: Mapping[str, Any], catalog: CatalogProtocol[Any, Any]) -> None:
    """Check that the ranks, which know the parameters, and the stages, which know the catalog, mean the same folders.

    Raises:
        ParameterError: with both, and where to set them together.
    """
    for group, field, dataset in (("dataset", "root", DATASET_ROOT), ("training", "output_dir", "training_dir")):
        values = parameters.get(group, {})  # a model where a node of this run takes the group, a mapping otherwise
        given = values.get(field) if isinstance(values, Mapping) else getattr(values, field)
        if given is None or dataset not in catalog:
            continue
        expected = Path(catalog[dataset].filepath)
        if Path(given).resolve() != expected.resolve():
            how = (
                "set dataset_root in conf/<environment>/globals.yml, or --params dataset.root=…"
                if dataset == DATASET_ROOT
                else "set workspace in conf/<environment>/globals.yml"
            )
            raise ParameterError(
                f"{group}.{field} is {given}, but the catalog's {dataset} is {expected}: some stages would use one, "
                f"some the other; {how}, which both follow"
            )


def find_workspace(catalog: CatalogProtocol[Any, Any]) -> Path | None:
    """Return the folder that everything a run writes lies in; None for a catalog that has no such folder."""
    paths = [Path(catalog[name].filepath).absolute() for name in ("manifest", "training_dir") if name in catalog]
    return Path(os.path.commonpath(paths)) if len(paths) > 1 else None


def require_known_groups(groups: Iterable[str]) -> None:
    """Check that every parameter belongs to a group that a stage reads; Kedro passes over the others.

    Raises:
        ParameterError: with the nearest known name.
    """
    for group in groups:
        if group not in PARAMETER_GROUPS:
            nearest = difflib.get_close_matches(group, PARAMETER_GROUPS, n=1)
            hint = f"did you mean {nearest[0]}?" if nearest else f"known: {', '.join(PARAMETER_GROUPS)}"
            raise ParameterError(f"no stage reads a parameter group {group!r}; {hint}")


def require_system_libraries() -> None:
    """Check that the shared libraries that OpenCV needs are installed, before `import cv2` fails without a hint.

    Raises:
        MissingLibraryError: with the commands that install them.
    """
    missing = [name for name in SYSTEM_LIBRARIES if not _can_be_loaded(name)]
    if missing:
        apt = " ".join(SYSTEM_LIBRARIES[name][0] for name in missing)
        dnf = " ".join(SYSTEM_LIBRARIES[name][1] for name in missing)
        raise MissingLibraryError(
            f"OpenCV needs {' and '.join(missing)}, which this machine does not have; install with\n"
            f"  apt-get install -y {apt}    (Debian, Ubuntu)\n"
            f"  dnf install -y {dnf}    (Fedora, RHEL)"
        )


def require_dataset(parameters: Mapping[str, Any]) -> None:
    """Check that the folder of `parameters["dataset"]` is there and is laid out as ImageNet's.

    Raises:
        ParameterError: the group `dataset` breaks its rules.
        DatasetNotFoundError: with every missing part, the expected layout and the setting that names the folder.
    """
    try:
        dataset = DatasetParameters.model_validate(parameters.get("dataset", {}))
    except ValidationError as error:
        raise ParameterError(f"dataset: {error}") from error
    find_dataset(dataset.root, dataset)


def _require_sample_of_our_own(run_params: Mapping[str, Any]) -> None:
    """Keep sample_data, which replaces the whole folder, away from data that the user pointed to."""
    given = (run_params.get("runtime_params") or {}).get("dataset", {})
    if not makes_sample(run_params["env"]) or "root" in given:
        where = f"--params dataset.root={given['root']}" if "root" in given else f"--env {run_params['env']}"
        raise ParameterError(
            f"sample_data would replace the data set that {where} points to with the sample; "
            "leave it out (`--pipelines data_validation,data_preparation,training,evaluation,model_registration`), "
            "or use an environment of your own, as conf/imagenet: its `kedro run` starts with data_validation"
        )


def _can_be_loaded(library: str) -> bool:
    try:
        ctypes.CDLL(library)
    except OSError:
        return False
    return True
