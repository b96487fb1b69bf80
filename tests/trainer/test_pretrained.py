"""Pretrained weights are loaded from local files only. A different head is left out, and a damaged file is an error."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import numpy as np
import paddle
import pytest
from safetensors.numpy import save_file

from resnet50_pipeline.checkpoint_set import PARAMETER_NAMES
from resnet50_pipeline.exceptions import CheckpointError, ExportError
from resnet50_pipeline.recipe.run import ArchConfig
from resnet50_pipeline.trainer.checkpoints.pretrained import load_pretrained
from resnet50_pipeline.trainer.export import MODEL, match_parameters
from resnet50_pipeline.trainer.network import build_network


def build(seed: int, class_num: int = 5, name: str = "ResNet18") -> paddle.nn.Layer:
    paddle.seed(seed)
    return build_network(ArchConfig(name=name, class_num=class_num))


def arrays_of(network: paddle.nn.Layer) -> dict[str, np.ndarray]:
    return {name: tensor.numpy() for name, tensor in network.state_dict().items()}


@pytest.fixture(scope="module")
def source() -> dict[str, np.ndarray]:
    """Weights of a network with five classes and random running statistics."""
    arrays = arrays_of(build(seed=1))
    random = np.random.default_rng(0)
    return {
        name: random.random(array.shape, dtype=np.float32) if name.endswith(("._mean", "._variance")) else array
        for name, array in arrays.items()
    }


def write(folder: Path, suffix: str, arrays: dict[str, np.ndarray]) -> Path:
    path = folder / f"weights{suffix}"
    if suffix == ".pdparams":
        paddle.save({name: paddle.to_tensor(array) for name, array in arrays.items()}, str(path))
    else:
        save_file(arrays, path)
    return path


@pytest.mark.parametrize("suffix", [".pdparams", ".safetensors"])
def test_all_weights_and_statistics_are_loaded(suffix: str, source: dict[str, np.ndarray], tmp_path: Path):
    """Both formats restore every tensor exactly, without a warning."""
    network = build(seed=2)
    found = load_pretrained(write(tmp_path, suffix, source), network)
    assert found.loaded == len(source)
    assert found.describe(5) is None
    for name, array in arrays_of(network).items():
        np.testing.assert_array_equal(array, source[name], err_msg=name)


def test_exported_model_restores_every_tensor(source: dict[str, np.ndarray], tmp_path: Path):
    """If the folder of an exported model contains the parameter names, every tensor is restored exactly."""
    network = build(seed=2)
    network.set_state_dict({name: paddle.to_tensor(array) for name, array in source.items()})
    model = paddle.nn.Sequential(network, paddle.nn.Softmax())
    model.eval()
    spec = paddle.static.InputSpec([None, 3, 32, 32], "float32", name="x")
    paddle.jit.save(model, str(tmp_path / MODEL), input_spec=[spec])
    with pytest.raises(CheckpointError, match=PARAMETER_NAMES):
        load_pretrained(tmp_path, build(seed=3))
    (tmp_path / PARAMETER_NAMES).write_text(json.dumps(match_parameters(tmp_path, network)))
    other = build(seed=3)
    assert load_pretrained(tmp_path, other).loaded == len(source)
    for name, array in arrays_of(other).items():
        np.testing.assert_array_equal(array, source[name], err_msg=name)
    with pytest.raises(ExportError, match="not in the checkpoint"):
        match_parameters(tmp_path, build(seed=4))


def test_name_without_suffix_means_pdparams(source: dict[str, np.ndarray], tmp_path: Path):
    """PaddleClas' YAML files refer to weights without a suffix: `…/ResNet50_pretrained`."""
    write(tmp_path, ".pdparams", source)
    assert load_pretrained(tmp_path / "weights", build(seed=2)).loaded == len(source)


def test_head_with_other_classes_is_not_loaded(source: dict[str, np.ndarray], tmp_path: Path):
    """Everything but the head is loaded. The head keeps its initial values, and a warning states both class counts."""
    network, untouched = build(seed=2, class_num=9), arrays_of(build(seed=2, class_num=9))
    found = load_pretrained(write(tmp_path, ".safetensors", source), network)
    assert found.initialized == ("fc.bias", "fc.weight")
    assert found.classes == 5
    assert found.loaded == len(source) - 2
    warning = str(found.describe(9))
    assert all(fact in warning for fact in ("5 classes", "class_num is 9", "105", "fc.bias, fc.weight"))
    for name, array in arrays_of(network).items():
        np.testing.assert_array_equal(array, (untouched if name in found.initialized else source)[name], err_msg=name)


def test_file_without_a_head_is_accepted(source: dict[str, np.ndarray], tmp_path: Path):
    """A backbone without a head is loaded, and a warning lists the tensors that keep their initial values."""
    backbone = {name: array for name, array in source.items() if not name.startswith("fc.")}
    found = load_pretrained(write(tmp_path, ".pdparams", backbone), build(seed=2))
    assert found.classes is None
    assert "fc.bias, fc.weight" in str(found.describe(5))


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"stem.0.conv.weight": None}, r"stem\.0\.conv\.weight"),
        ({"stem.9.conv.weight": np.zeros(3, np.float32)}, r"stem\.9\.conv\.weight"),
        ({"stem.0.bn.bias": np.zeros(3, np.float32)}, r"stem\.0\.bn\.bias.*\[3\].*\[64\]"),
        ({"stem.0.bn.bias": np.zeros(64, np.int64)}, r"stem\.0\.bn\.bias.*int64"),
    ],
)
def test_any_other_difference_is_an_error(change: dict, named: str, source: dict, tmp_path: Path):
    """If a backbone tensor is missing, unknown or of another shape or dtype, the error names it. Nothing is loaded."""
    arrays = {name: array for name, array in {**source, **change}.items() if array is not None}
    network = build(seed=2)
    before = arrays_of(network)
    with pytest.raises(CheckpointError, match=named):
        load_pretrained(write(tmp_path, ".safetensors", arrays), network)
    for name, array in arrays_of(network).items():
        np.testing.assert_array_equal(array, before[name])


def test_another_network_is_an_error(source: dict[str, np.ndarray], tmp_path: Path):
    """Weights of a ResNet18 are rejected for a ResNet34."""
    with pytest.raises(CheckpointError, match=r"weights\.pdparams.*Arch\.name"):
        load_pretrained(write(tmp_path, ".pdparams", source), build(seed=2, name="ResNet34"))


@pytest.mark.parametrize("name", ["absent.pdparams", "absent", "https://example.org/ResNet50_pretrained.pdparams"])
def test_missing_file_is_an_error_and_nothing_is_downloaded(name: str, tmp_path: Path):
    """If the file is missing or the path is a URL, the error includes the path or URL."""
    with pytest.raises(CheckpointError, match=r"(absent|ResNet50_pretrained\.pdparams)"):
        load_pretrained(tmp_path / name, build(seed=2))


class Malicious:
    """An object whose unpickling calls a function."""

    def __init__(self, evidence: Path) -> None:
        self._evidence = evidence

    def __reduce__(self) -> tuple[object, tuple[Path]]:
        return Path.touch, (self._evidence,)


def test_malicious_pdparams_is_rejected(tmp_path: Path):
    """A pickle that would call a function is rejected, and the function is not called."""
    path = tmp_path / "evil.pdparams"
    path.write_bytes(pickle.dumps({"fc.weight": Malicious(tmp_path / "owned")}, protocol=4))
    with pytest.raises(CheckpointError, match=r"evil\.pdparams"):
        load_pretrained(path, build(seed=2))
    assert not (tmp_path / "owned").exists()


def test_damaged_safetensors_is_an_error(source: dict[str, np.ndarray], tmp_path: Path):
    """A truncated weights file raises an error that identifies the file."""
    path = write(tmp_path, ".safetensors", source)
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(CheckpointError, match=r"weights\.safetensors"):
        load_pretrained(path, build(seed=2))
