"""Finds the model to evaluate and the predictions to compare it with, as configured in `params:evaluation`."""

from __future__ import annotations

import logging
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from resnet50_pipeline.exceptions import DatasetError, EvaluationTableError, TrainingConfigError
from resnet50_pipeline.files import digest_file
from resnet50_pipeline.git import GitState
from resnet50_pipeline.parameters import (
    DatasetParameters,
    EvaluationParameters,
    TrainingParameters,
    is_registered_reference,
)
from resnet50_pipeline.text import list_names, pluralize
from resnet50_pipeline.training_dir import config_path, images_path, source_path

if TYPE_CHECKING:
    from collections.abc import Mapping

    from resnet50_pipeline.paddleclas.evaluated_model import ModelToEvaluate
    from resnet50_pipeline.reporting.classes import ClassNames

logger = logging.getLogger(__name__)

PREDICTIONS_FILE = "predictions.parquet"
REPORT_FILE = "evaluation_report.html"
PATCHES_TAG = "patches"
"""Tag of a registered version: ids of the patches of its lists, separated by spaces, or `none`."""
NO_PATCHES = "none"


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
    """Return the model to evaluate: `evaluation.model` if set, otherwise the best checkpoint from training."""
    from resnet50_pipeline.paddleclas.config import TrainingPaths, render_training_config
    from resnet50_pipeline.paddleclas.evaluated_model import find_best_model, find_model

    if evaluation.model is None:
        return find_best_model(training_dir)
    # For models without their own configuration. The train list does not matter, because nothing is trained.
    paths = TrainingPaths(dataset_root, train_list=val_list, val_list=val_list, training_dir=training_dir)
    config = render_training_config(training, class_num, paths, tiff=dataset.tiff)
    if is_registered_reference(evaluation.model):
        from resnet50_pipeline.tracking.fetch import DOWNLOADS, fetch_model
        from resnet50_pipeline.tracking.runs import require_current_run

        fetched = fetch_model(require_current_run().store, evaluation.model, DOWNLOADS)
        return find_model(fetched.inference_model, config, f"models:/{fetched.name}/{fetched.version}")
    return find_model(Path(evaluation.model), config, evaluation.model)


@dataclass(frozen=True)
class EvaluatedImages:
    """The images to evaluate.

    Attributes:
        list_file: list file with one `path label` pair per line.
        root: folder that the paths are relative to.
        shards: folder of the shard set with the images, or None for loose files.
    """

    list_file: Path
    root: Path
    shards: Path | None


def find_images(
    val_list: Path, shards: Path, dataset_root: Path, dataset: DatasetParameters, evaluation: EvaluationParameters
) -> EvaluatedImages:
    """Return the images of `evaluation.image_list` if set, otherwise those of `evaluation.split`."""
    from resnet50_pipeline.imagenet.layout import require_test_list
    from resnet50_pipeline.imagenet.shards.shard_set import resolve_shards

    root = evaluation.image_root or dataset_root
    if evaluation.image_list is not None:
        return EvaluatedImages(evaluation.image_list, root, None)
    # Shards contain only the images in the prepared train and val lists.
    if evaluation.split == "test":
        return EvaluatedImages(require_test_list(dataset_root, dataset), root, None)
    return EvaluatedImages(val_list, root, resolve_shards(shards))


def require_trained_data(training_dir: Path, train_list: Path, manifest_file: Path, class_num: int) -> None:
    """Raise an error if the data has changed since the best checkpoint was trained.

    Otherwise, the registered version would claim that the model was trained on the new data.

    Raises:
        DatasetError: if the train list or train images have changed since training.
    """
    from resnet50_pipeline.imagenet.image_check import find_untrained_images
    from resnet50_pipeline.imagenet.lists.files import read_list_file
    from resnet50_pipeline.paddleclas.evaluated_model import find_best_model, trained_list_digest

    remedy = "train again, or set evaluation.model to evaluate the model on the new data"
    if trained_list_digest(find_best_model(training_dir).path) not in (None, digest_file(train_list)):
        raise DatasetError(f"{train_list} has changed since the model was trained → {remedy}")
    changed = find_untrained_images(images_path(training_dir), read_list_file(train_list, class_num), manifest_file)
    if changed:
        raise DatasetError(
            f"{pluralize(len(changed), 'train image')} changed since the model was trained: {list_names(changed, 5)} → "
            f"{remedy}"
        )


def was_trained_with(training_dir: Path, training: TrainingParameters) -> bool:
    """Return whether the run in the training folder used the same recipe as these parameters.

    The parameters of an evaluation can differ from those of the training run. If they do, the reason is logged.
    """
    from resnet50_pipeline.paddleclas.config import has_recipe
    from resnet50_pipeline.recipe.document import read_training_config

    config = config_path(training_dir)
    try:
        if has_recipe(read_training_config(config), training):
            return True
        logger.info("the report does not list parameters: this run's parameters differ from those in %s", config)
    except TrainingConfigError as error:
        reason, *_ = str(error).splitlines()
        logger.info("the report does not list parameters: %s", reason)
    return False


def read_training_git(training_dir: Path) -> GitState | None:
    """Return the Git state at the start of the training run, or None for runs that did not record it."""
    path = source_path(training_dir)
    return GitState.parse(path.read_text(encoding="utf-8").strip()) if path.is_file() else None


@dataclass(frozen=True)
class Rival:
    """The model to compare with.

    Attributes:
        name: display name.
        predictions: the model's predictions.
        training: the model's `parameters` and `curves`, as in its own report; None if unknown.
        model: name of the registered model, or None for a file.
        version: version number in the registry, or None for a file.
        patches: ids of the patches of the lists that the model was trained with, or None if unknown.
        classes: the classes of the model's evaluation, or None if unknown.
    """

    name: str
    predictions: pd.DataFrame
    training: dict[str, Any] | None = None
    model: str | None = None
    version: int | None = None
    patches: list[str] | None = None
    classes: ClassNames | None = None


def find_rival(evaluation: EvaluationParameters) -> Rival | str:
    """Return the model in `evaluation.compare_with`, called the rival.

    If there is none, return the reason, or "" if no rival is configured or registered yet. A missing alias is not an
    error, because there is no champion until the first version is registered. An unreachable MLflow server is not an
    error either. With `evaluation.image_root`, there is no comparison with a registered version, because it was
    evaluated on images of the dataset, which may have the same paths.

    Raises:
        EvaluationTableError: if the file does not exist or is not a Parquet table.
        TrackingError: if the rival is given as a version number and that version does not exist.
    """
    reference = evaluation.compare_with
    if reference is None:
        return ""
    if is_registered_reference(reference):
        if evaluation.image_root is not None:
            return f"{reference} was evaluated on the dataset, and this model on images in {evaluation.image_root}"
        return _fetch_rival(reference, is_optional="@" in reference)
    remedy = "set the parameter to the path of a predictions.parquet"
    if not Path(reference).is_file():
        raise EvaluationTableError([f"evaluation.compare_with: {reference} does not exist → {remedy}"])
    try:
        return Rival(reference, pd.read_parquet(reference))
    except (OSError, ValueError) as error:  # pyarrow's ArrowInvalid is a ValueError
        raise EvaluationTableError(
            [f"evaluation.compare_with: {reference} is not a Parquet table: {error} → {remedy}"]
        ) from error


def _fetch_rival(reference: str, *, is_optional: bool) -> Rival | str:
    from resnet50_pipeline.exceptions import TrackingError, VersionNotFoundError
    from resnet50_pipeline.tracking.fetch import asking_mlflow, fetch_evidence, find_version
    from resnet50_pipeline.tracking.runs import require_current_run

    try:
        store = require_current_run().store
        with asking_mlflow(store), tempfile.TemporaryDirectory() as folder:
            version = find_version(store, reference)
            name = f"{version.name} version {version.version}"
            file = fetch_evidence(store, version, PREDICTIONS_FILE, Path(folder))
            predictions = pd.read_parquet(file)
            try:
                report = fetch_evidence(store, version, REPORT_FILE, Path(folder))
            except TrackingError as error:
                logger.info("parameters and curves are not compared: %s", error)
                training = classes = None
            else:
                training, classes = _read_report(report, name)
            patches = version.tags.get(PATCHES_TAG, "").replace(NO_PATCHES, "").split()
            known = patches if PATCHES_TAG in version.tags else None
            return Rival(name, predictions, training, version.name, int(version.version), known, classes)
    except TrackingError as error:
        if not is_optional:
            raise
        # Before the first version is registered, a missing champion is expected, so do not return a reason.
        if isinstance(error, VersionNotFoundError):
            logger.info("there is no %s yet to compare with", reference)
            return ""
        logger.info("not compared with %s: %s", reference, error)
        return str(error)


def _read_report(report: Path, name: str) -> tuple[dict[str, Any] | None, ClassNames | None]:
    """Return the parameters and curves in a report, and its classes.

    A value is None if the report does not contain it, because another version of this project wrote the report.
    """
    from resnet50_pipeline.reporting.classes import ClassNames
    from resnet50_pipeline.reporting.run_comparison import read_report

    try:
        data = read_report(report, name).data
    except EvaluationTableError as error:
        logger.info("parameters and curves are not compared: the report of %s cannot be read: %s", name, error)
        return None, None
    training = {"parameters": data["run"]["parameters"], "curves": data.get("curves")}
    if "classes" not in data:
        return training, None
    synsets, labels = (tuple(data["classes"][column]) for column in ("synset", "name"))
    return training, ClassNames(synsets, labels, labels)


def compare_with_rival(
    predictions: pd.DataFrame, label_map: Mapping[str, Any], evaluation: EvaluationParameters
) -> dict[str, Any]:
    """Compare the predictions with the rival's. If there is no comparison, `rival` is None and `reason` explains why.

    If `evaluation.compare_with` is an alias, it is not an error if its version was evaluated on different images or
    classes.
    """
    from resnet50_pipeline.reporting.classes import read_class_names
    from resnet50_pipeline.reporting.comparison import compare_predictions, require_same_classes

    rival = find_rival(evaluation)
    if isinstance(rival, str):
        return {"rival": None, "reason": rival}
    try:
        if rival.classes is not None:
            require_same_classes(read_class_names(label_map), rival.classes)
        compared = compare_predictions(predictions, rival.predictions, evaluation.bootstrap_resamples)
    except EvaluationTableError as error:
        if "@" not in (evaluation.compare_with or ""):
            raise
        return {"rival": None, "reason": f"{rival.name}: {error}"}
    return {
        "rival": rival.name,
        "rival_model": rival.model,
        "rival_version": rival.version,
        "rival_patches": rival.patches,
        **compared,
        "training": rival.training,
    }
