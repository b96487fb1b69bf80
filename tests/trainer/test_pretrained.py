"""Weights from local files: what is loaded, what starts anew, and what is refused."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import paddle
import pytest
from safetensors.numpy import save_file

from resnet50_pipeline.exceptions import CheckpointError
from resnet50_pipeline.trainer.network import build_network
from resnet50_pipeline.trainer.pretrained import load_pretrained
from resnet50_pipeline.training_config import ArchConfig


def build(seed: int, class_num: int = 5, name: str = "ResNet18") -> paddle.nn.Layer:
    paddle.seed(seed)
    return build_network(ArchConfig(name=name, class_num=class_num))


def arrays_of(network: paddle.nn.Layer) -> dict[str, np.ndarray]:
    return {name: tensor.numpy() for name, tensor in network.state_dict().items()}


@pytest.fixture(scope="module")
def source() -> dict[str, np.ndarray]:
    """Weights of a network of five classes, with running statistics of their own."""
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
def test_all_weights_and_statistics_are_the_file_s(suffix: str, source: dict[str, np.ndarray], tmp_path: Path):
    """Both formats give every tensor, exactly, and there is nothing to tell."""
    network = build(seed=2)
    found = load_pretrained(write(tmp_path, suffix, source), network)
    assert found.loaded == len(source)
    assert found.describe(5) is None
    for name, array in arrays_of(network).items():
        np.testing.assert_array_equal(array, source[name], err_msg=name)


def test_name_without_suffix_is_the_pdparams(source: dict[str, np.ndarray], tmp_path: Path):
    """As PaddleClas' own YAMLs name it: `…/ResNet50_pretrained`."""
    write(tmp_path, ".pdparams", source)
    assert load_pretrained(tmp_path / "weights", build(seed=2)).loaded == len(source)


def test_head_of_other_classes_starts_anew(source: dict[str, np.ndarray], tmp_path: Path):
    """Five classes there and nine here: everything but the head is loaded, the head is as if there were no file."""
    network, untouched = build(seed=2, class_num=9), arrays_of(build(seed=2, class_num=9))
    found = load_pretrained(write(tmp_path, ".safetensors", source), network)
    assert found.anew == ("fc.bias", "fc.weight")
    assert found.loaded == len(source) - 2
    assert "head for 5 classes, and class_num is 9: 105 tensors were loaded, 2 start anew" in str(found.describe(9))
    for name, array in arrays_of(network).items():
        np.testing.assert_array_equal(array, (untouched if name in found.anew else source)[name], err_msg=name)


def test_file_without_a_head_will_do(source: dict[str, np.ndarray], tmp_path: Path):
    """A backbone alone is loaded, and the head starts anew."""
    backbone = {name: array for name, array in source.items() if not name.startswith("fc.")}
    found = load_pretrained(write(tmp_path, ".pdparams", backbone), build(seed=2))
    assert "has no head" in str(found.describe(5))


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"stem.0.conv.weight": None}, r"1 tensors outside its head differ: stem\.0\.conv\.weight is not in it"),
        ({"stem.9.conv.weight": np.zeros(3, np.float32)}, r"stem\.9\.conv\.weight is in it only"),
        ({"stem.0.bn.bias": np.zeros(3, np.float32)}, r"stem\.0\.bn\.bias is \[3\] there, \[64\] here"),
        ({"stem.0.bn.bias": np.zeros(64, np.int64)}, r"stem\.0\.bn\.bias holds int64"),
    ],
)
def test_anything_else_that_differs_is_an_error(change: dict, named: str, source: dict, tmp_path: Path):
    """A tensor of the backbone that is missing, strange, of another shape or no float is named, and nothing is set."""
    arrays = {name: array for name, array in {**source, **change}.items() if array is not None}
    network = build(seed=2)
    before = arrays_of(network)
    with pytest.raises(CheckpointError, match=named):
        load_pretrained(write(tmp_path, ".safetensors", arrays), network)
    for name, array in arrays_of(network).items():
        np.testing.assert_array_equal(array, before[name])


def test_another_network_is_an_error(source: dict[str, np.ndarray], tmp_path: Path):
    """Weights of ResNet18 do not start a ResNet34."""
    with pytest.raises(CheckpointError, match=r"not of this network.*is Arch\.name"):
        load_pretrained(write(tmp_path, ".pdparams", source), build(seed=2, name="ResNet34"))


@pytest.mark.parametrize("name", ["absent.pdparams", "absent", "https://example.org/ResNet50_pretrained.pdparams"])
def test_absent_file_is_an_error_and_nothing_is_downloaded(name: str, tmp_path: Path):
    """A path that is not there, an address included, is an error."""
    with pytest.raises(CheckpointError, match=r"no such file.*downloads nothing"):
        load_pretrained(tmp_path / name, build(seed=2))


class Malicious:
    """What a pickle can be: a call of anything."""

    def __init__(self, evidence: Path) -> None:
        self._evidence = evidence

    def __reduce__(self) -> tuple[object, tuple[Path]]:
        return Path.touch, (self._evidence,)


def test_malicious_pdparams_is_refused(tmp_path: Path):
    """A pickle that would call something is refused, and nothing is called."""
    path = tmp_path / "evil.pdparams"
    path.write_bytes(pickle.dumps({"fc.weight": Malicious(tmp_path / "owned")}, protocol=4))
    with pytest.raises(CheckpointError, match=r"nothing of it was run"):
        load_pretrained(path, build(seed=2))
    assert not (tmp_path / "owned").exists()


def test_damaged_safetensors_is_an_error(source: dict[str, np.ndarray], tmp_path: Path):
    """A file that was cut off is named."""
    path = write(tmp_path, ".safetensors", source)
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(CheckpointError, match=r"weights\.safetensors: cannot be read"):
        load_pretrained(path, build(seed=2))
