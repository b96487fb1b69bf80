"""The model's face to MLflow: tables in, tables out."""

from __future__ import annotations

import base64
import subprocess
import sys

import pandas as pd
import pytest

from resnet50_pipeline.exceptions import ExportError
from resnet50_pipeline.serving.images import IMAGE_ROOT
from resnet50_pipeline.serving.pyfunc import _load_pyfunc

pytestmark = pytest.mark.slow  # Paddle is imported

COLUMNS = ["top_ids", "top_names", "top_synsets", "top_probabilities", "status", "error"]


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
    assert len(as_bytes["top_ids"].iloc[0]) == 5


def test_rows_keep_their_index(model, exported_model):
    """The result can be joined to the input, whatever its index is."""
    table = pd.DataFrame({"image": exported_model.images[:2]}, index=["a", "b"])
    assert list(model.predict(table).index) == ["a", "b"]


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (b"rubbish", "415: not an image"),
        ("*not base64*", "400: the text is not base64"),
        ("b\u00e4se64", "400: the text is not base64"),
        (None, "400: the row has no image"),
        (3.5, "400: an image is bytes or base64 text, not float"),
    ],
)
def test_a_malformed_row_has_a_message_and_the_others_their_predictions(model, exported_model, value, message):
    """One bad row does not cost the others."""
    table = pd.DataFrame({"image": [exported_model.images[0], value, exported_model.images[1]]})
    result = model.predict(table)
    assert f"{result['status'].iloc[1]}: {result['error'].iloc[1]}".startswith(message)
    assert result["top_ids"].iloc[1] == []
    assert list(result["error"].iloc[[0, 2]]) == ["", ""]
    assert [len(ids) for ids in result["top_ids"]] == [5, 0, 5]


def test_a_cut_off_photograph_is_refused(model, exported_model):
    """Half a JPEG, which OpenCV 4.6 would fill with grey and classify, is an error of its row."""
    whole = exported_model.images[1]
    result = model.predict(pd.DataFrame({"image": [whole, whole[: len(whole) // 2]]}))
    assert result["status"].tolist() == [200, 415]
    assert "was cut off" in result["error"].iloc[1]


def test_paths_give_what_the_bytes_give(model, exported_model, tmp_path):
    """A column of paths, or a row with a path where others have bytes, is read from this machine."""
    (tmp_path / "a.png").write_bytes(exported_model.images[0])
    by_path = model.predict(pd.DataFrame({"path": [str(tmp_path / "a.png"), str(tmp_path / "b.png"), str(tmp_path)]}))
    assert by_path["status"].tolist() == [200, 404, 404]
    mixed = pd.DataFrame([{"path": str(tmp_path / "a.png")}, {"image": exported_model.images[0]}])
    pd.testing.assert_series_equal(
        model.predict(mixed)["top_ids"], pd.Series([by_path["top_ids"][0]] * 2, name="top_ids")
    )


def test_a_server_reads_no_paths_unless_a_folder_is_named(model, exported_model, tmp_path, monkeypatch):
    """Who can reach a port is not told about the machine's files; a folder that is named is not left either."""
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "a.png").write_bytes(exported_model.images[0])
    (tmp_path / "secret.png").write_bytes(exported_model.images[0])
    monkeypatch.setenv("__pyfunc_model_path__", "/model")
    table = pd.DataFrame({"path": ["a.png", "../secret.png", str(tmp_path / "secret.png")]})
    assert model.predict(table)["status"].tolist() == [403, 403, 403]
    monkeypatch.setenv(IMAGE_ROOT, str(tmp_path / "images"))
    assert model.predict(table)["status"].tolist() == [200, 403, 403]


def test_as_many_classes_as_are_asked_for(model, exported_model):
    """`top_k` is a parameter of the request; all classes where it is more than there are, and one at least."""
    table = pd.DataFrame({"image": exported_model.images[:1]})
    assert [len(model.predict(table, {"top_k": k})["top_ids"][0]) for k in (1, 3, 99)] == [1, 3, 7]
    with pytest.raises(ExportError, match="must be 1 or more"):
        model.predict(table, {"top_k": 0})


def test_lists_in_one_row_are_a_row_an_image(model, exported_model):
    """As MLflow hands on JSON that is written column by column; the answer has a row for each."""
    images = exported_model.images[:3]
    by_row = model.predict(pd.DataFrame({"image": images}))
    pd.testing.assert_frame_equal(model.predict(pd.DataFrame({"image": [images]})), by_row)
    with pytest.raises(ExportError, match="image and path must be lists of the same length"):
        model.predict(pd.DataFrame({"image": [images], "path": [["a.jpg"]]}))


def test_a_table_without_images_is_refused(model):
    """A misnamed column is an error of the whole request, with the names that are known."""
    with pytest.raises(ExportError, match=r"image \(bytes or base64 text\) or path .*it has picture"):
        model.predict(pd.DataFrame({"picture": [b"x"]}))


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
