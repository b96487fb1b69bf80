"""The checks before the first node, in real runs of a small project."""

from __future__ import annotations

import pytest
from kedro.io import DataCatalog, MemoryDataset
from kedro.pipeline import Node, Pipeline

from mlflow_stores import client_of, find_runs
from resnet50_pipeline import parameters
from resnet50_pipeline.datasets import DirectoryDataset, JSONDataset, ParquetDataset, TextFileDataset
from resnet50_pipeline.events import EventWriter, Finished
from resnet50_pipeline.exceptions import DatasetError, DatasetNotFoundError, ParameterError
from resnet50_pipeline.frozen_model import FiniteModel
from resnet50_pipeline.hooks.preflight import belongs_to_absent_stage, require_inputs, require_one_training
from resnet50_pipeline.preflight.parameter_groups import PARAMETER_GROUPS, require_known_groups
from resnet50_pipeline.training_dir import events_path


def test_a_mistyped_group_is_an_error_with_a_suggestion():
    """Kedro ignores unknown groups, so a mistyped one would silently leave the defaults in effect."""
    with pytest.raises(ParameterError, match=r"'trainin'.* training\b"):
        require_known_groups(["dataset", "trainin"])


def test_the_known_groups_are_those_with_a_model():
    """Every group has a model in parameters/, and every model has a group."""
    described = {
        model.__doc__.split("`")[1]
        for model in vars(parameters).values()
        if isinstance(model, type) and issubclass(model, FiniteModel) and model.__name__.endswith("Parameters")
    }
    assert set(PARAMETER_GROUPS) == {group for group in described if "." not in group}


def test_a_run_that_would_fail_is_rejected_before_its_mlflow_run(probe_project):
    """A missing device stops the run before the first node and leaves neither an MLflow run nor a lock behind."""
    done = probe_project.run("run", "--params", "training.launch.device=gpu")
    assert done.returncode == 1
    assert done.stderr.startswith("error: ")
    assert "Paddle" in done.stderr
    assert "CUDA" in done.stderr
    assert "Traceback" not in done.stderr
    assert find_runs(client_of(probe_project.path), "resnet50-digits") == []
    assert not (probe_project.path / "evaluated").exists()
    assert probe_project.run("run").returncode == 0


def test_a_damaged_database_stops_the_run_before_the_first_node(probe_project):
    """Unlike a server, a damaged database file never recovers, so the run fails early instead of losing its results."""
    (probe_project.path / "mlflow.db").write_bytes(b"not a database" * 100)
    done = probe_project.run("run")
    assert done.returncode == 1
    assert done.stderr.startswith("error: ")
    assert "mlflow.db" in done.stderr
    assert not (probe_project.path / "evaluated").exists()


def test_resuming_without_a_checkpoint_stops_the_run_before_the_first_node(probe_project):
    """An error in the preflight checks is raised immediately, before the data is validated."""
    done = probe_project.run("run", "--params", "training.resume=true")
    assert done.returncode == 1
    assert done.stderr.startswith("error: ")
    assert "06_models/training" in done.stderr
    assert not (probe_project.path / "evaluated").exists()


def test_a_run_without_ranks_needs_no_paddle(probe_project):
    """A run that does not start ranks does not check their device."""
    done = probe_project.run("run", "--nodes", "validate", "--params", "training.launch.device=gpu")
    assert done.returncode == 0, done.stderr


def test_the_locks_are_next_to_the_folders_of_a_run(probe_project):
    """With `data_dir`, the data and the workspace are locked, and no lock is written next to their common parent."""
    done = probe_project.run("run", "--params", "data_dir=data/v2")
    assert done.returncode == 0, done.stderr
    locks = {path.relative_to(probe_project.path).as_posix() for path in probe_project.path.rglob(".*.lock")}
    assert locks == {"data/.sample.lock", "data/.v2.lock"}


def test_only_runs_with_a_later_stage_check_its_parameters():
    """A run with only the training stage ignores the files of the evaluation stage."""
    evaluates = Pipeline([Node(len, ["params:training", "params:evaluation"], "predictions", name="predict")])
    trains = Pipeline([Node(len, "params:training", "training_dir", name="train")])
    groups = ("training", "evaluation", "model_registration")
    assert [belongs_to_absent_stage(group, evaluates) for group in groups] == [False, False, True]
    assert [belongs_to_absent_stage(group, trains) for group in groups] == [False, True, True]


def test_missing_results_of_earlier_runs_are_reported_together(tmp_path):
    """The missing inputs of all nodes are listed, except optional ones and those written by the run itself."""
    catalog = DataCatalog(
        {
            "list": TextFileDataset(str(tmp_path / "list.txt")),
            "history": ParquetDataset(str(tmp_path / "history.parquet"), may_be_missing=True),
            "label_map": JSONDataset(str(tmp_path / "label_map.json")),
            "manifest": ParquetDataset(str(tmp_path / "manifest.parquet")),
            "listed": ParquetDataset(str(tmp_path / "manifest.parquet"), columns=["path"]),
            "params:training": MemoryDataset({}),
        }
    )
    pipeline = Pipeline(
        [
            Node(len, ["list", "params:training"], "manifest", name="first"),
            Node(len, ["history", "listed", "label_map", "manifest"], "result", name="last"),
        ]
    )
    with pytest.raises(DatasetNotFoundError, match=r"label_map\.json.*list\.txt"):
        require_inputs(pipeline, catalog)
    for name in ("list.txt", "label_map.json"):
        (tmp_path / name).touch()
    require_inputs(pipeline, catalog)


def test_summary_of_a_replaced_training_run_is_rejected(tmp_path):
    """If a run is killed before it writes its summary, the old summary describes another network."""
    folder, summary = tmp_path / "training", tmp_path / "training_summary.json"
    catalog = DataCatalog(
        {"training_dir": DirectoryDataset(str(folder)), "training_summary": JSONDataset(str(summary))},
    )
    reads = Pipeline([Node(len, ["training_dir", "training_summary"], "report", name="report")])
    writes = Pipeline([Node(len, "training_dir", "training_summary", name="summarize_training")])
    evaluation = parameters.EvaluationParameters(batch_size_per_rank=8)
    groups = {"evaluation": evaluation}
    require_one_training(reads, catalog, groups)  # there is no training run yet
    folder.mkdir()
    summary.write_text('{"steps": 6, "seconds": 3.142}')
    finished = {"epochs": 1, "step": 6, "best_epoch": 1, "best_top1": 0.5, "images_per_second": 9.0}
    events = EventWriter(events_path(folder))
    events.write(Finished(**finished, seconds=3.14159))
    require_one_training(reads, catalog, groups)
    events.write(Finished(**finished, seconds=2.71828))
    events.close()
    with pytest.raises(DatasetError, match="--nodes summarize_training"):
        require_one_training(reads, catalog, groups)
    other = evaluation.model_copy(update={"model": "models:/resnet50/1"})
    require_one_training(reads, catalog, {"evaluation": other})
    require_one_training(writes, catalog, {})
