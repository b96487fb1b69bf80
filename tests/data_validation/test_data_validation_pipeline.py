"""The data_validation stage accepts valid folders and reports every problem in faulty ones."""

import hashlib
import io
import json
import tempfile
from pathlib import Path

import pandas as pd
import pytest
import yaml
from kedro.io import DataCatalog, MemoryDataset
from kedro.runner import SequentialRunner
from PIL import Image

from resnet50_pipeline.datasets import DirectoryDataset, JSONDataset, ParquetDataset, TextFileDataset
from resnet50_pipeline.exceptions import ListFileError, ParameterError, ValidationFailedError
from resnet50_pipeline.imagenet.lists.fixes import ReviewCommands
from resnet50_pipeline.imagenet.sample import write_sample
from resnet50_pipeline.parameters import DatasetParameters, DataValidationParameters
from resnet50_pipeline.pipelines.data_validation import create_pipeline

CONF = Path(__file__).parents[2] / "conf"
BLOCKING = yaml.safe_load((CONF / "base" / "parameters_data_validation.yml").read_text())["data_validation"]["blocking"]


def run(root: Path, results: Path, blocking: list[str] = BLOCKING, **dataset: object) -> None:
    """Run the pipeline on `root` and write its results to `results`."""
    parameters = DatasetParameters.model_validate({"class_num": 10, **dataset})
    catalog = DataCatalog(
        {
            "dataset_root": DirectoryDataset(str(root)),
            "params:dataset": MemoryDataset(parameters),
            "params:data_validation": MemoryDataset(DataValidationParameters(blocking=tuple(blocking))),
            "manifest": ParquetDataset(str(results / "manifest.parquet")),
            "manifest_file": TextFileDataset(str(results / "manifest.parquet")),
            "validation_report": JSONDataset(str(results / "validation_report.json")),
            "data_docs": DirectoryDataset(str(results / "data_docs")),
            "findings_review": MemoryDataset(ReviewCommands("kedro review …", "kedro data-fix …")),
        }
    )
    SequentialRunner().run(create_pipeline(), catalog)


def read_report(results: Path) -> dict:
    """Return the report from a run."""
    return json.loads((results / "validation_report.json").read_text())


def fingerprint(root: Path) -> dict[str, tuple[str, int]]:
    """Return the digest and modification time of each file under a folder."""
    return {
        str(path.relative_to(root)): (hashlib.sha256(path.read_bytes()).hexdigest(), path.stat().st_mtime_ns)
        for path in root.rglob("*")
        if path.is_file()
    }


def test_a_valid_dataset_passes_and_is_unchanged(digits: Path, tmp_path: Path) -> None:
    """The manifest, report and Data Docs are written, all expectations pass, and no file in the dataset changes."""
    before = fingerprint(digits)
    run(digits, tmp_path / "results")
    report = read_report(tmp_path / "results")
    assert report["is_valid"]
    manifest_file = tmp_path / "results" / "manifest.parquet"
    assert report["manifest_digest"] == f"sha256:{hashlib.sha256(manifest_file.read_bytes()).hexdigest()}"
    assert all(one["success"] for one in report["expectations"])
    assert {one["name"] for one in report["expectations"] if one["is_blocking"]} == {
        name for name in BLOCKING if name != "images_are_as_they_were"
    }
    manifest = pd.read_parquet(tmp_path / "results" / "manifest.parquet")
    assert len(manifest) == 60
    assert manifest["label"].tolist()[:5] == [0, 0, 0, 0, 1]
    assert {path.name for path in (tmp_path / "results" / "data_docs").iterdir()} == {
        "index.html",
        "findings.txt",
        "findings.jsonl",
        "near_duplicates.csv",
    }
    assert fingerprint(digits) == before


def test_an_invalid_dataset_stops_the_run_with_all_problems(digits: Path, tmp_path: Path, monkeypatch) -> None:
    """The error contains all blocking problems and the full list's path, and the report and Data Docs are saved."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    (tmp_path / "tmp").mkdir()
    train = sorted((digits / "train").rglob("*.JPEG"))
    for path in train[:12]:
        path.unlink()
    before = fingerprint(digits)
    with pytest.raises(ValidationFailedError) as raised:
        run(digits, tmp_path / "results")
    findings = tmp_path / "results" / "data_docs" / "findings.txt"
    assert len([one for one in raised.value.problems if "[images_exist]" in one]) == 12
    assert str(raised.value).splitlines()[0].startswith("train_list.txt:1: train/n00000000/")
    assert str(raised.value).splitlines()[-2:] == ["... and 2 more", f"full list: {findings}"]
    assert findings.is_file()
    assert not read_report(tmp_path / "results")["is_valid"]
    assert fingerprint(digits) == before
    assert list((tmp_path / "tmp").iterdir()) == []


def test_warnings_do_not_stop_the_run(digits: Path, tmp_path: Path) -> None:
    """The report lists unlisted images, and the run continues."""
    (digits / "val" / "extra.png").write_bytes(b"")
    run(digits, tmp_path)
    report = read_report(tmp_path)
    assert report["is_valid"]
    assert report["statistics"]["unlisted_images"] == 1
    (warning,) = (one for one in report["expectations"] if not one["success"])
    (problem,) = warning["problems"]
    assert problem.startswith("val/extra.png ")


def test_findings_about_listed_images_lead_to_a_review(digits: Path, tmp_path: Path) -> None:
    """findings.txt begins with the commands for a review, unless no finding is about an image that can be changed."""
    (digits / "val" / "extra.png").write_bytes(b"")
    run(digits, tmp_path / "unlisted")
    assert "kedro review" not in (tmp_path / "unlisted" / "data_docs" / "findings.txt").read_text()
    blank = io.BytesIO()
    Image.new("L", (28, 28)).save(blank, "JPEG")
    min(digits.glob("train/n00000003/*")).write_bytes(blank.getvalue())
    run(digits, tmp_path / "blank")
    first, *_ = (tmp_path / "blank" / "data_docs" / "findings.txt").read_text().splitlines()
    assert first == "# review the images: kedro review …; apply the decisions: kedro data-fix …"


def test_faults_of_a_list_stop_the_run_before_the_scan(digits: Path, tmp_path: Path) -> None:
    """If a list is malformed, the stage writes nothing."""
    path = digits / "val_list.txt"
    path.write_bytes(path.read_bytes().replace(b" ", b"\t", 1))
    with pytest.raises(ListFileError, match=r"val_list\.txt:1: .* → "):
        run(digits, tmp_path / "results")
    assert not (tmp_path / "results").exists()


def test_a_repair_is_a_notice_in_the_report(digits: Path, tmp_path: Path) -> None:
    """A byte-order mark is not an error, but the report contains a notice about it."""
    path = digits / "val_list.txt"
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    run(digits, tmp_path)
    (notice,) = read_report(tmp_path)["notices"]
    assert notice.startswith(f"{path.name}: ")


def test_one_based_labels_are_accepted_with_label_base(digits: Path, tmp_path: Path) -> None:
    """Labels 1..10 cause an error that mentions dataset.label_base, and are accepted once it is set."""
    for split in ("train", "val"):
        path = digits / f"{split}_list.txt"
        fields = [line.split(" ") for line in path.read_text().splitlines()]
        path.write_text("".join(f"{name} {int(label) + 1}\n" for name, label in fields))
    with pytest.raises(ListFileError, match=r"dataset\.label_base: 1"):
        run(digits, tmp_path)
    run(digits, tmp_path, label_base=1)
    assert pd.read_parquet(tmp_path / "manifest.parquet")["label"].min() == 0


def test_folders_without_classes_work(digits: Path, tmp_path: Path) -> None:
    """If neither split has class folders, the labels define the classes."""
    for split in ("train", "val"):
        path = digits / f"{split}_list.txt"
        lines = path.read_text().splitlines()
        for line in lines:
            (digits / split / line.split(" ")[0]).rename(digits / split / Path(line.split(" ")[0]).name)
        path.write_text("".join(line.split("/")[1] + "\n" for line in lines))
    run(digits, tmp_path)
    assert read_report(tmp_path)["is_valid"]
    assert set(pd.read_parquet(tmp_path / "manifest.parquet")["synset"]) == {""}


def test_a_mistyped_expectation_is_an_error(digits: Path, tmp_path: Path) -> None:
    """An unknown name in data_validation.blocking stops the run, because it would silently block nothing."""
    with pytest.raises(ParameterError, match="image_exists"):
        run(digits, tmp_path, blocking=["image_exists"])


@pytest.mark.slow
def test_the_stage_validates_the_sample(tmp_path: Path) -> None:
    """The scan, validation and Data Docs cover all 2,100 images in the sample."""
    write_sample(tmp_path / "digits", train_images_per_class=150, val_images_per_class=60)
    run(tmp_path / "digits", tmp_path / "results")
    assert len(pd.read_parquet(tmp_path / "results" / "manifest.parquet")) == 2100
