"""Drift is measured as defined, is detected where it exists, and is not detected in small samples of one source."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner, Result
from kedro.framework.project import configure_project

from resnet50_pipeline.commands.data.drift import drift
from resnet50_pipeline.exceptions import DatasetError
from resnet50_pipeline.expectations.drift import Shift, compare_tables, describe_images
from resnet50_pipeline.parameters import DatasetParameters, DataValidationParameters
from resnet50_pipeline.pipelines.data_validation.nodes import scan_dataset

REPOSITORY = Path(__file__).parents[2]
configure_project("resnet50_pipeline")


def compare(first: object, second: object) -> Shift:
    """Return the shift of a single column."""
    (shift,) = compare_tables(pd.DataFrame({"x": first}), pd.DataFrame({"x": second}))
    return shift


def test_the_measures_follow_their_definitions():
    """For two categories, the index and the distances can be computed by hand."""
    shift = compare(["a"] * 60 + ["b"] * 40, ["a"] * 20 + ["b"] * 80)
    p, q = np.array([60.5, 40.5]) / 101, np.array([20.5, 80.5]) / 101
    assert shift.psi == pytest.approx(((q - p) * np.log(q / p)).sum())
    assert (shift.distance, shift.wasserstein, shift.reference, shift.current) == (0.4, None, "a", "b")
    numbers = np.arange(100, dtype=np.float64)
    shifted = compare(numbers, numbers + 50)
    assert shifted.distance == pytest.approx(0.5)
    assert shifted.wasserstein == pytest.approx(50 / numbers.std())
    assert (shifted.reference, shifted.current, shifted.size) == (49.5, 99.5, "major")


def test_equal_images_with_another_size_are_a_major_shift():
    """New image sizes are detected even if all reference images have the same size."""
    same = np.full(500, 28.0)
    assert compare(same, same).psi == 0
    mixed = np.where(np.arange(500) < 100, 32.0, 28.0)
    assert (compare(same, mixed).size, compare(same, mixed).wasserstein) == ("major", None)


@pytest.mark.parametrize("classes", [2, 10, 1000])
@pytest.mark.parametrize("images", [200, 2000])
def test_samples_of_one_source_have_no_shift(classes: int, images: int):
    """Without a shift, about 1 in 1,000 comparisons exceeds the bound, even with more classes than images."""
    draw = np.random.default_rng(0)
    samples = [draw.integers(0, classes, images).astype(str).astype(object) for _ in range(60)]
    assert {compare(one, other).size for one, other in zip(samples[::2], samples[1::2], strict=True)} == {"none"}
    numbers = [draw.normal(size=images) for _ in range(60)]
    assert {compare(one, other).size for one, other in zip(numbers[::2], numbers[1::2], strict=True)} == {"none"}


def test_a_shift_of_one_column_is_found():
    """A change in brightness does not affect other columns."""
    draw = np.random.default_rng(0)
    table = pd.DataFrame({"brightness": draw.normal(100, 20, 2000), "class": draw.integers(0, 10, 2000).astype(str)})
    darker = table.assign(brightness=table["brightness"] - 25)
    assert {one.column: one.size for one in compare_tables(table, darker)} == {"brightness": "major", "class": "none"}


def test_nothing_in_common_is_an_error():
    """Tables without a common column that has values cannot be compared."""
    with pytest.raises(DatasetError, match="no values to compare"):
        compare_tables(pd.DataFrame({"x": [1.0]}), pd.DataFrame({"x": [np.nan]}))


def test_the_columns_of_a_manifest(digits: Path):
    """The table for a real manifest has one row per readable image, with class folders and sizes."""
    manifest, _ = scan_dataset(
        digits, DatasetParameters(class_num=10), DataValidationParameters(workers=1, blocking=())
    )
    manifest.loc[0, "status"] = "undecodable"
    table = describe_images(manifest)
    assert len(table) == 59
    assert set(table["class"]) == {f"n{digit:08d}" for digit in range(10)}
    assert (table[["width", "height", "aspect ratio"]] == [28, 28, 1]).all().all()


@pytest.fixture
def workspaces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two folders of results. The second has more images of class 3 and less confident predictions."""
    monkeypatch.chdir(REPOSITORY)
    draw = np.random.default_rng(0)
    for name, shares, confidence in (("before", None, 0.9), ("after", [0.1] * 3 + [0.4] + [0.05] * 6, 0.6)):
        labels = draw.choice(10, 1000, p=shares)
        manifest = pd.DataFrame({"split": "train", "synset": "", "label": labels, "format": "JPEG", "status": "ok"})
        manifest = manifest.assign(width=28, height=28, bytes=draw.integers(500, 900, 1000), path="", sha256="")
        top = np.clip(draw.normal(confidence, 0.05, 1000), 0, 1)
        predictions = pd.DataFrame(
            {"path": "", "top5_ids": [[label] for label in labels], "top5_probabilities": [[p] for p in top]}
        )
        for file, table in (("02_intermediate/manifest", manifest), ("07_model_output/predictions", predictions)):
            path = tmp_path / name / f"{file}.parquet"
            path.parent.mkdir(parents=True)
            table.to_parquet(path)
        answers = [
            {"path": "", "status": 200, "predictions": [{"id": int(label), "probability": float(p)}]}
            for label, p in zip(labels, top, strict=True)
        ]
        text = "".join(json.dumps(one) + "\n" for one in [*answers, {"status": 415, "predictions": []}])
        (tmp_path / f"{name}.jsonl").write_text(text)
    return tmp_path


def run(*arguments: object) -> Result:
    return CliRunner().invoke(drift, [str(one) for one in arguments], catch_exceptions=False)


def test_the_command_compares_two_workspaces(workspaces: Path):
    """Images and predictions are compared, and with --check, the exit code is 1 for a major shift."""
    options = ["--reference", workspaces / "before", "--current", workspaces / "after"]
    result = run(*options)
    found = {line[:16].strip(): line.split()[-1] for line in result.stdout.splitlines()[1:]}
    assert found == {
        "width": "none",
        "height": "none",
        "bytes": "none",
        "aspect ratio": "none",
        "class": "major",
        "format": "none",
        "predicted class": "major",
        "confidence": "major",
    }
    assert (result.exit_code, run(*options, "--check").exit_code) == (0, 1)
    same = run("--reference", workspaces / "before", "--current", workspaces / "before", "--check")
    assert (same.exit_code, "major" in same.stdout) == (0, False)


@pytest.mark.slow
def test_the_shifts_are_an_expectation_suite(workspaces: Path):
    """Great Expectations' result has one expectation per column, which includes effect sizes and fails if it shifts."""
    options = ["--reference", workspaces / "before", "--current", workspaces / "after"]
    table = run(*options, "--output", workspaces / "drift.json").stdout.splitlines()[1:]
    report = json.loads((workspaces / "drift.json").read_text())
    results = {one["expectation_config"]["kwargs"]["column"]: one for one in report["results"]}
    assert {column for column, one in results.items() if not one["success"]} == {
        line[:16].strip() for line in table if line.endswith("major")
    }
    assert (len(results), report["success"]) == (len(table), False)
    shift = results["confidence"]["expectation_config"]["meta"]
    assert (shift["shift"], shift["distance"] > 0.9, shift["wasserstein"] > 3) == ("major", True, True)


def test_answers_of_predict_are_compared_with_an_evaluation(workspaces: Path):
    """The output of `kedro predict --json`, except failed images, is compared with predictions from an evaluation."""
    predictions = workspaces / "before" / "07_model_output" / "predictions.parquet"
    same = run("--reference", predictions, "--current", workspaces / "before.jsonl")
    assert [line.split()[-1] for line in same.stdout.splitlines()[1:]] == ["none", "none"]
    other = run("--reference", predictions, "--current", workspaces / "after.jsonl", "--check")
    assert (other.exit_code, other.stdout.count("major")) == (1, 2)


def test_unsuitable_places_are_reported(workspaces: Path):
    """The error explains if a folder has no results, a file is an unrelated table, or the two kinds do not match."""
    manifest = workspaces / "before" / "02_intermediate" / "manifest.parquet"
    (workspaces / "empty").mkdir()
    pd.DataFrame({"x": [1]}).to_parquet(workspaces / "other.parquet")
    for reference, message in (
        (workspaces / "empty", "contains neither manifest.parquet nor predictions.parquet"),
        (workspaces / "other.parquet", "neither a manifest nor a table of predictions"),
        (manifest, "compare two data versions"),
    ):
        result = run("--reference", reference, "--current", workspaces / "before.jsonl")
        assert (result.exit_code, message in result.stderr) == (1, True), result.stderr
