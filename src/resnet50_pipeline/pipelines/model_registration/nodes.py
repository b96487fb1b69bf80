"""Nodes of the `model_registration` pipeline: export the best checkpoint and register it in MLflow."""

from __future__ import annotations

import json
import logging
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd

from resnet50_pipeline.exceptions import TrackingError
from resnet50_pipeline.parameters import ModelRegistrationParameters, TrainingParameters

logger = logging.getLogger(__name__)


def export_inference_model(
    training_dir: Path,
    label_map: dict[str, Any],
    model_registration: ModelRegistrationParameters,
    training: TrainingParameters,
    _evaluation_report: Path,
) -> Path:
    """Export the inference model to a staged folder, and check that its outputs match the outputs of the checkpoint."""
    from resnet50_pipeline.paddleclas import export

    return export.export_inference_model(training_dir, label_map, model_registration, training)


def register_model(
    *,
    inference_model: Path,
    metrics: dict[str, float],
    evaluation_summary: dict[str, Any],
    predictions: pd.DataFrame,
    comparison: dict[str, Any],
    evaluation_report: Path,
    model_card: Path,
    validation_report: dict[str, Any],
    model_registration: ModelRegistrationParameters,
) -> dict[str, Any]:
    """Register the model and apply the gate. Return the name, version, run id, model URI, alias, decision and tags."""
    from resnet50_pipeline.files import write_text
    from resnet50_pipeline.pipelines.model_registration.facts import (
        collect_tags,
        require_one_evaluation,
        require_same_weights,
    )
    from resnet50_pipeline.reporting.run_pages.results import MODEL, Link, name_metrics, render_note
    from resnet50_pipeline.tracking import runs
    from resnet50_pipeline.tracking.registry import promotion
    from resnet50_pipeline.tracking.registry import versions as registry
    from resnet50_pipeline.tracking.registry.gate import PairedDifference

    run = runs.require_current_run()
    export_check = json.loads((inference_model / "export_check.json").read_text(encoding="utf-8"))
    require_same_weights(evaluation_summary, export_check)
    require_one_evaluation(metrics, evaluation_summary, validation_report, (evaluation_report, model_card))
    facts = collect_tags(metrics, evaluation_summary, validation_report, run.tags)
    card = model_card.read_text(encoding="utf-8")
    with tempfile.TemporaryDirectory() as folder:
        predictions_file, metrics_file = Path(folder) / "predictions.parquet", Path(folder) / "metrics.json"
        predictions.to_parquet(predictions_file, index=False)
        write_text(metrics_file, json.dumps(metrics, indent=2) + "\n")
        version = registry.register_model(
            run,
            registry.ModelFiles(
                inference_model,
                card=card,
                evidence=(predictions_file, metrics_file, evaluation_report, model_card),
            ),
            name=model_registration.model_name,
            tags={name: str(fact) for name, fact in facts.items()},
            metrics=name_metrics(metrics),
        )
    broken = [one["name"] for one in validation_report["expectations"] if one["is_blocking"] and not one["success"]]
    outcome = promotion.pass_gate(
        run,
        version.version,
        model_registration,
        broken_expectations=broken,
        export_passed=export_check["passed"],
        paired=PairedDifference.from_comparison(comparison, version.name),
    )
    registered = asdict(version) | {"alias": outcome.alias, "gate": asdict(outcome.decision)} | facts
    try:
        pages = registry.link_run(run, version, {"report": evaluation_report.name, "model card": model_card.name})
        note = render_note(metrics, registered, [Link(title, page) for title, page in pages.items()])
        registry.describe_version(run, version, f"{note}\n\n{card.replace(MODEL, version.model_uri)}")
    except TrackingError as error:
        # The version is registered, and its description is the model card without the links.
        logger.warning("the description of %s version %s has no links: %s", version.name, version.version, error)
    return registered
