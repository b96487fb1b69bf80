"""Which model is evaluated on which list, and whose predictions it is compared with, as `params:evaluation` says."""

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
)

if TYPE_CHECKING:
    from resnet50_pipeline.paddleclas.evaluated_model import ModelToEvaluate

logger = logging.getLogger(__name__)

PREDICTIONS_FILE = "predictions.parquet"
DOWNLOADS = Path(".cache") / "models"


def find_subject(
    training_dir: Path,
    val_list: Path,
    dataset: DatasetParameters,
    training: TrainingParameters,
    evaluation: EvaluationParameters,
) -> ModelToEvaluate:
    """Return the model that is evaluated: the training's best checkpoint, or `evaluation.model`."""
    from resnet50_pipeline.paddleclas.config import render_training_config
    from resnet50_pipeline.paddleclas.evaluated_model import find_best_model, find_model

    if evaluation.model is None:
        return find_best_model(training_dir)
    # For what the model itself does not say. No training runs, so it does not matter that there is no train list.
    config = render_training_config(training, dataset, val_list, val_list)
    if evaluation.model.startswith("models:"):
        from resnet50_pipeline.tracking.fetch import fetch_model
        from resnet50_pipeline.tracking.runs import require_current_run

        fetched = fetch_model(require_current_run().store, evaluation.model, DOWNLOADS)
        return find_model(fetched.inference_model, config, f"models:/{fetched.name}/{fetched.version}")
    return find_model(Path(evaluation.model), config, evaluation.model)


def find_rival(evaluation: EvaluationParameters) -> tuple[str, pd.DataFrame | None]:
    """Return the name of what `evaluation.compare_with` means, and its predictions.

    Without predictions the name is the reason why there are none, or "" where none are asked for: a first version has
    no champion to be compared with, and MLflow may not answer.

    Raises:
        EvaluationTableError: the file that is named is not there, or no table.
        TrackingError: the version that is named by its number is not there.
    """
    wanted = evaluation.compare_with
    if wanted is None:
        return "", None
    if not wanted.startswith("models:"):
        if not Path(wanted).is_file():
            raise EvaluationTableError([f"evaluation.compare_with: there is no {wanted}"])
        try:
            return wanted, pd.read_parquet(wanted)
        except (OSError, ValueError) as error:  # pyarrow's ArrowInvalid is a ValueError
            raise EvaluationTableError([f"evaluation.compare_with: {wanted} is no table: {error}"]) from error
    return _fetch_predictions(wanted, is_optional="@" in wanted)


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
    """Return what `reporting.comparison` finds, under the rival's name; or `rival` None and the `reason`, if any.

    A champion that was evaluated on other images is no rival, and no error either.
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
