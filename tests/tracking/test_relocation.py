"""After the project or `tracking.artifact_root` has moved, artifacts are written and found at the new location."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from urllib.parse import unquote

from mlflow import MlflowClient
from mlflow.tracking._tracking_service import utils

from mlflow_stores import DESCRIPTION, SQLITE, client_of, find_runs, sqlite_store
from resnet50_pipeline.tracking.delivery.outbox_folder import OutboxFolder
from resnet50_pipeline.tracking.delivery.reconciliation import reconcile_runs
from resnet50_pipeline.tracking.runs import open_run
from resnet50_pipeline.tracking.store import resolve_store


def log_report(project: Path, session: str, artifact_root: str = "mlartifacts") -> str:
    """Track a run with a file and a model version, and return MLflow's ID of the run."""
    report = project / "report.html"
    report.write_text("<html>")
    tracking = SQLITE.model_copy(update={"artifact_root": Path(artifact_root)})
    run = open_run(replace(DESCRIPTION, session=session), tracking, project)
    run.log_artifact(report, "evaluation")
    client, run_id = run.connect()
    if not client.search_registered_models():
        client.create_registered_model("probe")
        client.create_model_version("probe", f"{client.get_run(run_id).info.artifact_uri}/evaluation", run_id)
    run.end("FINISHED")
    return run_id


def place_of(client: MlflowClient, run_id: str) -> Path:
    """Return the artifact root that contains the report of a run."""
    uri = client.get_run(run_id).info.artifact_uri
    folder = Path(unquote(uri.removeprefix("file://")))
    assert (folder / "evaluation" / "report.html").is_file()
    return folder.parents[1]


def test_a_moved_project_keeps_its_artifacts(tmp_path):
    """Old runs and models are found at the new location, new runs write there, and the old location stays empty."""
    old, new = tmp_path / "old project", tmp_path / "new"
    old.mkdir()
    sqlite_store(old)
    first = log_report(old, "one")
    old.rename(new)
    second = log_report(new, "two")
    client = client_of(new)
    assert not old.exists()
    assert [place_of(client, run_id) for run_id in (first, second)] == [new / "mlartifacts"] * 2
    assert client.get_model_version("probe", "1").source.startswith(f"{new.as_uri()}/mlartifacts/")


def test_stored_results_of_a_moved_project_are_delivered(tmp_path):
    """A dead process's outbox, with its files, is delivered to the database at the new location."""
    old, new = tmp_path / 'old "project"', tmp_path / "new"
    old.mkdir()
    tracking = sqlite_store(old)
    (old / "mlartifacts").write_text("a file instead of a folder")
    (old / "report.html").write_text("<html>")
    run = open_run(DESCRIPTION, tracking, old)
    run.log_artifact(old / "report.html", "evaluation")
    run.end("FINISHED")
    (old / "mlartifacts").unlink()
    old.rename(new)
    utils._artifact_repos_cache.clear()  # delivered by another process
    folder = OutboxFolder.of(new, DESCRIPTION.session)
    waiting = folder.read()
    folder.write(waiting.model_copy(update={"process": waiting.process.model_copy(update={"started": 1.0})}))
    (box,) = reconcile_runs(resolve_store(tracking, new), new).outboxes
    assert box.fate == "delivered"
    (stored,) = find_runs(client_of(new))
    assert place_of(client_of(new), stored.info.run_id) == new / "mlartifacts"


def test_another_artifact_root_affects_only_new_runs(tmp_path):
    """Artifacts that remain at the old location are still found there."""
    sqlite_store(tmp_path)
    first = log_report(tmp_path, "one")
    second = log_report(tmp_path, "two", "elsewhere")
    client = client_of(tmp_path)
    assert [place_of(client, run_id).name for run_id in (first, second)] == ["mlartifacts", "elsewhere"]
    assert len(find_runs(client)) == 2


def test_a_database_without_tables_is_left_unchanged(tmp_path):
    """A file just created by another program is left to MLflow."""
    (tmp_path / "mlflow.db").touch()
    store = resolve_store(SQLITE, tmp_path)
    assert store.connect().get_experiment_by_name("probe") is None
