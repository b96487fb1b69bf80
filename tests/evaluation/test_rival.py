"""Whose predictions an evaluation is compared with, and what is said where there are none."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mlflow_stores import DESCRIPTION, sqlite_store
from resnet50_pipeline.exceptions import EvaluationTableError, TrackingError
from resnet50_pipeline.parameters import EvaluationParameters
from resnet50_pipeline.pipelines.evaluation.subject import compare_with_rival
from resnet50_pipeline.tracking.runs import open_run


def predictions(*predicted: int) -> pd.DataFrame:
    """Return a table of images of class 0 that were taken for these classes of three."""
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


def test_a_table_on_the_disk_is_a_rival(tmp_path: Path):
    """Pairs of answers are counted under the file's name."""
    predictions(0, 1, 1, 0).to_parquet(tmp_path / "rival.parquet")
    found = compare_with_rival(predictions(0, 0, 0, 1), parameters(tmp_path / "rival.parquet"))
    assert found["rival"] == str(tmp_path / "rival.parquet")
    counts = [found["top1"][name] for name in ("only_this", "only_rival", "both", "neither")]
    assert counts == [2, 1, 1, 0]


def test_nobody_is_no_rival():
    """Null asks for no comparison, and that is no error."""
    assert compare_with_rival(predictions(0), parameters(None)) == {"rival": None, "reason": ""}


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "there is no "), (b"text", "is no table"), (predictions(0, 0), "images")],
)
def test_a_file_that_is_none_is_refused_by_its_name(tmp_path: Path, content, message: str):
    """Missing, of another format, or of other images: one message, and no traceback of the reader's."""
    path = tmp_path / "rival.parquet"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        content.to_parquet(path)
    with pytest.raises(EvaluationTableError, match=message):
        compare_with_rival(predictions(0), parameters(path))


@pytest.mark.slow
def test_a_champion_may_be_missing_and_a_version_may_not(tmp_path: Path):
    """The first version has nobody to be compared with; who names a version means that one."""
    run = open_run(DESCRIPTION, sqlite_store(tmp_path), tmp_path)
    run.connect()
    found = compare_with_rival(predictions(0), parameters("models:/m@champion"))
    assert found["rival"] is None
    assert "there is no models:/m@champion" in found["reason"]
    with pytest.raises(TrackingError, match="there is no models:/m/3"):
        compare_with_rival(predictions(0), parameters("models:/m/3"))
    run.end("FINISHED")
