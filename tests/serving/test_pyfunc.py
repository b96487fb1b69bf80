"""The model's face to MLflow: tables in, tables out."""

from __future__ import annotations

import base64
import subprocess
import sys

import pandas as pd
import pytest

from resnet50_pipeline.serving.pyfunc import _load_pyfunc

pytestmark = pytest.mark.slow  # Paddle is imported

COLUMNS = ["top5_ids", "top5_names", "top5_synsets", "top5_probabilities", "error"]


@pytest.fixture(scope="module")
def model(exported_model):
    """The model as MLflow loads it."""
    return _load_pyfunc(str(exported_model.folder))


def test_bytes_and_base64_give_the_same(model, exported_model):
    """An image may come as bytes, or as base64 as JSON carries it."""
    as_bytes = model.predict(pd.DataFrame({"image": exported_model.images}))
    texts = [base64.b64encode(image).decode() for image in exported_model.images]
    pd.testing.assert_frame_equal(model.predict(pd.DataFrame({"image": texts})), as_bytes)
    assert list(as_bytes.columns) == COLUMNS
    assert len(as_bytes["top5_ids"].iloc[0]) == 5


def test_rows_keep_their_index(model, exported_model):
    """The result can be joined to the input, whatever its index is."""
    table = pd.DataFrame({"image": exported_model.images[:2]}, index=["a", "b"])
    assert list(model.predict(table).index) == ["a", "b"]


@pytest.mark.parametrize(
    ("value", "message"),
    [(b"rubbish", "not an image"), ("*not base64*", "not base64"), (None, "not NoneType"), (3.5, "not float")],
)
def test_a_malformed_row_has_a_message_and_the_others_their_predictions(model, exported_model, value, message):
    """One bad row does not cost the others."""
    table = pd.DataFrame({"image": [exported_model.images[0], value, exported_model.images[1]]})
    result = model.predict(table)
    assert message in result["error"].iloc[1]
    assert result["top5_ids"].iloc[1] == []
    assert list(result["error"].iloc[[0, 2]]) == ["", ""]
    assert [len(ids) for ids in result["top5_ids"]] == [5, 0, 5]


def test_an_empty_table_gives_an_empty_table(model):
    """No rows in, no rows out, and the columns are there."""
    result = model.predict(pd.DataFrame({"image": []}))
    assert (len(result), list(result.columns)) == (0, COLUMNS)


def test_serving_loads_nothing_of_training():
    """What answers requests imports neither the trainer nor the control plane."""
    code = (
        "import sys, resnet50_pipeline.serving.pyfunc\n"
        "print([name for name in ('kedro', 'mlflow', 'great_expectations', 'ppcls', 'resnet50_pipeline.trainer',"
        " 'resnet50_pipeline.tracking') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
