"""The description of a sweep's MLflow run shows the best trials with links."""

from __future__ import annotations

import pytest

from mlflow_stores import DESCRIPTION, client_of, sqlite_store
from resnet50_pipeline.child_runs.run_file import training_dir_of
from resnet50_pipeline.events import EventWriter, TrainStep
from resnet50_pipeline.parameters import SweepParameters
from resnet50_pipeline.sweeps.parent_run import describe_sweep
from resnet50_pipeline.sweeps.study import Study
from resnet50_pipeline.tracking.delivery.curve_cursor import find_cursor, write_cursor
from resnet50_pipeline.tracking.runs import open_run

pytestmark = pytest.mark.slow  # imports Optuna and MLflow
RATE = "training.lr.learning_rate"


def test_the_description_lists_the_best_trials(tmp_path):
    """The best five of seven complete trials are listed, best first. Trials with curves in MLflow are links."""
    study = Study(
        SweepParameters.model_validate(
            {"study": "digits", "output_dir": tmp_path, "trials": 7, "space": {RATE: {"low": 0.1, "high": 0.9}}}
        )
    )
    parent = open_run(DESCRIPTION, sqlite_store(tmp_path), tmp_path)
    parent.connect()
    describe_sweep(parent, study, {})
    for number in range(7):
        with study.next_trial() as trial:
            study.optuna_study.tell(trial, 0.5 + number / 100)
    folder = training_dir_of(study.trial_folder(6))
    folder.mkdir(parents=True)
    writer = EventWriter(folder / "events.jsonl")
    writer.write(
        TrainStep(
            step=1, epoch=1, loss=1, top1=0.5, learning_rate=0.1, images_per_second=9, reader_seconds=0, batch_seconds=1
        )
    )
    writer.close()
    cursor = find_cursor("session-2", folder, "0123abc")
    write_cursor(folder, cursor)
    describe_sweep(parent, study, {"index.html": "sweep/index.html"})
    parent.end("FINISHED")

    note = client_of(tmp_path).get_run(parent.run_id).data.tags["mlflow.note.content"]
    first, _, head, _, *rows, _, links = note.splitlines()
    assert first == "val/top1 0.5600 in trial 6 (7 of 7 trials: 7 complete)"
    assert head == f"| best trials | val/top1 | `{RATE}` |"
    assert rows[0].startswith("| [trial 6](#/experiments/1/runs/0123abc?workflowType=machine_learning) | 0.5600 | 0.")
    assert [row.split(" |")[0] for row in rows[1:]] == ["| trial 5", "| trial 4", "| trial 3", "| trial 2"]
    assert links.startswith(f"[index.html](#/experiments/1/runs/{parent.run_id}/artifacts/sweep/index.html?")
