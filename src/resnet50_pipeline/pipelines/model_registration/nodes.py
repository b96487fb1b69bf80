"""Nodes of `model_registration`: the inference model of the best checkpoint, and its place in the registry."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

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
    inference_model: Path,
    metrics: dict[str, float],
    validation_report: dict[str, Any],
    model_registration: ModelRegistrationParameters,
) -> dict[str, Any]:
    """Return what was registered: name, version, alias, run_id and model_uri, and the facts in its tags."""
    from resnet50_pipeline.tracking import registry, runs

    run = runs.require_current_run()
    facts = {"top1": metrics["top1"], "data_digest": validation_report["data_digest"]}
    facts |= {name: run.tags[name] for name in ("git_commit", "recipe")}
    version = registry.register_model(
        run,
        inference_model,
        name=model_registration.model_name,
        alias=model_registration.alias,
        tags={name: str(fact) for name, fact in facts.items()},
    )
    return asdict(version) | facts
