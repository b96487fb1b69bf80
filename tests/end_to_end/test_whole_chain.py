"""In a new copy of the project, `kedro run --env test` writes all files, metrics, the run and the registered model."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from mlflow import MlflowClient

from project_copy import copy_project
from resnet50_pipeline.events import EvalEnd, TrainStep, read_events
from resnet50_pipeline.recipes import RecipeConfigLoader
from resnet50_pipeline.settings import CONFIG_LOADER_ARGS

pytestmark = [pytest.mark.slow, pytest.mark.chain, pytest.mark.timeout(900)]

PROJECT = Path(__file__).parents[2]
# Commands that need no configuration.
WITHOUT_ENVIRONMENT = ("verify-shards",)


def environment(project: Path) -> dict[str, str]:
    """Return a shell environment in which PYTHONPATH gives the copy precedence over the installed project."""
    # Show warnings as a user sees them.
    return {
        **{name: value for name, value in os.environ.items() if name != "PYTHONWARNINGS"},
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PYTHONPATH": str(project / "src"),
        "HOME": str(project / "home"),
        "CANARY_TOKEN": "canary-5f3e",
    }


def kedro_run(root: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run `kedro run --env test` in a copy."""
    return subprocess.run(
        ["kedro", "run", "--env", "test", *arguments],
        cwd=root,
        env=environment(root),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Path:
    """A copy of the project in which all pipelines have run once."""
    root = tmp_path_factory.mktemp("project")
    copy_project(root)
    result = kedro_run(root)
    (root / "stdout.txt").write_text(result.stdout)
    (root / "stderr.txt").write_text(result.stderr)
    assert result.returncode == 0, result.stdout + result.stderr
    return root


@pytest.fixture(scope="module")
def data(project: Path) -> Path:
    return project / "data" / "test"


@pytest.fixture(scope="module")
def client(data: Path) -> MlflowClient:
    return MlflowClient(tracking_uri=f"sqlite:///{data / 'mlflow.db'}")


@pytest.fixture(scope="module")
def run(client: MlflowClient):
    """The only MLflow run that `kedro run` created."""
    experiment = client.get_experiment_by_name("resnet50-test")
    (found,) = client.search_runs([experiment.experiment_id])
    return found


def test_every_entry_of_the_catalog_was_written(project: Path):
    """Every file in the catalog exists and is not empty, and no temporary file remains."""
    loader = RecipeConfigLoader(project / "conf", env="test", **CONFIG_LOADER_ARGS)
    entries = loader["catalog"]
    paths = [
        project / entry["filepath"]
        for name, entry in entries.items()
        if "filepath" in entry and not name.startswith("dataset_")
    ]
    assert len(paths) >= 17
    for path in paths:
        assert path.exists(), path
        assert any(path.iterdir()) if path.is_dir() else path.stat().st_size > 0, path
    assert not [path for path in (project / "data").rglob("*") if path.name.endswith(".tmp")]


def test_nothing_was_written_outside_the_data_folder(project: Path):
    """The run writes only to data/ and to the caches of Matplotlib and Kedro-Viz, not to the home folder."""
    assert list((project / "home").iterdir()) == []
    known = {"src", "conf", "pyproject.toml", "home", "stdout.txt", "stderr.txt"}
    new = {path.name for path in project.iterdir()} - known
    assert new <= {"data", ".cache", ".viz"}


@pytest.mark.parametrize("split", ["train", "val"])
def test_lists_equal_the_output_of_sed(data: Path, split: str):
    """The list equals the output of `sed 's#^#train/#'` byte for byte, and the raw list is unchanged."""
    raw = data / "01_raw" / "digits" / f"{split}_list.txt"
    by_sed = subprocess.run(["sed", f"s#^#{split}/#", raw], capture_output=True, check=True).stdout
    assert (data / "05_model_input" / f"{split}_list.txt").read_bytes() == by_sed
    assert not raw.read_text().startswith(f"{split}/")


def test_metrics_match_the_predictions(data: Path):
    """Every val image has one prediction, and top-1 and top-5 agree with the predictions."""
    metrics = json.loads((data / "08_reporting" / "metrics.json").read_text())
    predictions = pd.read_parquet(data / "07_model_output" / "predictions.parquet")
    val_list = (data / "05_model_input" / "val_list.txt").read_text().splitlines()
    assert [f"{row.path} {row.label}" for row in predictions.itertuples()] == val_list
    hits = np.stack(predictions["top5_ids"].tolist()) == predictions["label"].to_numpy()[:, None]
    assert metrics["top1"] == pytest.approx(hits[:, 0].mean())
    assert metrics["top5"] == pytest.approx(hits.any(axis=1).mean())
    assert metrics["images"] == len(val_list) == 30


def test_training_evaluation_and_report_agree(data: Path):
    """The best evaluation during training equals the result of the evaluation stage."""
    metrics = json.loads((data / "08_reporting" / "metrics.json").read_text())
    summary = json.loads((data / "08_reporting" / "training_summary.json").read_text())
    assert summary["best_top1"] == pytest.approx(metrics["top1"])
    report = (data / "08_reporting" / "evaluation_report.html").read_text()
    assert f"{100 * metrics['top1']:.2f}" in report


def test_run_is_finished_and_described(run, project: Path):
    """The run is FINISHED and contains flattened parameters, tags and both splits."""
    assert run.info.status == "FINISHED"
    assert run.data.params["training.launch.device"] == "cpu"
    assert run.data.params["training.lr.learning_rate"] == "0.02"
    assert run.data.params["dataset.class_num"] == "10"
    report = json.loads((project / "data/test/08_reporting/validation_report.json").read_text())
    assert run.data.tags["data_digest"] == report["data_digest"]
    contexts = {tag.value for dataset in run.inputs.dataset_inputs for tag in dataset.tags}
    assert contexts == {"training", "validation"}


def test_curves_hold_every_event_once(run, client: MlflowClient, data: Path):
    """Each train_step and eval_end event is one point with its step and value."""
    events = read_events(data / "06_models" / "training" / "events.jsonl")
    steps = [(event.step, event.loss) for event in events if isinstance(event, TrainStep)]
    points = client.get_metric_history(run.info.run_id, "train/loss")
    assert sorted((point.step, point.value) for point in points) == steps
    evaluations = [event.top1 for event in events if isinstance(event, EvalEnd)]
    points = client.get_metric_history(run.info.run_id, "val/top1")
    assert [point.value for point in sorted(points, key=lambda point: point.step)] == evaluations


def test_run_has_the_artifacts(run, client: MlflowClient):
    """The run has the report, plots, Data Docs, validation report and YAML file as artifacts."""

    def names(folder: str | None = None) -> set[str]:
        found = set()
        for item in client.list_artifacts(run.info.run_id, folder):
            found |= names(item.path) if item.is_dir else {item.path}
        return found

    files = names()
    for ending in ("evaluation_report.html", "validation_report.json", "training_config.yaml", "confusion.png"):
        assert any(name.endswith(ending) for name in files), (ending, files)
    assert any("data_docs" in name and name.endswith("index.html") for name in files)


def test_no_secret_is_found_in_any_result(data: Path):
    """No log, artifact, database or report contains a token from the environment."""
    for path in data.rglob("*"):
        if path.is_file():
            assert b"canary-5f3e" not in path.read_bytes(), path


def test_registered_version_has_alias_and_tags(client: MlflowClient, run, data: Path):
    """The alias refers to the new version, and its tags contain data, recipe, commit and metrics."""
    version = client.get_model_version_by_alias("resnet50-test", "champion")
    registered = json.loads((data / "08_reporting" / "registered_model.json").read_text())
    assert int(version.version) == registered["version"] == 1
    assert version.run_id == run.info.run_id == registered["run_id"]
    assert version.tags["data_digest"] == run.data.tags["data_digest"]
    assert {"git_commit", "recipe", "top1"} <= set(version.tags)


def test_registered_model_returns_the_evaluations_predictions(data: Path, project: Path, tmp_path: Path):
    """In a new process that uses only MLflow, the model returns the evaluation's top 5 for image bytes."""
    predictions = pd.read_parquet(data / "07_model_output" / "predictions.parquet").head(4)
    program = """
import json, pathlib, sys
import mlflow, pandas as pd
data = pathlib.Path(sys.argv[1])
mlflow.set_tracking_uri(f"sqlite:///{data / 'mlflow.db'}")
model = mlflow.pyfunc.load_model("models:/resnet50-test@champion")
images = [(data / "01_raw" / "digits" / path).read_bytes() for path in sys.argv[2:]]
found = model.predict(pd.DataFrame({"image": images}))
one = model.predict(pd.DataFrame({"image": images[:1]}))
assert list(one["top_ids"][0]) == list(found["top_ids"][0])
print(json.dumps([[int(i) for i in row] for row in found["top_ids"]]))
"""
    result = subprocess.run(
        [sys.executable, "-c", program, str(data), *predictions["path"]],
        cwd=tmp_path,
        env={**environment(project), "PYTHONPATH": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout.splitlines()[-1]) == [list(row) for row in predictions["top5_ids"]]


def test_the_last_lines_name_the_results(project: Path):
    """The last lines show the report, the version of the model and the MLflow command."""
    printed = (project / "stdout.txt").read_text() + (project / "stderr.txt").read_text()
    assert "Traceback" not in printed
    end = "\n".join((project / "stdout.txt").read_text().splitlines()[-10:])
    for words in ("evaluation_report.html", "resnet50-test version 1", "make ui"):
        assert words in end


def unexpected_lines(printed: str, shapes: tuple[str, ...]) -> list[str]:
    """Return the lines that do not match any of the regular expressions."""
    return [line for line in printed.splitlines() if not any(re.fullmatch(shape, line) for shape in shapes)]


def test_the_chain_prints_lines_of_known_shapes_and_no_warning(project: Path):
    """With Python's default warnings, stderr contains only INFO lines and stdout contains only the summary."""
    info = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d INFO    .+"
    assert unexpected_lines((project / "stderr.txt").read_text(), (info,)) == []
    assert unexpected_lines((project / "stdout.txt").read_text(), ("", r"  [a-zA-Z]+ +\S.*")) == []
    (log,) = (project / "data" / "test" / "09_logs").iterdir()
    assert unexpected_lines(log.read_text(), (info,)) == []
    assert set((project / "stderr.txt").read_text().splitlines()) <= set(log.read_text().splitlines())


@pytest.mark.parametrize(
    "arguments",
    [
        ("preflight",),
        ("sync-runs",),
        ("champion",),
        ("predict", "data/test/01_raw/digits/val/n00000003"),
        ("run", "--quiet", "--pipelines", "data_preparation", "--params", "data_preparation.shards.mode=original"),
        # Uses the shards that the previous command wrote.
        ("verify-shards", "data/test/05_model_input/shards"),
    ],
    ids=lambda arguments: arguments[0],
)
def test_commands_print_results_without_warnings(project: Path, arguments: tuple[str, ...]):
    """Every documented command succeeds and prints at most the model's name to stderr."""
    done = call(project, *arguments)
    assert done.returncode == 0, done.stderr
    assert unexpected_lines(done.stderr, ("resnet50-test version 1",)) == []
    assert not re.search("Warning|Traceback|DEBUG", done.stdout)
    assert bool(done.stdout) == ("--quiet" not in arguments)


def call(project: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a command of the project in the copy."""
    return subprocess.run(
        ["kedro", *arguments, *(() if arguments[0] in WITHOUT_ENVIRONMENT else ("--env", "test"))],
        cwd=project,
        env=environment(project),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_champion_predicts_from_the_command_line(data: Path, project: Path):
    """For images, folders and invalid files, one call returns the evaluation's results, all errors and exit code 1."""
    predictions = pd.read_parquet(data / "07_model_output" / "predictions.parquet")
    folder = data / "01_raw" / "digits" / "val" / "n00000003"
    (project / "broken.jpg").write_text("no image")
    done = call(project, "predict", "--json", "--top-k", "2", str(folder), "broken.jpg", "nowhere.jpg")
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    expected = predictions[predictions["path"].str.startswith("val/n00000003/")].sort_values("path")
    assert [Path(row["path"]).name for row in rows[:-2]] == [Path(path).name for path in expected["path"]]
    assert [[one["id"] for one in row["predictions"]] for row in rows[:-2]] == [
        list(ids[:2]) for ids in expected["top5_ids"]
    ]
    assert [row["status"] for row in rows[-2:]] == [415, 404]
    assert (done.returncode, rows[0]["model"]) == (1, "models:/resnet50-test/1")
    assert "2 of 5 images" in done.stderr
    shown = call(project, "predict", str(folder))
    assert shown.returncode == 0, shown.stderr
    first = (folder / Path(expected["path"].iloc[0]).name).relative_to(project)
    assert shown.stdout.startswith(f"{first}: ")


def test_champion_is_listed_and_invalid_requests_are_errors(project: Path):
    """The journal contains the gate's decision. Promoting the champion again changes nothing.

    A rollback and an unknown version are errors.
    """
    listed = call(project, "champion")
    assert call(project, "promote", "1").returncode == 0
    assert call(project, "champion").stdout == listed.stdout
    assert "version 1    gate" in listed.stdout
    for arguments, name in (
        (("rollback",), "resnet50-test"),
        (("promote", "7"), "version 7"),
        (("predict", "x.jpg", "--model", "models:/resnet50-test/7"), "models:/resnet50-test/7"),
    ):
        done = call(project, *arguments)
        assert done.returncode == 1
        assert done.stderr.startswith("error: ")
        assert name in done.stderr
