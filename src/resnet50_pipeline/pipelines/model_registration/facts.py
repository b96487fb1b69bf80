"""Collects the tags of a model version, and checks that the metrics belong to it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from resnet50_pipeline.exceptions import EvaluationTableError
from resnet50_pipeline.files import digest_json

_RUN_FACTS = ("git_commit", "git_dirty", "recipe")
_METRICS = ("top1", "top5", "balanced_accuracy", "loss")


def collect_tags(
    metrics: Mapping[str, float],
    evaluation_summary: Mapping[str, Any],
    validation_report: Mapping[str, Any],
    run_tags: Mapping[str, str],
) -> dict[str, float | str]:
    """Return the tags of a version: recipe, commit, main metrics, and digests of the data, list and weights."""
    return {
        **{name: metrics[name] for name in _METRICS},
        "data_digest": str(validation_report["data_digest"]),
        "list_digest": str(evaluation_summary["list_digest"]),
        "weights_digest": str(evaluation_summary["weights_digest"]),
        **{name: run_tags[name] for name in _RUN_FACTS if name in run_tags},
        # Use `none` rather than an empty tag, which would look like an unknown value.
        "patches": " ".join(patch["id"] for patch in validation_report.get("patches", ())) or "none",
    }


def require_one_evaluation(
    metrics: Mapping[str, float],
    evaluation_summary: Mapping[str, Any],
    validation_report: Mapping[str, Any],
    pages: Iterable[Path],
) -> None:
    """Raise an error unless all results come from one evaluation of the current data.

    The report and the model card contain a digest of the metrics, the summary and the data digest. The digest no longer
    matches if one of these was replaced later, for example by an evaluation that was killed before it wrote the report.

    Args:
        metrics: metrics of the evaluation.
        evaluation_summary: summary of the evaluation.
        validation_report: report of data_validation.
        pages: the evaluation report and the model card.

    Raises:
        EvaluationTableError: if a page belongs to different results.
    """
    digest = digest_json(metrics, evaluation_summary, validation_report["data_digest"])
    other = [str(page) for page in pages if digest not in page.read_text(encoding="utf-8")]
    if other:
        raise EvaluationTableError(
            [
                f"{' and '.join(other)}: does not match the current metrics, evaluation_summary and "
                "validation_report; the evaluation was probably interrupted, or data_validation has found different "
                "data since → rerun the evaluation pipeline"
            ]
        )


def require_same_weights(evaluation_summary: Mapping[str, Any], export_check: Mapping[str, Any]) -> None:
    """Raise an error unless the metrics were computed with the exported weights on a split of the dataset.

    Raises:
        EvaluationTableError: if the evaluation used different weights or a different list.
    """
    problems = []
    if evaluation_summary["weights_digest"] != export_check["weights_digest"]:
        problems.append(
            f"evaluation_summary: the evaluated weights ({evaluation_summary['weights_digest']}) differ from the "
            f"exported weights ({export_check['weights_digest']}) → rerun the evaluation pipeline"
        )
    if evaluation_summary["split"] is None:
        problems.append(
            f"evaluation_summary: the model was evaluated on {evaluation_summary['list']}, but a version needs "
            "metrics from the val or test list → rerun the evaluation pipeline without evaluation.image_list"
        )
    if problems:
        raise EvaluationTableError(problems)
