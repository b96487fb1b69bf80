"""Runs the preflight checks before the first node of a Kedro run."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kedro.framework.context import KedroContext
from kedro.framework.hooks import hook_impl
from kedro.io import CatalogProtocol
from kedro.pipeline import Pipeline

from resnet50_pipeline.exceptions import DatasetNotFoundError
from resnet50_pipeline.files import shorten_path
from resnet50_pipeline.paddleclas.launch.output_dir import claim_output_dir
from resnet50_pipeline.paddleclas.mirror.runs import fetch_newer_sets
from resnet50_pipeline.parameters import (
    DatasetParameters,
    EvaluationParameters,
    TrackingParameters,
    TrainingParameters,
    read_group,
)
from resnet50_pipeline.pipeline_registry import makes_sample
from resnet50_pipeline.preflight.checks import check_start_of_ranks
from resnet50_pipeline.preflight.dataset import require_dataset, require_sample
from resnet50_pipeline.preflight.findings import report_findings, require_no_blocking
from resnet50_pipeline.preflight.mlflow_store import check_outbox, check_store_file
from resnet50_pipeline.preflight.parameter_groups import (
    CHECKED_PATHS,
    DATASET_ROOT,
    TRAINING_DIR,
    require_known_groups,
)
from resnet50_pipeline.preflight.plan import find_claims, make_plan
from resnet50_pipeline.progress import show_activity
from resnet50_pipeline.tracking.address import find_address
from resnet50_pipeline.training_dir import events_path

# An input of every node that starts ranks.
RANK_PARAMETERS = "params:training"
MANIFEST, VALIDATION_REPORT, TRAINING_SUMMARY = "manifest", "validation_report", "training_summary"
# Stages after training, whose files and packages are checked before the ranks start.
LATER_STAGES = ("evaluation", "model_registration")


class PreflightHooks:
    """Stops runs that would fail, and locks the workspace against other runs."""

    def __init__(self) -> None:
        self._project_path = Path()
        self._workspace: Path | None = None
        self._claims = contextlib.ExitStack()

    @hook_impl
    def after_context_created(self, context: KedroContext) -> None:
        """Remember the project folder and the workspace."""
        self._project_path = context.project_path
        workspace = context.config_loader["globals"].get("workspace")
        self._workspace = None if workspace is None else Path(workspace)

    @hook_impl(tryfirst=True)
    def before_pipeline_run(
        self, run_params: dict[str, Any], pipeline: Pipeline, catalog: CatalogProtocol[Any, Any]
    ) -> None:
        """Run the checks for this pipeline and lock the workspace.

        Raises:
            ParameterError: if a parameter group is unknown, or if the sample would overwrite the user's dataset.
            OutputDirectoryInUseError: if another run is using the workspace.
            DatasetNotFoundError: if the dataset, part of it, or a result of an earlier run is missing.
            DatasetError: if the validation report does not belong to the manifest, or the training summary does not
                belong to the training run.
            CheckpointMirrorError: if `training.checkpoint_mirror` does not respond.
            PreflightError: if a check of the machine or MLflow has a blocking finding.
        """
        parameters = catalog.load("parameters")
        places = {name: shorten_path(Path(catalog[name].filepath)) for name in CHECKED_PATHS if name in catalog}
        require_known_groups(parameters)
        if DATASET_ROOT in pipeline.all_outputs():
            require_sample(
                run_params["env"], run_params.get("runtime_params") or {}, is_sample=makes_sample(run_params["env"])
            )
        elif {DATASET_ROOT, "params:dataset"} & pipeline.inputs():
            require_dataset(places[DATASET_ROOT], read_group(parameters, "dataset", DatasetParameters))
        require_inputs(pipeline, catalog)
        require_one_validation(pipeline, catalog)
        require_one_training(pipeline, catalog, parameters)
        written = [path for name in pipeline.all_outputs() if (path := _path_of(catalog, name)) is not None]
        try:
            for folder in find_claims(self._workspace, parameters, written):
                self._claims.enter_context(claim_output_dir(folder))
            # Validate the parameters only once: later hooks get the models from the catalog.
            tracking = read_group(parameters, "tracking", TrackingParameters)
            training = read_group(parameters, "training", TrainingParameters)
            parameters = {**parameters, "tracking": tracking, "training": training}
            catalog.save("parameters", parameters)
            find_address(tracking, self._project_path)
            require_no_blocking([*check_store_file(tracking, self._project_path), check_outbox(self._project_path)])
            if RANK_PARAMETERS in pipeline.inputs():
                plan = make_plan(
                    {name: group for name, group in parameters.items() if not belongs_to_absent_stage(name, pipeline)},
                    places,
                    self._project_path,
                    makes_sample=makes_sample(run_params["env"]),
                    workspace=self._workspace,
                )
                trains = TRAINING_DIR in pipeline.all_outputs()
                if trains:
                    # Later hooks and checks depend on whether there is a set to resume from.
                    fetch_newer_sets(training, self._project_path / places[TRAINING_DIR])
                with show_activity("checking the machine"):
                    findings = check_start_of_ranks(plan, trains=trains, meanwhile=_import_mlflow)
                report_findings(findings)
        except BaseException:
            # If this hook raises an error, Kedro calls no other hook that could release the lock.
            self._claims.close()
            raise

    @hook_impl(trylast=True)
    def after_pipeline_run(self) -> None:
        """Release the workspace."""
        self._claims.close()

    @hook_impl(trylast=True)
    def on_pipeline_error(self) -> None:
        """Release the workspace."""
        self._claims.close()


def require_inputs(pipeline: Pipeline, catalog: CatalogProtocol[Any, Any]) -> None:
    """Raise an error if this run needs results of earlier runs that do not exist.

    Raises:
        DatasetNotFoundError: if results are missing; the message lists all their paths.
    """
    written = {_path_of(catalog, name) for name in pipeline.all_outputs()}
    read = [name for name in sorted(pipeline.inputs() - {DATASET_ROOT}) if name in catalog]
    missing = []
    for name in read:
        path = _path_of(catalog, name)
        # Two catalog entries, such as manifest and listed_images, can use the same file.
        is_needed = path not in written and not getattr(catalog[name], "may_be_missing", False)
        if path is not None and is_needed and not path.exists():
            missing.append(str(path))
    if missing:
        raise DatasetNotFoundError(
            f"this run needs results of earlier runs, but {', '.join(missing)} "
            f"{'does' if len(missing) == 1 else 'do'} not exist → run the pipelines that write "
            f"{'it' if len(missing) == 1 else 'them'} first (see `kedro registry describe`)"
        )


def require_one_validation(pipeline: Pipeline, catalog: CatalogProtocol[Any, Any]) -> None:
    """Raise an error if the manifest and the report that this run reads do not belong together.

    Raises:
        DatasetError: if the report was not written for the manifest.
    """
    manifest, report = (_path_of(catalog, name) for name in (MANIFEST, VALIDATION_REPORT))
    written = {_path_of(catalog, name) for name in pipeline.all_outputs()}
    read = {_path_of(catalog, name) for name in pipeline.inputs()} - written
    if manifest is None or report is None or not {manifest, report} & read or {manifest, report} & written:
        return
    if manifest.is_file() and report.is_file():
        # This module imports pandas, which would slow down every command.
        from resnet50_pipeline.expectations.report import require_report_of

        require_report_of(manifest, report)


def require_one_training(pipeline: Pipeline, catalog: CatalogProtocol[Any, Any], parameters: Mapping[str, Any]) -> None:
    """Raise an error if this run reads the summary of a training run that has since been replaced.

    Raises:
        DatasetError: if the summary was not written for the run in the training folder.
    """
    if TRAINING_SUMMARY not in pipeline.inputs():
        return
    if read_group(parameters, "evaluation", EvaluationParameters).model is not None:
        return  # reports on other models do not include the summary
    summary, folder = (_path_of(catalog, name) for name in (TRAINING_SUMMARY, TRAINING_DIR))
    if summary is not None and folder is not None and summary.is_file() and events_path(folder).is_file():
        # This module imports pandas, which would slow down every command.
        from resnet50_pipeline.paddleclas.history import require_summary_of

        require_summary_of(events_path(folder), summary)


def _path_of(catalog: CatalogProtocol[Any, Any], name: str) -> Path | None:
    """Return the path of a catalog entry, or None for parameters and datasets in memory."""
    path = getattr(catalog[name], "filepath", None) if name in catalog else None
    return None if path is None else Path(path)


def belongs_to_absent_stage(group: str, pipeline: Pipeline) -> bool:
    """Return whether a parameter group belongs to a later stage that is not part of this run."""
    return group in LATER_STAGES and f"params:{group}" not in pipeline.inputs()


def _import_mlflow() -> None:
    """Import MLflow for the next hook while the probe process imports Paddle, which takes about as long."""
    import resnet50_pipeline.tracking.runs  # noqa: F401
