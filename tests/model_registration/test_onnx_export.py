"""The export stage with `model_registration.onnx`: the file, its agreement, and what is said without the packages."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
import yaml

from resnet50_pipeline.exceptions import ExportError
from resnet50_pipeline.imaging.operators import build_transform
from resnet50_pipeline.paddleclas.export import export_inference_model
from resnet50_pipeline.parameters import DatasetParameters, ModelRegistrationParameters, TrainingParameters
from short_training import predict_best, train
from striped_dataset import CLASSES

pytestmark = pytest.mark.slow

ABSENT = [name for name in ("paddle2onnx", "onnxruntime") if importlib.util.find_spec(name) is None]
LABEL_MAP = {
    "class_num": CLASSES,
    "classes": [{"id": i, "synset": f"n0000000{i}", "name": f"stripes {i}"} for i in range(CLASSES)],
}
ONNX = ModelRegistrationParameters(model_name="m", export_check_images=5, export_tolerance=1e-4, onnx=True)


@pytest.fixture(scope="module")
def trained(tmp_path_factory, striped_dataset: Path, make_training_parameters) -> TrainingParameters:
    """A finished training of one rank and one epoch."""
    training = make_training_parameters(tmp_path_factory.mktemp("onnx") / "training", epochs=1)
    train(training, DatasetParameters(root=striped_dataset, class_num=CLASSES))
    return training


@pytest.mark.skipif(bool(ABSENT), reason=f"the extra onnx is not installed: no {', '.join(ABSENT)}")
def test_the_onnx_model_gives_the_evaluations_answers(trained: TrainingParameters, striped_dataset: Path):
    """In ONNX Runtime alone, one image or many at once: the evaluation's probabilities for every val image."""
    import onnxruntime

    staged = export_inference_model(trained.output_dir, LABEL_MAP, ONNX, trained)
    check = json.loads((staged / "export_check.json").read_text())
    assert check["passed"]
    assert check["max_onnx_probability_difference"] <= 1e-4
    expected = predict_best(trained.output_dir, striped_dataset / "val_list.txt", trained.launch, 5)

    config = yaml.safe_load((staged / "inference.yml").read_text())
    transform = build_transform(config["PreProcess"]["transform_ops"])
    images = np.stack([transform((striped_dataset / path).read_bytes(), None) for path in expected["path"]])
    session = onnxruntime.InferenceSession(str(staged / "inference.onnx"), providers=["CPUExecutionProvider"])
    (asked,) = session.get_inputs()
    (many,) = session.run(None, {asked.name: images})
    (one,) = session.run(None, {asked.name: images[:1]})
    np.testing.assert_allclose(one, many[:1], atol=1e-5)
    found = np.take_along_axis(many, np.stack(expected["top5_ids"].tolist()), axis=1)
    np.testing.assert_allclose(found, np.stack(expected["top5_probabilities"].tolist()), atol=1e-4)


@pytest.mark.skipif(not ABSENT, reason="the extra onnx is installed")
def test_without_the_packages_the_export_says_how_to_install_them(trained: TrainingParameters):
    """The missing one is named with the command, nothing half written stays, and no log is named that is gone."""
    with pytest.raises(ExportError, match=r"needs paddle2onnx .*pip install -e '\.\[onnx\]'$"):
        export_inference_model(trained.output_dir, LABEL_MAP, ONNX, trained)
    assert not list(trained.output_dir.parent.glob(".staged-*"))
