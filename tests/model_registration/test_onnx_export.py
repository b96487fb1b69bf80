"""With `model_registration.onnx`, the export writes a model with the same outputs or lists the missing packages."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
import yaml

from placed import PlacedDataset
from resnet50_pipeline.exceptions import ExportError
from resnet50_pipeline.imaging.operators import build_transform
from resnet50_pipeline.paddleclas.export import export_inference_model
from resnet50_pipeline.parameters import ModelRegistrationParameters, TrainingParameters
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
    """A finished training run with one rank and one epoch."""
    training = make_training_parameters(tmp_path_factory.mktemp("onnx") / "training", epochs=1)
    train(training, PlacedDataset(root=striped_dataset, class_num=CLASSES))
    return training


@pytest.mark.skipif(bool(ABSENT), reason=f"the extra onnx is not installed: no {', '.join(ABSENT)}")
def test_the_onnx_model_has_the_probabilities_of_the_evaluation(trained: TrainingParameters, striped_dataset: Path):
    """For one image and for a batch, ONNX Runtime returns the same probabilities as the evaluation."""
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
    (model_input,) = session.get_inputs()
    (many,) = session.run(None, {model_input.name: images})
    (one,) = session.run(None, {model_input.name: images[:1]})
    np.testing.assert_allclose(one, many[:1], atol=1e-5)
    found = np.take_along_axis(many, np.stack(expected["top5_ids"].tolist()), axis=1)
    np.testing.assert_allclose(found, np.stack(expected["top5_probabilities"].tolist()), atol=1e-4)


@pytest.mark.skipif(not ABSENT, reason="the extra onnx is installed")
def test_without_the_packages_the_export_is_an_error(trained: TrainingParameters):
    """The error includes the missing package and the command to install it, and no partial export remains."""
    with pytest.raises(ExportError, match=r"paddle2onnx.*pip install -e '\.\[onnx\]'"):
        export_inference_model(trained.output_dir, LABEL_MAP, ONNX, trained)
    assert not list(trained.output_dir.parent.glob(".staged-*"))
