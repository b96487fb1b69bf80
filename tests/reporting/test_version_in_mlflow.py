"""MLflow's pages of a model version and of two compared runs show the results, and not our bookkeeping."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from evaluation_tables import make_evaluation
from report_pages import report_inputs

from chromium import CHROMIUM, VIEWS, open_chromium
from mlflow_stores import MlflowServer, find_own_errors, find_runs
from resnet50_pipeline.parameters import GateParameters, ModelRegistrationParameters
from resnet50_pipeline.reporting.model_card import render_model_card
from resnet50_pipeline.reporting.run_pages.results import MODEL, Link, name_metrics, render_note
from resnet50_pipeline.tracking.pages import version_page
from resnet50_pipeline.tracking.registry.promotion import pass_gate
from resnet50_pipeline.tracking.registry.versions import ModelFiles, describe_version, link_run, register_model
from resnet50_pipeline.tracking.runs import RunDescription, open_run

NAME = "resnet50-digits"
PARAMETERS = ModelRegistrationParameters(model_name=NAME, gate=GateParameters(min_accuracy=0.1))

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed; run: apt-get install chromium"),
]


def register_version(server: MlflowServer, folder: Path, rate: float, skill: float) -> None:
    """Record a run with this learning rate, and register a version with the model card of an evaluation."""
    description = RunDescription(
        f"session-{rate}", f"ResNet50 local lr={rate}", {}, {"training": {"lr": {"learning_rate": rate}}}
    )
    inputs = report_inputs(folder, make_evaluation(class_num=10, images_per_class=20, skill=skill))
    metrics, card = inputs.metrics, render_model_card(inputs)
    model, report = folder / "inference_model", folder / "evaluation_report.html"
    model.mkdir(exist_ok=True)
    (model / "inference.yml").touch()
    report.write_text("<h1>report</h1>")
    run = open_run(description, server.parameters, folder)
    run.log_metrics(name_metrics(metrics))
    tags = {
        "top1": str(metrics["top1"]), "balanced_accuracy": str(metrics["balanced_accuracy"]),
        "data_digest": inputs.validation_report["data_digest"], "val_images": "200",
    }  # fmt: skip
    version = register_model(
        run, ModelFiles(model, card=card, evidence=(report,)), name=NAME, tags=tags, metrics=name_metrics(metrics)
    )
    outcome = pass_gate(run, version.version, PARAMETERS, broken_expectations=(), export_passed=True)
    gate = {"passed": outcome.decision.passed, "checks": [vars(check) for check in outcome.decision.checks]}
    registered = {"name": NAME, "version": version.version, "alias": outcome.alias, "gate": gate}
    links = [Link(title, page) for title, page in link_run(run, version, {"report": report.name}).items()]
    note = render_note(metrics, registered, links)
    describe_version(run, version, f"{note}\n\n{card.replace(MODEL, version.model_uri)}")
    run.end("FINISHED")


def test_the_pages_of_a_version_and_of_two_runs(tmp_path):
    """The version's description is drawn as Markdown, with its table and links. The comparison has no journal."""
    with MlflowServer(tmp_path) as server, open_chromium() as chromium:
        server.start()
        for rate, skill in ((0.01, 2.0), (0.02, 4.0)):
            register_version(server, tmp_path, rate, skill)
        client = server.client()
        journal = client.get_run(client.get_registered_model(NAME).tags["champion_journal"])
        assert "champion.0001" in journal.data.params
        first, second = find_runs(client)
        page = server.uri + version_page(NAME, 1)
        for width, scheme in VIEWS:
            view = chromium.show(page, width=width, scheme=scheme)
            shown = view.wait_for("Gate: passed, champion", "Intended use", "macro F1")
            assert find_own_errors(view.errors) == view.outside == [], (width, scheme)
        assert "**" not in shown
        assert "| ---" not in shown
        assert view.count_visible("table td") >= 12
        assert view.count_visible("pre code") == 1
        targets = view.evaluate("[...document.querySelectorAll('a')].map((link) => link.hash)")
        for target in (f"runs/{first.info.run_id}", "artifacts/evaluation/evaluation_report.html"):
            assert any(target in one for one in targets), target
        query = f'runs={json.dumps([first.info.run_id, second.info.run_id])}&experiments=["{first.info.experiment_id}"]'
        for width, scheme in VIEWS:
            view = chromium.show(f"{server.uri}/#/compare-runs?{query}", width=width, scheme=scheme)
            shown = view.wait_for("training.lr.learning_rate", "evaluation/top1")
            assert find_own_errors(view.errors) == view.outside == [], (width, scheme)
            assert "champion.0" not in shown
