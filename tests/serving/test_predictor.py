"""The exported model classifies encoded images as the network that it was made of does."""

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
    """The exported model, loaded."""
    return Predictor(exported_model.folder)


def test_predictions_are_those_of_the_network(predictor, exported_model):
    """Ids, names, synsets and probabilities are the eager network's five best, the best one first."""
    for prediction, expected in zip(
        predictor.predict(exported_model.images), exported_model.probabilities, strict=True
    ):
        best = np.argsort(-expected)[:5]
        assert prediction.ids == tuple(best)
        assert prediction.names == tuple(f"name {number}" for number in best)
        assert prediction.synsets == tuple(f"n0000000{number}" for number in best)
        assert np.allclose(prediction.probabilities, expected[best], atol=1e-5)
        assert prediction.error == ""


@pytest.mark.parametrize("count", [0, 1, 2, 9])
def test_any_number_of_images_gives_as_many_predictions(predictor, exported_model, count):
    """A batch of one is a batch, an empty one is none, and an image's answer does not depend on its neighbours."""
    everything = predictor.predict(exported_model.images)
    some = predictor.predict(exported_model.images[:count])
    assert [prediction.ids for prediction in some] == [prediction.ids for prediction in everything[:count]]


def test_large_batches_are_cut(predictor, exported_model, monkeypatch):
    """More images than fit into one batch are predicted in several, in their order."""
    whole = predictor.predict(exported_model.images)
    monkeypatch.setattr(module, "MAX_BATCH", 4)
    assert [p.ids for p in predictor.predict(exported_model.images)] == [p.ids for p in whole]


@pytest.mark.parametrize("broken", [b"", b"<html>not an image</html>", b"\xff\xd8\xff\xe0 no more than a beginning"])
def test_a_broken_image_has_an_error_of_its_own(predictor, exported_model, broken):
    """Bytes that are no image give an error in their place, and the images around them their predictions."""
    first, wrong, last = predictor.predict([exported_model.images[0], broken, exported_model.images[1]])
    assert (wrong.ids, wrong.probabilities) == ((), ())
    assert "not an image" in wrong.error
    assert [first.ids, last.ids] == [p.ids for p in predictor.predict(exported_model.images[:2])]


@pytest.mark.parametrize("missing", ["inference.yml", "label_map.json", "inference.pdiparams"])
def test_a_missing_file_is_named(exported_model, tmp_path, missing):
    """A folder without one of the model's files is an error that says which."""
    folder = tmp_path / "model"
    shutil.copytree(exported_model.folder, folder)
    (folder / missing).unlink()
    with pytest.raises(ExportError, match=f"{missing} is missing"):
        Predictor(folder)


def test_threads_get_their_own_answers(predictor, exported_model):
    """Requests at the same time, as MLflow's server makes them, do not get each other's predictions."""
    images = exported_model.images[:4]
    alone = [predictor.predict([image])[0].probabilities for image in images]

    def ask(number: int) -> bool:
        return predictor.predict([images[number % len(images)]])[0].probabilities == alone[number % len(images)]

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(ask, range(80)))


def test_loading_warns_of_nothing():
    """Whoever loads the registered model is not told of a compiler's cache that nothing here needs."""
    command = [sys.executable, "-W", "default::UserWarning", "-c", "import resnet50_pipeline.serving.predictor"]
    assert "ccache" not in subprocess.run(command, check=True, capture_output=True, text=True).stderr
