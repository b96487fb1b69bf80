"""Writes the index page of a run, and sets the run's description in MLflow to the same text and links."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from kedro.io import CatalogProtocol

from resnet50_pipeline.files import shorten_path, write_text
from resnet50_pipeline.hooks.mlflow_place import find_place
from resnet50_pipeline.reporting.run_pages.results import INDEX, Link, describe_version, render_note
from resnet50_pipeline.training_dir import config_path

if TYPE_CHECKING:
    from resnet50_pipeline.tracking.runs import TrackedRun

REPORT = "evaluation_report"
# Results whose pages the index links to.
_SHOWN = {"data_docs", "training_dir", "metrics", REPORT, "registered_model"}
_EARLIER = "from an earlier run"


@dataclass(frozen=True)
class _Page:
    """A result with a page: catalog entry, title, file in the entry's folder, path in MLflow, and content."""

    dataset: str
    title: str
    file: str
    artifact: str
    text: str


_PAGES = (
    _Page(REPORT, "report", "", "evaluation/evaluation_report.html", "metrics, curves, classes and mistakes"),
    _Page("data_docs", "Data Docs", "index.html", "data_validation/data_docs/index.html", "statistics and findings"),
    _Page("model_card", "model card", "", "evaluation/model_card.md", "intended use, results and limits"),
    _Page(
        "training_dir", "PaddleClas YAML", "", f"training/{config_path(Path()).name}", "complete training configuration"
    ),
)


def index_path(catalog: CatalogProtocol[Any, Any]) -> Path | None:
    """Return the path of the index page, or None if the catalog has no report."""
    return Path(catalog[REPORT].filepath).with_name(INDEX) if REPORT in catalog else None


def writes_index(saved: set[str]) -> bool:
    """Return whether a run that saves these datasets writes the page. Other runs leave it unchanged."""
    return bool(saved & _SHOWN)


def describe_results(
    run: TrackedRun,
    run_params: Mapping[str, Any],
    saved: set[str],
    catalog: CatalogProtocol[Any, Any],
    log: Path | None,
    *,
    has_failed: bool = False,
) -> None:
    """Write the index page, and set the description of the MLflow run.

    The figures come from this run. Pages from earlier runs are linked and marked as such.

    Args:
        run: MLflow run that the results belong to.
        run_params: Kedro's description of the run.
        saved: names of the datasets that the run has saved.
        catalog: catalog of the run.
        log: log file of the run, or None.
        has_failed: whether the run ends with an error.
    """
    path = index_path(catalog)
    if path is None or not writes_index(saved):
        return
    from resnet50_pipeline.git import git_at_start
    from resnet50_pipeline.reporting.provenance import collect_provenance
    from resnet50_pipeline.reporting.run_pages.index_page import IndexInputs, render_index

    metrics, model = _load(catalog, "metrics"), _load(catalog, "registered_model")
    stored = run.read()
    experiment_id = None if stored is None else stored.experiment_id
    place = find_place(run_params, catalog)
    links = [link for page in _PAGES if (link := _link_file(page, saved, catalog, path.parent)) is not None]
    if log is not None:
        links.append(Link("log", _relative(log, path.parent), log.name))
    provenance = collect_provenance(git_at_start(Path.cwd()))
    inputs = IndexInputs(
        name=f"{run.name} (failed)" if has_failed else run.name,
        metrics=metrics if "metrics" in saved else None,
        model=model if "registered_model" in saved else None,
        links=[*links, *_link_mlflow(run, experiment_id, place.base, saved, model)],
        facts=_collect_facts(run, catalog) | {"command": provenance.command, "source": provenance.source},
        mlflow_command=place.command,
        written_at=datetime.now(UTC),
    )
    write_text(path, render_index(inputs))
    if stored is not None:
        note = render_note(
            metrics if "metrics" in saved else None,
            model if "registered_model" in saved else None,
            link_artifacts(run, stored.experiment_id, saved, log),
            str(shorten_path(path)),
        )
        run.describe(note, stored)


def link_artifacts(run: TrackedRun, experiment_id: str, saved: set[str], log: Path | None) -> list[Link]:
    """Return links to the MLflow pages that show the run's artifacts."""
    from resnet50_pipeline.tracking.pages import artifact_page

    shown = [(page.title, page.artifact) for page in _PAGES if page.dataset in saved]
    if log is not None:
        shown.append(("log", f"logs/{log.name}"))
    return [
        Link(title, artifact_page(experiment_id, str(run.run_id), artifact).removeprefix("/"))
        for title, artifact in shown
    ]


def _link_file(page: _Page, saved: set[str], catalog: CatalogProtocol[Any, Any], folder: Path) -> Link | None:
    if page.dataset not in catalog:
        return None
    file = Path(catalog[page.dataset].filepath)
    file = config_path(file) if page.dataset == "training_dir" else file / page.file if page.file else file
    if not file.is_file():
        return None
    text = page.text if page.dataset in saved else f"{page.text}, {_EARLIER}"
    return Link(page.title, _relative(file, folder), text)


def _link_mlflow(
    run: TrackedRun, experiment_id: str | None, base: str, saved: set[str], model: Mapping[str, Any] | None
) -> list[Link]:
    from resnet50_pipeline.tracking.pages import run_page, runs_page, version_page

    links = []
    if experiment_id is not None:
        links.append(Link("MLflow run", base + run_page(experiment_id, str(run.run_id)), "parameters, curves, files"))
    if model is not None:
        text = describe_version(model) + ("" if "registered_model" in saved else f", {_EARLIER}")
        links.append(Link("model version", base + version_page(model["name"], model["version"]), text))
    if experiment_id is not None:
        links.append(Link("all runs", base + runs_page(experiment_id), "compare runs in MLflow"))
    return links


def _collect_facts(run: TrackedRun, catalog: CatalogProtocol[Any, Any]) -> dict[str, str]:
    """Return the versions of the data and the recipe. DVC tracks `data_version.json`, which is next to the manifest."""
    facts = {"recipe": run.tags.get("recipe", ""), "data": run.tags.get("data_digest", "")}
    version = Path(catalog["manifest"].filepath).with_name("data_version.json") if "manifest" in catalog else None
    if version is not None and version.is_file():
        is_same = json.loads(version.read_bytes())["data_digest"] == facts["data"]
        facts["DVC version of the data"] = f"{version}" if is_same else f"{version} belongs to other data"
    else:
        facts["DVC version of the data"] = "none (kedro data-version writes one)"
    return {name: fact for name, fact in facts.items() if fact}


def _load(catalog: CatalogProtocol[Any, Any], name: str) -> Any:
    return catalog.load(name) if name in catalog and catalog.exists(name) else None


def _relative(path: Path, folder: Path) -> str:
    return quote(os.path.relpath(path, folder))
