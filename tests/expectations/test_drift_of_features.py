"""The features of a network reveal changes in images that sizes and classes do not."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner, Result
from kedro.framework.project import configure_project

from mlflow_stores import DESCRIPTION, sqlite_store
from resnet50_pipeline.commands.data import image_features
from resnet50_pipeline.commands.data.drift import drift
from resnet50_pipeline.commands.predict import classify
from resnet50_pipeline.exceptions import DatasetError
from resnet50_pipeline.expectations.drift import ImageFeatures, compare_features
from resnet50_pipeline.imagenet.sample import write_sample
from resnet50_pipeline.parameters import DatasetParameters, DataValidationParameters
from resnet50_pipeline.pipelines.data_validation.nodes import scan_dataset
from resnet50_pipeline.tracking.registry.versions import ModelFiles, register_model
from resnet50_pipeline.tracking.runs import open_run

REPOSITORY = Path(__file__).parents[2]
configure_project("resnet50_pipeline")


def make_features(images: int, seed: int, moved: float = 0.0) -> ImageFeatures:
    """Return features with 40 channels, whose first channel has a different mean, and a unique digest per image."""
    features = np.random.default_rng(seed).normal(size=(images, 40)).astype(np.float32)
    features[:, 0] += moved
    return ImageFeatures(features, [f"{seed} {number}" for number in range(images)])


@pytest.mark.parametrize("images", [40, *(pytest.param(images, marks=pytest.mark.slow) for images in (200, 1000))])
def test_samples_of_one_source_have_no_shift(images: int):
    """Random samples of the same images never show a shift."""
    pairs = [(make_features(images, seed), make_features(images, seed + 100)) for seed in range(20)]
    assert {compare_features(*pair).size for pair in pairs} == {"none"}


def test_a_shift_of_one_channel_is_found():
    """The more one of 40 channels shifts, the larger the index."""
    reference = make_features(1000, 0)
    shifts = [compare_features(reference, make_features(1000, 1, moved)) for moved in (0.5, 1.0, 3.0)]
    assert [shift.size for shift in shifts] == ["small", "major", "major"]
    assert [shift.psi for shift in shifts] == sorted(shift.psi for shift in shifts)
    # The best threshold between two normal distributions, 3 standard deviations apart, separates 93% of them.
    assert shifts[2].distance == pytest.approx(2 * 0.933 - 1, abs=0.05)
    assert shifts[2].reference < 0.5 < shifts[2].current


def test_samples_of_different_sizes_are_compared():
    """The probabilities are balanced, as if both samples had the same size."""
    reference = make_features(1000, 0)
    same, moved = (compare_features(reference, make_features(100, 1, moved)) for moved in (0.0, 3.0))
    assert (same.size, moved.size) == ("none", "major")
    assert (same.reference, same.current) == (pytest.approx(0.5, abs=0.03), pytest.approx(0.5, abs=0.03))
    assert moved.reference < 0.5 < moved.current


def test_copies_are_no_shift():
    """The same images on both sides show no shift, even if one side is re-encoded and so has different digests."""
    one = make_features(300, 0)
    assert compare_features(one, one).psi == 0
    assert compare_features(one, ImageFeatures(one.features + 1e-3, make_features(300, 1).contents)).psi == 0
    added = make_features(300, 2, moved=3)
    both = ImageFeatures(np.concatenate([one.features, added.features]), one.contents + added.contents)
    assert compare_features(one, both).size == "major"


def test_too_few_different_images_are_an_error():
    """Copies of an image count once."""
    few = ImageFeatures(np.zeros((9, 40), np.float32), list("aaabbbccd"))
    with pytest.raises(DatasetError, match="features of 4 images cannot be compared"):
        compare_features(make_features(9, 0), few)


def scan(root: Path) -> pd.DataFrame:
    validation = DataValidationParameters(workers=1, blocking=())
    return scan_dataset(root, DatasetParameters(class_num=10), validation)[0]


@pytest.fixture(scope="module")
def versions(tmp_path_factory: pytest.TempPathFactory, exported_model) -> Path:
    """A registered model, a folder of digits, a folder of inverted digits, and the manifests of both folders."""
    folder = tmp_path_factory.mktemp("versions")
    write_sample(folder / "before", train_images_per_class=20, val_images_per_class=4)
    shutil.copytree(folder / "before", folder / "after")
    for path in (folder / "after").rglob("*.JPEG"):
        cv2.imwrite(str(path.with_suffix(".jpg")), 255 - cv2.imread(str(path), cv2.IMREAD_GRAYSCALE))
        path.with_suffix(".jpg").rename(path)
    for name in ("before", "after"):
        scan(folder / name).to_parquet(folder / f"{name}.parquet")
    table = pd.read_parquet(folder / "before.parquet")
    for number in range(2):
        table[number::2].to_parquet(folder / f"half-{number}.parquet")
    answers = [
        {"path": str(folder / "after" / path), "status": 200, "predictions": [{"id": 3, "probability": 0.9}]}
        for path in table["path"]
    ]
    (folder / "log.jsonl").write_text("".join(json.dumps(answer) + "\n" for answer in answers))
    predictions = pd.DataFrame({"path": table["path"], "top5_ids": [[3]] * len(table)})
    predictions["top5_probabilities"] = [[0.9]] * len(table)
    predictions.to_parquet(folder / "predictions.parquet")
    run = open_run(DESCRIPTION, sqlite_store(folder), folder)
    run.log_artifact(folder / "predictions.parquet", "evaluation")
    register_model(run, ModelFiles(exported_model.folder), name="probe", tags={}, metrics={})
    run.end("FINISHED")
    return folder


@pytest.fixture
def compare(versions: Path, monkeypatch: pytest.MonkeyPatch):
    """Return a function that runs `kedro drift` on two files with images from these folders."""
    monkeypatch.chdir(REPOSITORY)

    def run(reference: str, current: str, *more: str, root: str = "before", model: str = "models:/probe/1") -> Result:
        compared = [one if one.startswith("models:/") else str(versions / one) for one in (reference, current)]
        places = ["--reference", compared[0], "--current", compared[1], "--model", model]
        parameters = f"tracking.uri=sqlite:///{versions / 'mlflow.db'},dataset.root={versions / root}"
        return CliRunner().invoke(drift, [*places, "--params", parameters, *more], catch_exceptions=False)

    return run


def features_row(result: Result) -> list[str]:
    assert result.exit_code == 0, result.stderr
    return next(line.split() for line in result.stdout.splitlines() if line.startswith("features "))


@pytest.mark.slow
def test_the_command_compares_features(compare, versions: Path, monkeypatch: pytest.MonkeyPatch):
    """Inverted images with the same sizes, formats and classes show a shift in features; random halves do not."""
    started: list[int] = []

    def count(*arguments: Any, **options: Any) -> Iterator[dict[str, Any]]:
        started.append(1)
        return classify(*arguments, **options)

    monkeypatch.setattr(image_features, "classify", count)
    result = compare("before.parquet", "after.parquet", "--reference-root", str(versions / "before"), root="after")
    row = features_row(result)
    assert (row[-1], float(row[5]) > 0.9) == ("major", True)
    assert len(started) == 1  # each start loads the model
    assert features_row(compare("half-0.parquet", "half-1.parquet"))[-1] == "none"


@pytest.mark.slow
def test_a_log_of_predictions_is_compared_with_an_evaluation(compare):
    """Even if the predictions are the same, features reveal that logged images differ from the evaluated ones."""
    table = compare("models:/probe/1", "log.jsonl").stdout.splitlines()[1:]
    assert {line[:16].strip(): line.split()[-1] for line in table} == {
        "predicted class": "none",
        "confidence": "none",
        "features": "major",
    }


@pytest.mark.slow
def test_a_log_of_predictions_is_compared_with_a_manifest(compare):
    """The output of `kedro predict --json` contains image paths, so it can be compared with a manifest by features."""
    result = compare("before.parquet", "log.jsonl", "--check")
    assert [line.split()[0] for line in result.stdout.splitlines()] == ["column", "features"]
    assert (result.exit_code, result.stdout.split()[-1]) == (1, "major")


@pytest.mark.slow
def test_unsuitable_images_and_models_are_reported(compare, versions: Path):
    """Changed images, missing images and a missing version are errors with a next step."""
    changed = compare("before.parquet", "after.parquet", root="after")
    assert (changed.exit_code, "240 of 240 images cannot be used: " in changed.stderr) == (1, True)
    assert "(changed since the scan)" in changed.stderr
    assert "--reference-root" in changed.stderr
    missing = compare("before.parquet", "before.parquet", root="nowhere")
    assert (missing.exit_code, "(No such file or directory)" in missing.stderr) == (1, True)
    version = compare("before.parquet", "before.parquet", model="models:/probe/9")
    assert (version.exit_code, "there is no models:/probe/9" in version.stderr) == (1, True)
    (versions / "broken.jsonl").write_text(
        json.dumps({"path": str(versions / "log.jsonl"), "status": 200, "predictions": [{"id": 3, "probability": 1}]})
    )
    broken = compare("before.parquet", "broken.jsonl")
    assert (broken.exit_code, "log.jsonl (the image" in broken.stderr) == (1, True)
