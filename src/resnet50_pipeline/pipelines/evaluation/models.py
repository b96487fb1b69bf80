"""Finds the model to evaluate and the predictions to compare it with, as configured in `params:evaluation`."""

from __future__ import annotations

import logging
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from resnet50_pipeline.exceptions import EvaluationTableError
from resnet50_pipeline.parameters import (
    DatasetParameters,
    EvaluationParameters,
    TrainingParameters,
    is_registered_reference,
)

if TYPE_CHECKING:
    from resnet50_pipeline.paddleclas.evaluated_model import ModelToEvaluate

logger = logging.getLogger(__name__)

PREDICTIONS_FILE = "predictions.parquet"


def find_evaluated_model(
    *,
    training_dir: Path,
    val_list: Path,
    dataset_root: Path,
    class_num: int,
    dataset: DatasetParameters,
    training: TrainingParameters,
    evaluation: EvaluationParameters,
) -> ModelToEvaluate:
    """Return the model to evaluate: `evaluation.model` if it is set, or else the best checkpoint from training."""
    from resnet50_pipeline.paddleclas.config import TrainingPaths, render_training_config
    from resnet50_pipeline.paddleclas.evaluated_model import find_best_model, find_model

    if evaluation.model is None:
        return find_best_model(training_dir)
    # Models without their own configuration use this one. The train list does not matter, because nothing is trained.
    paths = TrainingPaths(dataset_root, train_list=val_list, val_list=val_list, training_dir=training_dir)
    config = render_training_config(training, class_num, paths, tiff=dataset.tiff)
    if is_registered_reference(evaluation.model):
        from resnet50_pipeline.tracking.fetch import DOWNLOADS, fetch_model
        from resnet50_pipeline.tracking.runs import require_current_run

        fetched = fetch_model(require_current_run().store, evaluation.model, DOWNLOADS)
        return find_model(fetched.inference_model, config, f"models:/{fetched.name}/{fetched.version}")
    return find_model(Path(evaluation.model), config, evaluation.model)


def find_rival(evaluation: EvaluationParameters) -> tuple[str, pd.DataFrame | None]:
    """Return the name and predictions of the model in `evaluation.compare_with`, called the rival.

    If there are no predictions, the first value is the reason instead, or "" if no rival is configured. A missing alias
    is not an error, because there is no champion until the first version is registered. An unreachable MLflow server is
    not an error either.

    Raises:
        EvaluationTableError: if the file does not exist or is not a Parquet table.
        TrackingError: if the rival is given as a version number and that version does not exist.
    """
    reference = evaluation.compare_with
    if reference is None:
        return "", None
    if not is_registered_reference(reference):
        if not Path(reference).is_file():
            raise EvaluationTableError(
                [f"evaluation.compare_with: {reference} does not exist → set it to the path of a predictions.parquet"]
            )
        try:
            return reference, pd.read_parquet(reference)
        except (OSError, ValueError) as error:  # pyarrow's ArrowInvalid is a ValueError
            raise EvaluationTableError(
                [
                    f"evaluation.compare_with: {reference} is not a Parquet table: {error} → set it to the path of a "
                    "predictions.parquet"
                ]
            ) from error
    return _fetch_predictions(reference, is_optional="@" in reference)


def _fetch_predictions(reference: str, *, is_optional: bool) -> tuple[str, pd.DataFrame | None]:
    from resnet50_pipeline.exceptions import TrackingError
    from resnet50_pipeline.tracking.fetch import asking_mlflow, fetch_evidence, find_version
    from resnet50_pipeline.tracking.runs import require_current_run

    try:
        store = require_current_run().store
        with asking_mlflow(store), tempfile.TemporaryDirectory() as folder:
            version = find_version(store, reference)
            file = fetch_evidence(store, version, PREDICTIONS_FILE, Path(folder))
            return f"{version.name} version {version.version}", pd.read_parquet(file)
    except TrackingError as error:
        if not is_optional:
            raise
        logger.info("not compared with %s: %s", reference, error)
        return str(error), None


def compare_with_rival(predictions: pd.DataFrame, evaluation: EvaluationParameters) -> dict[str, Any]:
    """Compare the predictions with the rival's. If there is no comparison, `rival` is None and `reason` explains why.

    If an alias points to a version that was evaluated on different images, the comparison is skipped without an error.
    """
    from resnet50_pipeline.reporting.comparison import compare_predictions

    name, rival = find_rival(evaluation)
    if rival is None:
        return {"rival": None, "reason": name}
    try:
        return {"rival": name} | compare_predictions(predictions, rival, evaluation.bootstrap_resamples)
    except EvaluationTableError as error:
        if "@" not in (evaluation.compare_with or ""):
            raise
        return {"rival": None, "reason": f"{name}: {error}"}
