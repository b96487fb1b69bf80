"""The scan, training, evaluation, `kedro predict` and the served model accept and reject the same files."""

from __future__ import annotations

import io
import json
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from exported_model import TRANSFORM
from image_cases import accepted, encode, refused
from placed import render_training_config
from resnet50_pipeline.exceptions import ImageDecodeError
from resnet50_pipeline.imagenet.lists.files import parse_list
from resnet50_pipeline.imagenet.scan.image_files import inspect_image
from resnet50_pipeline.imagenet.shards.member import pack_image
from resnet50_pipeline.imagenet.shards.shard_set import Packing
from resnet50_pipeline.imaging.decode import decode_image
from resnet50_pipeline.imaging.operators import build_transform
from resnet50_pipeline.serving import __main__ as program
from resnet50_pipeline.serving import predictor
from resnet50_pipeline.serving.pyfunc import ImageClassifier
from resnet50_pipeline.trainer.data.dataset import ListDataset
from resnet50_pipeline.trainer.data.sampling import Key

pytestmark = pytest.mark.slow  # Paddle is imported

PACKINGS = [
    Packing(mode="jpeg-256", jpeg_quality=90, interpolation="bilinear", opencv=""),
    Packing(mode="raw-256", jpeg_quality=0, interpolation="bilinear", opencv=""),
]


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> tuple[Path, list[str]]:
    """A folder with every file in the table, and the file names. The files that every stage accepts come first."""
    root = tmp_path_factory.mktemp("files")
    contents = [*accepted().values(), *refused().values()]
    (root / "train" / "a").mkdir(parents=True)
    names = [f"train/a/{number:03}.JPEG" for number in range(len(contents))]
    for name, content in zip(names, contents, strict=True):
        (root / name).write_bytes(content)
    return root, names


class OneClass(predictor.Predictor):
    """A predictor without a network, which assigns every image to one class."""

    def __init__(self, _: object = None, *, with_features: bool = False) -> None:
        assert not with_features
        self._transform = build_transform(yaml.safe_load(TRANSFORM))
        self._top_k, self._classes = 1, [{"name": "thing", "synset": "n00000000"}]

    def _classify(self, pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return np.ones((len(pixels), 1), np.float32), np.empty((len(pixels), 0), np.float32)


def expected() -> list[bool]:
    return [True] * len(accepted()) + [False] * len(refused())


def describe_difference(found: list[bool]) -> list[str]:
    """Return the names of the files for which a stage disagrees with the table."""
    names = [*accepted(), *refused()]
    return [name for name, one, other in zip(names, found, expected(), strict=True) if one != other]


def test_scan_matches_the_table(files):
    """The `full` level accepts and rejects files as the table says, with a next step for each rejected file."""
    root, names = files
    found = [inspect_image(root, name) for name in names]
    assert describe_difference([one.status == "ok" for one in found]) == []
    assert all(" → " in one.problem for one in found if one.status != "ok")


def test_level_header_accepts_every_file_that_decodes(files):
    """The `header` level accepts every file that decodes, and some damaged files, because it does not decode them."""
    root, names = files
    found = [inspect_image(root, name, "header") for name in names]
    assert all(one.status == "ok" for one in found[: len(accepted())])


@pytest.mark.parametrize("split", ["Train", "Eval"])
@pytest.mark.parametrize("decode", ["whole", "region"])
def test_training_and_evaluation_match_the_table(split, decode, files, dataset_parameters, training_parameters):
    """The ranks' dataset loads the accepted files and names the rejected ones, both the first and the second time."""
    root, names = files
    training = training_parameters(loader={"num_workers": 0, "decode": decode})
    dataset_parameters = dataset_parameters.model_copy(update={"root": root})
    config = render_training_config(training, dataset_parameters, root / "unused", root / "unused")
    entries = parse_list("".join(f"{name} 0\n" for name in names).encode(), class_num=1)
    dataset = ListDataset(entries, getattr(config.DataLoader, split), seed=0)
    for epoch in range(2):
        assert describe_difference([loads(dataset, row, epoch, names[row]) for row in range(len(names))]) == []


def loads(dataset: ListDataset, row: int, epoch: int, name: str) -> bool:
    try:
        dataset[Key(epoch, row, 0)]
    except ImageDecodeError as error:
        assert name in str(error)
        return False
    return True


@pytest.mark.parametrize("packing", PACKINGS, ids=["jpeg-256", "raw-256"])
def test_shards_match_the_table(packing, files):
    """Packing accepts and rejects the same files, and every packed image can be decoded."""
    root, names = files
    found = []
    for name in names:
        try:
            packed = pack_image((root / name).read_bytes(), packing, name)
        except ImageDecodeError as error:
            assert name in str(error)
            found.append(False)
        else:
            assert decode_image(packed).ndim == 3
            found.append(True)
    assert describe_difference(found) == []


def test_served_model_matches_the_table():
    """Rejected files have status 415 in their row, with a message that does not mention lists."""
    answers = ImageClassifier(OneClass()).predict(pd.DataFrame({"image": [*accepted().values(), *refused().values()]}))
    assert set(answers["status"]) == {200, 415}
    assert describe_difference([status == 200 for status in answers["status"]]) == []
    assert not any("list" in error for error in answers["error"])


def test_predict_matches_the_table(files, monkeypatch):
    """The program behind `kedro predict` returns the same statuses."""
    root, names = files
    monkeypatch.setattr(predictor, "Predictor", OneClass)
    monkeypatch.setattr("sys.stdin", io.StringIO("".join(json.dumps(str(root / name)) + "\n" for name in names)))
    answers = [json.loads(line) for line in program._classify(root, 1, with_features=False)]
    assert describe_difference([answer["status"] == 200 for answer in answers]) == []


def test_predict_accepts_a_name_that_is_not_utf8(tmp_path, monkeypatch):
    """The output is plain ASCII, so that any stream can transmit it, and the next file is still classified."""
    names = [os.fsdecode(os.fsencode(tmp_path) + name) for name in (b"/caf\xe9.JPEG", b"/missing\xe9.JPEG", b"/z.JPEG")]
    for name in (names[0], names[2]):
        Path(name).write_bytes(encode())
    monkeypatch.setattr(predictor, "Predictor", OneClass)
    monkeypatch.setattr("sys.stdin", io.StringIO("".join(json.dumps(name) + "\n" for name in names)))
    lines = list(program._classify(tmp_path, 1, with_features=False))
    assert all(line.isascii() for line in lines)
    assert [json.loads(line)["status"] for line in lines] == [200, 404, 200]
    assert [json.loads(line)["path"] for line in lines] == names


def test_tiff_needs_the_parameter_everywhere(tmp_path, dataset_parameters, training_parameters):
    """With `dataset.tiff`, the scan, training and evaluation accept a TIFF file; without it, they reject the file."""
    (tmp_path / "train").mkdir()
    (tmp_path / "train" / "a.JPEG").write_bytes(encode(None, "TIFF"))
    entries = parse_list(b"train/a.JPEG 0\n", class_num=1)
    for tiff in (True, False):
        dataset = dataset_parameters.model_copy(update={"root": tmp_path, "tiff": tiff})
        config = render_training_config(training_parameters(), dataset, tmp_path / "unused", tmp_path / "unused")
        assert (inspect_image(tmp_path, "train/a.JPEG", tiff=tiff).status == "ok") == tiff
        for split in (config.DataLoader.Train, config.DataLoader.Eval):
            assert loads(ListDataset(entries, split, seed=0), 0, 0, "a.JPEG") == tiff
        assert ("tiff: true" in config.to_yaml()) == tiff
        assert np.array_equal(
            pack_image(encode(None, "TIFF"), PACKINGS[1], tiff=True), pack_image(encode(None, "PNG"), PACKINGS[1])
        )
