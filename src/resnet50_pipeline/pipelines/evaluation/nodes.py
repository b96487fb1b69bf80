"""Nodes of the `evaluation` pipeline: predict, compute metrics, compare models, draw figures and write the report."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from resnet50_pipeline.files import staging_directory
from resnet50_pipeline.imagenet.lists.fixes import ReviewCommands
from resnet50_pipeline.parameters import (
    DatasetParameters,
    EvaluationParameters,
    TrainingParameters,
)
from resnet50_pipeline.training_dir import config_path, margins_path

if TYPE_CHECKING:
    from resnet50_pipeline.reporting.model_card import DataOrigin


def predict_val_list(
    *,
    training_dir: Path,
    train_list: Path,
    val_list: Path,
    shards: Path,
    manifest_file: Path,
    scan_cache_folder: Path,
    label_map: dict[str, Any],
    dataset_root: Path,
    _training_summary: dict[str, Any] | None,
    dataset: DatasetParameters,
    training: TrainingParameters,
    evaluation: EvaluationParameters,
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Return the predictions for the list of `evaluation.split`, along with a summary of the evaluation.

    If the images are those of the split, the column `sha256` contains the digest of each image.

    If `evaluation.image_list` is set, that list is used instead. Before the ranks start, the images of the split and
    the images that the model was trained on are compared with the manifest from data_validation.
    """
    from resnet50_pipeline.imagenet.image_check import require_validated_images
    from resnet50_pipeline.imagenet.lists.files import read_list_file
    from resnet50_pipeline.imagenet.scan.manifest import select_listed
    from resnet50_pipeline.paddleclas.prediction import predict_list
    from resnet50_pipeline.pipelines.evaluation.models import find_evaluated_model, find_images, require_trained_data

    split, class_num = evaluation.split, label_map["class_num"]
    if evaluation.model is None and evaluation.image_list is None:
        require_trained_data(training_dir, train_list, manifest_file, class_num)
    images = find_images(val_list, shards, dataset_root, dataset, evaluation)
    if evaluation.image_list is None:
        require_validated_images(
            dataset_root,
            {split: read_list_file(images.list_file, class_num)},
            manifest_file,
            shards=images.shards,
            cache_dir=scan_cache_folder,
        )
    predictions, summary = predict_list(
        find_evaluated_model(
            training_dir=training_dir,
            val_list=val_list,
            dataset_root=dataset_root,
            class_num=class_num,
            dataset=dataset,
            training=training,
            evaluation=evaluation,
        ),
        images.list_file,
        training.launch,
        batch_size_per_rank=evaluation.batch_size_per_rank,
        work_parent=evaluation.output_dir or training_dir.parent,
        image_root=images.root,
        shards=images.shards,
        grad_cam_images=evaluation.grad_cam_images,
    )
    if evaluation.image_list is None:
        # In list order, as `require_validated_images` has checked. Comparisons recognize images by their content.
        manifest = pd.read_parquet(manifest_file, columns=["split", "status", "sha256"])
        predictions["sha256"] = select_listed(manifest, split)["sha256"].fillna("").to_numpy()
    return predictions, summary | {"split": split if evaluation.image_list is None else None}


def measure_robustness(
    *,
    training_dir: Path,
    val_list: Path,
    shards: Path,
    label_map: dict[str, Any],
    dataset_root: Path,
    predictions: pd.DataFrame,
    evaluation_summary: dict[str, Any],
    dataset: DatasetParameters,
    training: TrainingParameters,
    evaluation: EvaluationParameters,
) -> pd.DataFrame:
    """Return the errors on corrupted copies of the evaluated images. If no corruptions are set, there are no rows."""
    from resnet50_pipeline.paddleclas import robustness
    from resnet50_pipeline.pipelines.evaluation.models import find_evaluated_model, find_images
    from resnet50_pipeline.reporting.data_quality.robustness import tabulate_robustness
    from resnet50_pipeline.reporting.prediction_table import read_prediction_table

    counts = pd.DataFrame(columns=["corruption", "severity", "errors", "images"])
    if evaluation.corruption_names:
        images = find_images(val_list, shards, dataset_root, dataset, evaluation)
        counts = robustness.measure_robustness(
            find_evaluated_model(
                training_dir=training_dir,
                val_list=val_list,
                dataset_root=dataset_root,
                class_num=label_map["class_num"],
                dataset=dataset,
                training=training,
                evaluation=evaluation,
            ),
            images.list_file,
            training.launch,
            corruptions=evaluation.corruption_names,
            batch_size_per_rank=evaluation.batch_size_per_rank,
            work_parent=evaluation.output_dir or training_dir.parent,
            image_root=images.root,
            shards=images.shards,
            clean_seconds=evaluation_summary["seconds"],
        )
    return tabulate_robustness(counts, read_prediction_table(predictions))


def compute_metrics(
    predictions: pd.DataFrame,
    evaluation_summary: dict[str, Any],
    label_map: dict[str, Any],
    evaluation: EvaluationParameters,
) -> tuple[dict[str, float], pd.DataFrame]:
    """Return the metrics over all images and the table of per-class metrics."""
    from resnet50_pipeline.reporting import metrics, true_labels

    values = metrics.compute_metrics(predictions, evaluation_summary, evaluation.bootstrap_resamples)
    if evaluation.true_labels is not None:
        given = true_labels.read_true_labels(evaluation.true_labels)
        values |= true_labels.true_label_metrics(
            predictions, given, label_map["class_num"], evaluation.bootstrap_resamples
        )
    return values, metrics.per_class_table(predictions, label_map)


def find_label_issues(
    *,
    predictions: pd.DataFrame,
    evaluation_summary: dict[str, Any],
    label_map: dict[str, Any],
    train_list: Path,
    dataset_root: Path,
    evaluation: EvaluationParameters,
) -> str:
    """Return a fix list (CSV) of the images whose labels are probably wrong, most suspicious first.

    If `evaluation.out_of_fold_predictions` is set, the list also contains images in the train list. Images outside the
    dataset root have absolute paths.
    """
    from resnet50_pipeline.imagenet.lists.files import read_list_file
    from resnet50_pipeline.reporting.classes import read_class_names
    from resnet50_pipeline.reporting.data_quality.label_issues import (
        read_out_of_fold_predictions,
        select_train_images,
        tabulate_label_issues,
    )
    from resnet50_pipeline.reporting.prediction_table import locate_images, read_prediction_table

    names = read_class_names(label_map)
    evaluated = read_prediction_table(predictions, len(names))
    if evaluation.image_root is not None:
        evaluated = locate_images(evaluated, evaluation.image_root, dataset_root)
    tables = {evaluation_summary.get("split") or "": evaluated}
    if evaluation.out_of_fold_predictions is not None:
        predicted = read_out_of_fold_predictions(evaluation.out_of_fold_predictions, names)
        tables["train"] = select_train_images(predicted, read_list_file(train_list, len(names)))
    return tabulate_label_issues(tables, names).to_csv(index=False, float_format="%.6f")


def compute_slices(
    predictions: pd.DataFrame, manifest_file: Path, dataset_root: Path, evaluation: EvaluationParameters
) -> pd.DataFrame:
    """Return the accuracy on each group of images with a common attribute, significantly worse groups first.

    The manifest has no attributes of images outside the dataset root.
    """
    from resnet50_pipeline.reporting.data_quality import slices
    from resnet50_pipeline.reporting.prediction_table import locate_images, read_prediction_table

    table, attributes = read_prediction_table(predictions), slices.read_image_attributes(manifest_file)
    if evaluation.image_root is not None:
        located = locate_images(table, evaluation.image_root, dataset_root)
        attributes = attributes.reindex(located.paths).set_axis(table.paths)
    if evaluation.slice_attributes is not None:
        given = slices.read_user_attributes(evaluation.slice_attributes, table.paths)
        attributes = attributes.join(given, how="outer", rsuffix=" (CSV)")
    return slices.compute_slices(table, attributes)


def compare_models(
    predictions: pd.DataFrame, label_map: dict[str, Any], evaluation: EvaluationParameters
) -> dict[str, Any]:
    """Compare the model with the one in `evaluation.compare_with`. If the parameter is not set, `rival` is None."""
    from resnet50_pipeline.pipelines.evaluation.models import compare_with_rival

    return compare_with_rival(predictions, label_map, evaluation)


def draw_plots(
    *,
    predictions: pd.DataFrame,
    per_class_metrics: pd.DataFrame,
    label_map: dict[str, Any],
    training_history: pd.DataFrame | None,
    evaluation: EvaluationParameters,
    evaluation_summary: dict[str, Any],
) -> Path:
    """Return a staged folder with the figures and their data. The catalog moves the folder to its final path."""
    from resnet50_pipeline.reporting.plots import write_plots

    with staging_directory() as staged:
        write_plots(
            staged,
            predictions=predictions,
            per_class=per_class_metrics,
            label_map=label_map,
            training_history=training_history if evaluation_summary["is_best_checkpoint"] else None,
            worst_pairs=evaluation.worst_classes,
        )
    return staged


def write_evaluation_report(
    *,
    metrics: dict[str, float],
    predictions: pd.DataFrame,
    per_class_metrics: pd.DataFrame,
    label_issues: Path,
    label_issues_review: ReviewCommands,
    slices: pd.DataFrame,
    robustness: pd.DataFrame,
    label_map: dict[str, Any],
    evaluation_summary: dict[str, Any],
    comparison: dict[str, Any],
    training_summary: dict[str, Any] | None,
    training_history: pd.DataFrame | None,
    validation_report: dict[str, Any],
    training_dir: Path,
    dataset_root: Path,
    training: TrainingParameters,
    evaluation: EvaluationParameters,
    parameters: dict[str, Any],
) -> tuple[str, str]:
    """Return the report as an HTML page and the model card as Markdown."""
    from resnet50_pipeline.git import git_at_start
    from resnet50_pipeline.pipelines.evaluation.models import read_training_git, was_trained_with
    from resnet50_pipeline.reporting.batch_samples import sample_batches
    from resnet50_pipeline.reporting.data_quality.explained import explain_predictions
    from resnet50_pipeline.reporting.data_quality.label_issues import read_label_issues
    from resnet50_pipeline.reporting.metrics import require_one_evaluation
    from resnet50_pipeline.reporting.model_card import render_model_card
    from resnet50_pipeline.reporting.provenance import collect_provenance
    from resnet50_pipeline.reporting.recipe_difference import compare_with_recipe, select_parameters
    from resnet50_pipeline.reporting.report import ReportInputs, render_report

    require_one_evaluation(predictions, metrics, per_class_metrics)
    was_trained_here = evaluation_summary["is_best_checkpoint"]
    has_parameters = was_trained_here and was_trained_with(training_dir, training)
    image_root, config = evaluation.image_root or dataset_root, config_path(training_dir)
    margins = margins_path(training_dir)
    inputs = ReportInputs(
        metrics=metrics,
        predictions=predictions,
        per_class=per_class_metrics,
        label_map=label_map,
        evaluation_summary=evaluation_summary,
        comparison=comparison,
        training_summary=training_summary if was_trained_here else None,
        training_history=training_history if was_trained_here else None,
        validation_report=validation_report,
        recipe=config.read_text(encoding="utf-8") if was_trained_here else "",
        parameters=select_parameters(parameters, training) if has_parameters else {},
        recipe_difference=(
            compare_with_recipe(training, parameters.get("recipe"), Path("conf")) if has_parameters else None
        ),
        samples=sample_batches(config, predictions, image_root, label_map) if was_trained_here else None,
        explained=(
            explain_predictions(config, predictions, image_root, label_map)
            if was_trained_here and "grad_cam" in predictions
            else ()
        ),
        label_issues=read_label_issues(label_issues),
        label_issues_review=label_issues_review,
        margins=pd.read_parquet(margins) if was_trained_here and margins.is_file() else None,
        slices=slices,
        robustness=robustness,
        train_root=dataset_root,
        dataset_root=image_root,
        provenance=collect_provenance(
            git_at_start(Path.cwd()), read_training_git(training_dir) if was_trained_here else None
        ),
        worst_classes=evaluation.worst_classes,
        gallery_images=evaluation.gallery_images,
    )
    return render_report(inputs), render_model_card(inputs, _find_origin(evaluation, dataset_root))


def _find_origin(evaluation: EvaluationParameters, dataset_root: Path) -> DataOrigin:
    """Return the origin and license of the dataset as set in the parameters, or those of the sample."""
    from resnet50_pipeline.imagenet import sample
    from resnet50_pipeline.reporting.model_card import DataOrigin

    if not evaluation.data_origin and (dataset_root / sample.ORIGIN_FILE).is_file():
        return DataOrigin(sample.ORIGIN, sample.LICENSE)
    return DataOrigin(evaluation.data_origin, evaluation.data_license)
