"""What a version says of itself, and that its metrics are its own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from resnet50_pipeline.exceptions import EvaluationTableError

_RUN_FACTS = ("git_commit", "git_dirty", "recipe")
_METRICS = ("top1", "top5", "balanced_accuracy", "loss")


def state_facts(
    metrics: Mapping[str, float],
    evaluation_summary: Mapping[str, Any],
    validation_report: Mapping[str, Any],
    run_tags: Mapping[str, str],
) -> dict[str, float | str]:
    """Return a version's tags: its main metrics, the digests of data, list and weights, recipe and commit."""
    return {
        **{name: metrics[name] for name in _METRICS},
        "data_digest": str(validation_report["data_digest"]),
        "list_digest": str(evaluation_summary["list_digest"]),
        "weights_digest": str(evaluation_summary["weights_digest"]),
        **{name: run_tags[name] for name in _RUN_FACTS if name in run_tags},
    }


def require_same_weights(evaluation_summary: Mapping[str, Any], export_check: Mapping[str, Any]) -> None:
    """Check that the exported model is the one that was evaluated, and on the val list.

    Raises:
        EvaluationTableError: it is another, so the metrics say nothing of it.
    """
    problems = []
    if evaluation_summary["weights_digest"] != export_check["weights_digest"]:
        problems.append(
            f"evaluation_summary: was made with other weights ({evaluation_summary['weights_digest']}) than the "
            f"exported model's ({export_check['weights_digest']}); run the evaluation pipeline again"
        )
    if not evaluation_summary["is_val_list"]:
        problems.append(
            f"evaluation_summary: was made on {evaluation_summary['list']}, and a version is judged by the val list; "
            f"run the evaluation pipeline again, without evaluation.image_list"
        )
    if problems:
        raise EvaluationTableError(problems)
