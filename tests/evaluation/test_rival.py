"""An evaluation is compared with a file or a registered version, or states why there is no comparison."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mlflow_stores import DESCRIPTION, sqlite_store
from resnet50_pipeline.exceptions import EvaluationTableError, TrackingError
from resnet50_pipeline.parameters import EvaluationParameters
from resnet50_pipeline.pipelines.evaluation.models import compare_with_rival
from resnet50_pipeline.reporting.page_data import pack
from resnet50_pipeline.tracking.runs import TrackedRun, open_run

LABEL_MAP = {
    "class_num": 3,
    "classes": [{"id": label, "synset": name, "name": name} for label, name in enumerate(("rose", "tulip", "violet"))],
}


def predictions(*predicted: int) -> pd.DataFrame:
    """Return predictions for images of class 0, with the given predicted classes out of three."""
    order = [[first, *(one for one in range(3) if one != first)] for first in predicted]
    return pd.DataFrame(
        {
            "path": [f"val/{row}.JPEG" for row in range(len(predicted))],
            "label": np.zeros(len(predicted), dtype=np.int64),
            "top5_ids": order,
            "top5_probabilities": [[0.5, 0.3, 0.2]] * len(predicted),
            "loss": np.ones(len(predicted)),
        }
    )


def parameters(rival: object) -> EvaluationParameters:
    return EvaluationParameters(batch_size_per_rank=1, compare_with=None if rival is None else str(rival))


def test_the_rival_may_be_a_file(tmp_path: Path):
    """A comparison with a file uses the path as the rival's name."""
    predictions(0, 1, 1, 0).to_parquet(tmp_path / "rival.parquet")
    found = compare_with_rival(predictions(0, 0, 0, 1), LABEL_MAP, parameters(tmp_path / "rival.parquet"))
    assert found["rival"] == str(tmp_path / "rival.parquet")
    counts = [found["top1"][name] for name in ("only_this", "only_rival", "both", "neither")]
    assert counts == [2, 1, 1, 0]


def test_no_rival_is_not_an_error():
    """If `compare_with` is null, there is no comparison and no reason."""
    assert compare_with_rival(predictions(0), LABEL_MAP, parameters(None)) == {"rival": None, "reason": ""}


def test_a_registered_version_has_no_predictions_for_other_folders(tmp_path: Path):
    """Images with other content may have the paths of dataset images, so there is no comparison, only a reason."""
    named = {"image_list": tmp_path / "v2.txt", "image_root": tmp_path / "v2", "output_dir": tmp_path}
    evaluation = parameters("models:/m@champion").model_copy(update=named)
    found = compare_with_rival(predictions(0), LABEL_MAP, evaluation)
    assert found["rival"] is None
    assert found["reason"].endswith(f"this model on images in {tmp_path / 'v2'}")


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, r"rival\.parquet"), (b"text", r"rival\.parquet"), (predictions(0, 0), r"1 and 2, 1 ")],
)
def test_an_invalid_rival_file_is_rejected(tmp_path: Path, content, message: str):
    """A missing file, a wrong format or different images cause an error."""
    path = tmp_path / "rival.parquet"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        content.to_parquet(path)
    with pytest.raises(EvaluationTableError, match=message):
        compare_with_rival(predictions(0), LABEL_MAP, parameters(path))


@pytest.mark.slow
def test_an_alias_may_be_missing_but_a_version_may_not(tmp_path: Path):
    """If no version has the alias yet, there is no comparison and no reason. A missing version number is an error."""
    run = open_run(DESCRIPTION, sqlite_store(tmp_path), tmp_path)
    run.connect()
    found = compare_with_rival(predictions(0), LABEL_MAP, parameters("models:/m@champion"))
    assert found == {"rival": None, "reason": ""}
    with pytest.raises(TrackingError, match="models:/m/3"):
        compare_with_rival(predictions(0), LABEL_MAP, parameters("models:/m/3"))
    run.end("FINISHED")


PARAMETERS = {"training": {"epochs": 2, "lr": {"learning_rate": 0.1}}}
CURVES = {"panels": [{"title": "Loss", "column": "loss", "series": []}], "restarts": {"step": [], "epoch": []}}


def register_rival(folder: Path, report: str | None) -> TrackedRun:
    """Register a champion with predictions for two images, and return its run, which is still open."""
    run = open_run(DESCRIPTION, sqlite_store(folder), folder)
    run.connect()
    client = run.store.connect()
    (found,) = client.search_runs([run.store.find_experiment(client)])
    predictions(0, 1).to_parquet(folder / "predictions.parquet")
    client.log_artifact(found.info.run_id, str(folder / "predictions.parquet"), "evaluation")
    if report is not None:
        (folder / "evaluation_report.html").write_text(report)
        client.log_artifact(found.info.run_id, str(folder / "evaluation_report.html"), "evaluation")
    client.create_registered_model("m")
    client.create_model_version("m", f"{found.info.artifact_uri}/evaluation", found.info.run_id)
    client.set_registered_model_alias("m", "champion", "1")
    return run


@pytest.mark.slow
@pytest.mark.parametrize(
    ("report", "expected"),
    [
        (f'<p id="report-data">{pack({"run": {"parameters": PARAMETERS}, "curves": CURVES})}</p>', True),
        ("<p>a report of an older version</p>", False),
        (None, False),
    ],
)
def test_a_registered_rival_brings_its_parameters_and_curves(tmp_path: Path, report, expected):
    """Parameters and curves come from the report in the version's run. A missing or older report is not an error."""
    run = register_rival(tmp_path, report)
    compared = compare_with_rival(predictions(0, 0), LABEL_MAP, parameters("models:/m@champion"))
    run.end("FINISHED")
    assert (compared["rival"], compared["top1"]["only_this"]) == ("m version 1", 1)
    assert compared["training"] == ({"parameters": PARAMETERS, "curves": CURVES} if expected else None)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("names", "reason"),
    [
        (["rose", "violet"], "the label of violet is 2 here, but 1 there"),
        (["rose", "tulip"], None),
        (["", "tulip", "", "lily"], None),
    ],
)
def test_a_rival_with_other_labels_is_not_compared(tmp_path: Path, names: list[str], reason: str | None):
    """If a new class changed the labels, the predictions of the champion mean other classes."""
    data = {"run": {"parameters": PARAMETERS}, "classes": {"synset": names, "name": [f"class {one}" for one in names]}}
    run = register_rival(tmp_path, f'<p id="report-data">{pack(data)}</p>')
    compared = compare_with_rival(predictions(0, 0), LABEL_MAP, parameters("models:/m@champion"))
    run.end("FINISHED")
    assert (compared["rival"] is None) is (reason is not None)
    assert reason is None or reason in compared["reason"]
