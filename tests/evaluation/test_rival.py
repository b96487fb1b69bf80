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
from resnet50_pipeline.tracking.runs import open_run


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
    found = compare_with_rival(predictions(0, 0, 0, 1), parameters(tmp_path / "rival.parquet"))
    assert found["rival"] == str(tmp_path / "rival.parquet")
    counts = [found["top1"][name] for name in ("only_this", "only_rival", "both", "neither")]
    assert counts == [2, 1, 1, 0]


def test_no_rival_is_not_an_error():
    """If `compare_with` is null, there is no comparison and no reason."""
    assert compare_with_rival(predictions(0), parameters(None)) == {"rival": None, "reason": ""}


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
        compare_with_rival(predictions(0), parameters(path))


@pytest.mark.slow
def test_an_alias_may_be_missing_but_a_version_may_not(tmp_path: Path):
    """A missing alias is a reason to skip the comparison, but a missing version number is an error."""
    run = open_run(DESCRIPTION, sqlite_store(tmp_path), tmp_path)
    run.connect()
    found = compare_with_rival(predictions(0), parameters("models:/m@champion"))
    assert found["rival"] is None
    assert "models:/m@champion" in found["reason"]
    with pytest.raises(TrackingError, match="models:/m/3"):
        compare_with_rival(predictions(0), parameters("models:/m/3"))
    run.end("FINISHED")
