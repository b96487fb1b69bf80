"""The model class for MLflow takes and returns DataFrames."""

from __future__ import annotations

import base64
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from resnet50_pipeline.exceptions import ExportError
from resnet50_pipeline.serving.images import IMAGE_ROOT
from resnet50_pipeline.serving.pyfunc import _load_pyfunc

pytestmark = pytest.mark.slow  # Paddle is imported

COLUMNS = ["top_ids", "top_names", "top_synsets", "top_probabilities", "status", "error"]


@pytest.fixture(scope="module")
def model(exported_model):
    """The model as loaded by MLflow."""
    return _load_pyfunc(str(exported_model.folder))


def test_bytes_and_base64_give_the_same_predictions(model, exported_model):
    """An image can be given as bytes or as base64 text."""
    as_bytes = model.predict(pd.DataFrame({"image": exported_model.images}))
    texts = [base64.b64encode(image).decode() for image in exported_model.images]
    pd.testing.assert_frame_equal(model.predict(pd.DataFrame({"image": texts})), as_bytes)
    assert list(as_bytes.columns) == COLUMNS
    assert len(as_bytes["top_ids"].iloc[0]) == 5


def test_rows_keep_their_index(model, exported_model):
    """The result has the same index as the input, so the two can be joined."""
    table = pd.DataFrame({"image": exported_model.images[:2]}, index=["a", "b"])
    assert list(model.predict(table).index) == ["a", "b"]


@pytest.mark.parametrize(
    ("value", "status", "named"),
    [
        (b"rubbish", 415, "image"),
        ("*not base64*", 400, "base64"),
        ("b\u00e4se64", 400, "base64"),
        (None, 400, "image"),
        (3.5, 400, "float"),
    ],
)
def test_malformed_row_does_not_affect_the_others(model, exported_model, value, status, named):
    """A bad row has a status and an error that identifies the problem; the other rows have predictions."""
    table = pd.DataFrame({"image": [exported_model.images[0], value, exported_model.images[1]]})
    result = model.predict(table)
    assert result["status"].tolist() == [200, status, 200]
    assert named in result["error"].iloc[1]
    assert result["top_ids"].iloc[1] == []
    assert list(result["error"].iloc[[0, 2]]) == ["", ""]
    assert [len(ids) for ids in result["top_ids"]] == [5, 0, 5]


def test_truncated_jpeg_is_rejected(model, exported_model):
    """A truncated JPEG causes an error in its row."""
    whole = exported_model.images[1]
    result = model.predict(pd.DataFrame({"image": [whole, whole[: len(whole) // 2]]}))
    assert result["status"].tolist() == [200, 415]
    assert result["error"].iloc[0] == ""
    assert result["error"].iloc[1] != ""


def test_paths_and_bytes_give_the_same_predictions(model, exported_model, tmp_path):
    """Paths are read from a `path` column or from single rows. Missing files and folders get status 404."""
    (tmp_path / "a.png").write_bytes(exported_model.images[0])
    by_path = model.predict(pd.DataFrame({"path": [str(tmp_path / "a.png"), str(tmp_path / "b.png"), str(tmp_path)]}))
    assert by_path["status"].tolist() == [200, 404, 404]
    mixed = pd.DataFrame([{"path": str(tmp_path / "a.png")}, {"image": exported_model.images[0]}])
    pd.testing.assert_series_equal(
        model.predict(mixed)["top_ids"], pd.Series([by_path["top_ids"][0]] * 2, name="top_ids")
    )


def test_server_reads_only_paths_below_the_image_root(model, exported_model, tmp_path, monkeypatch):
    """MLflow's server rejects all paths unless IMAGE_ROOT is set, and always rejects paths outside that folder."""
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "a.png").write_bytes(exported_model.images[0])
    (tmp_path / "secret.png").write_bytes(exported_model.images[0])
    monkeypatch.setenv("__pyfunc_model_path__", "/model")
    table = pd.DataFrame({"path": ["a.png", "../secret.png", str(tmp_path / "secret.png")]})
    assert model.predict(table)["status"].tolist() == [403, 403, 403]
    monkeypatch.setenv(IMAGE_ROOT, str(tmp_path / "images"))
    assert model.predict(table)["status"].tolist() == [200, 403, 403]


def test_top_k_limits_the_number_of_classes(model, exported_model):
    """`top_k` is a request parameter. Values above the number of classes return all classes; values below 1 fail."""
    table = pd.DataFrame({"image": exported_model.images[:1]})
    assert [len(model.predict(table, {"top_k": k})["top_ids"][0]) for k in (1, 3, 99)] == [1, 3, 7]
    with pytest.raises(ExportError, match="top_k is 0"):
        model.predict(table, {"top_k": 0})


def test_no_images_produce_no_rows(model):
    """For an empty list of images, the result is an empty DataFrame with the same columns."""
    for row in ({"image": []}, {"path": []}, {"image": [], "path": []}):
        result = model.predict(pd.DataFrame({name: [value] for name, value in row.items()}))
        assert list(result.columns) == COLUMNS
        assert len(result) == 0


@pytest.mark.parametrize("numbers", [[255, 216, 255], [0.5, 0.5], np.zeros(12, np.uint8)])
def test_list_of_numbers_is_one_bad_image(model, numbers):
    """An image given as a list of bytes or pixels is one row with an error, not one row per number."""
    assert model.predict(pd.DataFrame({"image": [numbers]}))["status"].tolist() == [400]


def test_large_images_are_rejected_before_decoding(model, monkeypatch):
    """An image of more than 64 MiB, as bytes or as base64 text, gets status 413."""
    monkeypatch.setattr("resnet50_pipeline.serving.images.MAX_BYTES", 1000)
    table = pd.DataFrame({"image": [bytes(1001), "A" * 1004, "A" * 1000]})
    assert model.predict(table)["status"].tolist() == [413, 413, 415]


def test_lists_in_one_row_become_one_row_per_image(model, exported_model):
    """MLflow turns JSON with one list per column into a single row of lists; the result has one row per image."""
    images = exported_model.images[:3]
    by_row = model.predict(pd.DataFrame({"image": images}))
    pd.testing.assert_frame_equal(model.predict(pd.DataFrame({"image": [images]})), by_row)
    with pytest.raises(ExportError, match="image and path"):
        model.predict(pd.DataFrame({"image": [images], "path": [["a.jpg"]]}))


def test_table_without_images_is_rejected(model):
    """If a table has neither column, the entire request fails, and the error lists the columns that the table has."""
    with pytest.raises(ExportError, match="picture"):
        model.predict(pd.DataFrame({"picture": [b"x"]}))


def test_empty_table_gives_an_empty_table(model):
    """For a DataFrame without rows, the result has all columns but no rows."""
    result = model.predict(pd.DataFrame({"image": []}))
    assert (len(result), list(result.columns)) == (0, COLUMNS)


def test_serving_does_not_import_training_code():
    """The serving package imports neither the trainer nor Kedro, MLflow or Great Expectations."""
    code = (
        "import sys, resnet50_pipeline.serving.pyfunc\n"
        "print([name for name in ('kedro', 'mlflow', 'great_expectations', 'ppcls', 'resnet50_pipeline.trainer',"
        " 'resnet50_pipeline.tracking') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
