"""What is refused before anything heavy is imported, and with which words."""

from __future__ import annotations

import time

import pytest
from kedro.pipeline import Node, Pipeline

from mlflow_stores import client_of, find_runs
from resnet50_pipeline import parameters
from resnet50_pipeline.exceptions import ParameterError
from resnet50_pipeline.hooks.preflight import PARAMETER_GROUPS, is_of_another_run, require_known_groups


def test_a_mistyped_group_gets_the_nearest_name():
    """Kedro passes over a group that no node reads, so a mistyped one would be a run with other parameters."""
    with pytest.raises(ParameterError, match="'trainin'; did you mean training"):
        require_known_groups(["dataset", "trainin"])


def test_every_group_has_its_model_and_every_model_its_group():
    """The known groups are those that parameters/ describes."""
    described = {
        model.__doc__.split("`")[1]
        for model in vars(parameters).values()
        if isinstance(model, type)
        and issubclass(model, parameters.ParameterModel)
        and model.__name__.endswith("Parameters")
    }
    assert set(PARAMETER_GROUPS) == {group for group in described if "." not in group}


def test_a_run_that_cannot_end_well_ends_in_seconds_without_a_run_in_mlflow(probe_project):
    """A device that is not there is found before the first node, and neither a run nor a claim is left of it."""
    started = time.monotonic()
    done = probe_project.run("run", "--params", "training.launch.device=gpu")
    assert done.returncode == 1
    assert done.stderr.startswith("error: this run cannot end well:\nPaddle: ")
    assert "needed: a build with CUDA" in done.stderr
    assert "Traceback" not in done.stderr
    assert time.monotonic() - started < 30
    assert find_runs(client_of(probe_project.path), "resnet50-digits") == []
    assert not (probe_project.path / "evaluated").exists()
    assert probe_project.run("run").returncode == 0


def test_a_damaged_database_is_refused_before_the_first_node(probe_project):
    """A database file does not come back by itself, as a server does: the run says so instead of losing its record."""
    (probe_project.path / "mlflow.db").write_bytes(b"not a database" * 100)
    done = probe_project.run("run")
    assert done.returncode == 1
    assert "mlflow.db: is not an SQLite database" in done.stderr
    assert "move mlflow.db aside" in done.stderr
    assert not (probe_project.path / "evaluated").exists()


def test_resuming_without_a_checkpoint_set_is_refused_before_the_first_node(probe_project):
    """Whoever resumes where nothing is learns it at once, and not after the data was validated."""
    done = probe_project.run("run", "--params", "training.resume=true")
    assert done.returncode == 1
    assert "start: no checkpoint set in" in done.stderr
    assert not (probe_project.path / "evaluated").exists()


def test_a_run_without_ranks_needs_no_paddle(probe_project):
    """What starts no ranks does not ask for their device."""
    done = probe_project.run("run", "--nodes", "validate", "--params", "training.launch.device=gpu")
    assert done.returncode == 0, done.stderr


def test_what_a_later_stage_takes_is_asked_for_by_the_runs_that_have_it_only():
    """A run of the training alone is not stopped by a file that the evaluation names."""
    evaluates = Pipeline([Node(len, ["params:training", "params:evaluation"], "predictions", name="predict")])
    trains = Pipeline([Node(len, "params:training", "training_dir", name="train")])
    groups = ("training", "evaluation", "model_registration")
    assert [is_of_another_run(group, evaluates) for group in groups] == [False, False, True]
    assert [is_of_another_run(group, trains) for group in groups] == [False, True, True]
