"""The exported model classifies encoded images as the original network does."""

from __future__ import annotations

import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from resnet50_pipeline.exceptions import ExportError
from resnet50_pipeline.serving import predictor as module
from resnet50_pipeline.serving.predictor import Predictor

pytestmark = pytest.mark.slow  # Paddle is imported


@pytest.fixture(scope="module")
def predictor(exported_model) -> Predictor:
    """The loaded exported model."""
    return Predictor(exported_model.folder)


def test_predictions_match_the_network(predictor, exported_model):
    """The predicted ids, names, synsets and probabilities match the eager network's top five classes, in order."""
    for prediction, expected in zip(
        predictor.predict(exported_model.images), exported_model.probabilities, strict=True
    ):
        best = np.argsort(-expected)[:5]
        assert prediction.ids == tuple(best)
        assert prediction.names == tuple(f"name {number}" for number in best)
        assert prediction.synsets == tuple(f"n0000000{number}" for number in best)
        assert np.allclose(prediction.probabilities, expected[best], atol=1e-5)
        assert (prediction.error, prediction.features) == ("", ())


def test_features_are_the_inputs_of_the_classifier(exported_model, monkeypatch):
    """Each image gets its pooled features, in every batch, and an image that cannot be decoded has none."""
    monkeypatch.setattr(module, "MAX_BATCH", 4)
    images = [*exported_model.images[:2], b"no image", *exported_model.images[2:]]
    predictions = Predictor(exported_model.folder, with_features=True).predict(images)
    assert predictions.pop(2).features == ()
    np.testing.assert_allclose([one.features for one in predictions], exported_model.features, atol=1e-4)
    assert exported_model.features.std(axis=0).max() > 0.01


@pytest.mark.parametrize("count", [0, 1, 2, 9])
def test_each_image_gets_one_prediction(predictor, exported_model, count):
    """Any number of images is valid, including zero and one, and a prediction does not depend on the other images."""
    everything = predictor.predict(exported_model.images)
    some = predictor.predict(exported_model.images[:count])
    assert [prediction.ids for prediction in some] == [prediction.ids for prediction in everything[:count]]


def test_large_batches_are_split(predictor, exported_model, monkeypatch):
    """More than MAX_BATCH images are predicted in several batches, in order."""
    whole = predictor.predict(exported_model.images)
    monkeypatch.setattr(module, "MAX_BATCH", 4)
    assert [p.ids for p in predictor.predict(exported_model.images)] == [p.ids for p in whole]


@pytest.mark.parametrize("broken", [b"", b"<html>not an image</html>", b"\xff\xd8\xff\xe0 no more than a beginning"])
def test_broken_image_gets_an_error(predictor, exported_model, broken):
    """Bytes that are not an image produce an error at their position; the other images receive predictions."""
    first, wrong, last = predictor.predict([exported_model.images[0], broken, exported_model.images[1]])
    assert (wrong.ids, wrong.probabilities) == ((), ())
    assert wrong.error
    assert wrong.status == 415
    assert [first.ids, last.ids] == [p.ids for p in predictor.predict(exported_model.images[:2])]


@pytest.mark.parametrize("missing", ["inference.yml", "label_map.json", "inference.pdiparams"])
def test_missing_file_is_an_error(exported_model, tmp_path, missing):
    """A folder that lacks one of the model's files raises an error that identifies the file."""
    folder = tmp_path / "model"
    shutil.copytree(exported_model.folder, folder)
    (folder / missing).unlink()
    with pytest.raises(ExportError, match=missing):
        Predictor(folder)


def test_concurrent_requests_get_their_own_predictions(predictor, exported_model):
    """Concurrent calls, as in MLflow's server, do not return each other's predictions."""
    images = exported_model.images[:4]
    alone = [predictor.predict([image])[0].probabilities for image in images]

    def ask(number: int) -> bool:
        return predictor.predict([images[number % len(images)]])[0].probabilities == alone[number % len(images)]

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(ask, range(80)))


def test_loading_emits_no_warning():
    """Loading the model does not print Paddle's warning that ccache is missing."""
    command = [sys.executable, "-W", "default::UserWarning", "-c", "import resnet50_pipeline.serving.predictor"]
    assert "ccache" not in subprocess.run(command, check=True, capture_output=True, text=True).stderr
