"""Nodes of `model_registration`: the inference model of the best checkpoint, and its place in the registry."""

from __future__ import annotations

import json
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd

from resnet50_pipeline.parameters import ModelRegistrationParameters, TrainingParameters


def export_inference_model(
    training_dir: Path,
    label_map: dict[str, Any],
    model_registration: ModelRegistrationParameters,
    training: TrainingParameters,
) -> Path:
    """Return a staged folder with the inference model, checked to give the checkpoint's own outputs."""
    from resnet50_pipeline.paddleclas import export

    return export.export_inference_model(training_dir, label_map, model_registration, training)


def register_model(
    *,
    inference_model: Path,
    metrics: dict[str, float],
    evaluation_summary: dict[str, Any],
    predictions: pd.DataFrame,
    evaluation_report: Path,
    model_card: Path,
    validation_report: dict[str, Any],
    model_registration: ModelRegistrationParameters,
) -> dict[str, Any]:
    """Return what was registered: name, version, run_id, model_uri, the alias that the gate gave it, and why."""
    from resnet50_pipeline.files import write_text
    from resnet50_pipeline.pipelines.model_registration.facts import require_same_weights, state_facts
    from resnet50_pipeline.tracking import promotion, registry, runs

    run = runs.require_current_run()
    export_check = json.loads((inference_model / "export_check.json").read_text(encoding="utf-8"))
    require_same_weights(evaluation_summary, export_check)
    facts = state_facts(metrics, evaluation_summary, validation_report, run.tags)
    with tempfile.TemporaryDirectory() as folder:
        predictions_file, metrics_file = Path(folder) / "predictions.parquet", Path(folder) / "metrics.json"
        predictions.to_parquet(predictions_file, index=False)
        write_text(metrics_file, json.dumps(metrics, indent=2) + "\n")
        version = registry.register_model(
            run,
            registry.ModelFiles(
                inference_model,
                card=model_card.read_text(encoding="utf-8"),
                evidence=(predictions_file, metrics_file, evaluation_report, model_card),
            ),
            name=model_registration.model_name,
            tags={name: str(fact) for name, fact in facts.items()},
            metrics=metrics,
        )
    broken = [one["name"] for one in validation_report["expectations"] if one["is_blocking"] and not one["success"]]
    outcome = promotion.pass_gate(
        run, version.version, model_registration, broken_expectations=broken, export_passed=export_check["passed"]
    )
    return asdict(version) | {"alias": outcome.alias, "gate": asdict(outcome.decision)} | facts
