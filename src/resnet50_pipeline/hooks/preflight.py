"""What a run needs of the machine and of the user, checked before its first node."""

from __future__ import annotations

import contextlib
import difflib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from kedro.framework.context import KedroContext
from kedro.framework.hooks import hook_impl
from kedro.io import CatalogProtocol
from kedro.pipeline import Pipeline

from resnet50_pipeline.exceptions import DatasetNotFoundError, ParameterError
from resnet50_pipeline.paddleclas.output_dir import claim_output_dir
from resnet50_pipeline.parameters import TrackingParameters
from resnet50_pipeline.pipeline_registry import makes_sample
from resnet50_pipeline.preflight.checks import check_start_of_ranks
from resnet50_pipeline.preflight.dataset import require_dataset
from resnet50_pipeline.preflight.findings import refuse_or_warn, require_no_blocking
from resnet50_pipeline.preflight.machine import require_system_libraries
from resnet50_pipeline.preflight.mlflow_store import check_store_file
from resnet50_pipeline.preflight.plan import find_workspace, make_plan, read_group
from resnet50_pipeline.recipes import RECIPE
from resnet50_pipeline.tracking.address import find_address
from resnet50_pipeline.training_dir import RUN_DIR

DATASET_ROOT = "dataset_root"
PARAMETER_GROUPS = (
    "dataset",
    "sample_data",
    "data_validation",
    "data_preparation",
    "training",
    "evaluation",
    "model_registration",
    "tracking",
    "logs",
    "sweep",
)
# Of the catalog: the files and folders that say where a run works.
PLACES = (DATASET_ROOT, "manifest", "train_list", "val_list", "shards", "training_dir")
# Parameters and the catalog's entries that mean the same.
AGREEING_PATHS = (
    ("dataset.root", DATASET_ROOT),
    ("data_preparation.shards.output_dir", "shards"),
    ("training.output_dir", "training_dir"),
)
# Takes the ranks' parameters, as every node that starts some does.
RANK_PARAMETERS = "params:training"
TRAINING_DIR = "training_dir"
# Whose files and packages are looked for before ranks are started, where the run goes as far.
LATER_STAGES = ("evaluation", "model_registration")


class PreflightHooks:
    """Refuses a run that cannot end well."""

    def __init__(self) -> None:
        self._project_path = Path()
        self._claims = contextlib.ExitStack()

    @hook_impl
    def after_context_created(self, context: KedroContext) -> None:
        """Remember the project's folder."""
        self._project_path = context.project_path

    @hook_impl(tryfirst=True)
    def before_pipeline_run(
        self, run_params: dict[str, Any], pipeline: Pipeline, catalog: CatalogProtocol[Any, Any]
    ) -> None:
        """Check parameter groups, paths, libraries, data set and MLflow's file, claim the workspace, try the ranks.

        Raises:
            ParameterError: a group has an unknown name, a path of the parameters is not that of the catalog, or the
                sample would take the place of the user's own data.
            OutputDirectoryInUseError: another run writes to the same workspace.
            MissingLibraryError: OpenCV cannot be imported on this machine.
            DatasetNotFoundError: the data set, a part of it, or another result that the run begins with is not there.
            PreflightError: the machine lacks what the run needs.
        """
        parameters = catalog.load("parameters")
        places = {name: Path(catalog[name].filepath) for name in PLACES if name in catalog}
        require_known_groups(parameters)
        require_agreeing_paths(parameters, places)
        require_system_libraries()
        if DATASET_ROOT in pipeline.all_outputs():
            _require_sample_of_our_own(run_params)
        elif {DATASET_ROOT, "params:dataset"} & pipeline.inputs():
            require_dataset(parameters)
        require_inputs(pipeline, catalog)
        if workspace := Path(parameters[RUN_DIR]) if RUN_DIR in parameters else find_workspace(places):
            self._claims.enter_context(claim_output_dir(workspace))
        try:
            tracking = read_group(parameters, "tracking", TrackingParameters)
            find_address(tracking, self._project_path)
            require_no_blocking(check_store_file(tracking, self._project_path))
            if RANK_PARAMETERS in pipeline.inputs():
                plan = make_plan(
                    {name: group for name, group in parameters.items() if not is_of_another_run(name, pipeline)},
                    places,
                    self._project_path,
                    makes_sample=makes_sample(run_params["env"]),
                )
                trains = TRAINING_DIR in pipeline.all_outputs()
                refuse_or_warn(check_start_of_ranks(plan, trains=trains, meanwhile=_import_mlflow))
        except BaseException:
            # Kedro calls no other hook where this one raises.
            self._claims.close()
            raise

    @hook_impl(trylast=True)
    def after_pipeline_run(self) -> None:
        """Give the workspace up."""
        self._claims.close()

    @hook_impl(trylast=True)
    def on_pipeline_error(self) -> None:
        """Give the workspace up."""
        self._claims.close()


def require_agreeing_paths(parameters: Mapping[str, Any], places: Mapping[str, Path]) -> None:
    """Check that the ranks, which know the parameters, and the stages, which know the catalog, mean the same folders.

    Raises:
        ParameterError: with both, and where to set them together.
    """
    for name, dataset in AGREEING_PATHS:
        given: Any = parameters
        for field in name.split("."):  # a model where a node of this run takes the group, a mapping otherwise
            given = given.get(field, {}) if isinstance(given, Mapping) else getattr(given, field)
        if given in (None, {}) or dataset not in places:
            continue
        expected = places[dataset]
        if Path(given).resolve() != expected.resolve():
            how = (
                "set dataset_root in conf/<environment>/globals.yml, or --params dataset.root=…, which both follow"
                if dataset == DATASET_ROOT
                else "set workspace in conf/<environment>/globals.yml, or --params run_dir=…, and training.output_dir "
                "to 06_models/training below it"
            )
            raise ParameterError(
                f"{name} is {given}, but the catalog's {dataset} is {expected}: some stages would use one, "
                f"some the other; {how}"
            )


def require_known_groups(groups: Iterable[str]) -> None:
    """Check that every parameter belongs to a group that a stage reads; Kedro passes over the others.

    Raises:
        ParameterError: with the nearest known name.
    """
    for group in groups:
        if group not in (*PARAMETER_GROUPS, RECIPE, RUN_DIR):
            nearest = difflib.get_close_matches(group, (*PARAMETER_GROUPS, RECIPE, RUN_DIR), n=1)
            hint = f"did you mean {nearest[0]}?" if nearest else f"known: {', '.join(PARAMETER_GROUPS)}"
            raise ParameterError(f"no stage reads a parameter group {group!r}; {hint}")


def require_inputs(pipeline: Pipeline, catalog: CatalogProtocol[Any, Any]) -> None:
    """Check that every result of earlier runs is there that this run reads, be it by its last node.

    Raises:
        DatasetNotFoundError: with the paths of all that are not.
    """
    written = {_path_of(catalog, name) for name in pipeline.all_outputs()}
    read = [name for name in sorted(pipeline.inputs() - {DATASET_ROOT}) if name in catalog]
    missing = []
    for name in read:
        path = _path_of(catalog, name)
        # Two entries may lead to one file, as manifest and listed_images do.
        is_needed = path not in written and not getattr(catalog[name], "may_be_missing", False)
        if path is not None and is_needed and not path.exists():
            missing.append(str(path))
    if missing:
        raise DatasetNotFoundError(
            f"this run begins with results of earlier ones, and {', '.join(missing)} "
            f"{'does' if len(missing) == 1 else 'do'} not exist; run the pipelines that write "
            f"{'it' if len(missing) == 1 else 'them'} first (`kedro registry describe` lists them)"
        )


def _path_of(catalog: CatalogProtocol[Any, Any], name: str) -> Path | None:
    """Return where an entry of the catalog lies; None for parameters and what stays in memory."""
    path = getattr(catalog[name], "filepath", None) if name in catalog else None
    return None if path is None else Path(path)


def is_of_another_run(group: str, pipeline: Pipeline) -> bool:
    """Return whether a parameter group is that of a later stage, which this run does not have."""
    return group in LATER_STAGES and f"params:{group}" not in pipeline.inputs()


def _import_mlflow() -> None:
    """Import what the next hook needs, and what takes about as long as Paddle does in the other process."""
    import resnet50_pipeline.tracking.runs  # noqa: F401


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
