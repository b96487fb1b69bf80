"""In a Kedro run, data_preparation writes the same lists as `sed`, and only from validated data."""

import json
import re
import shutil
import subprocess
import tarfile
from pathlib import Path
from typing import Any

import pytest
from kedro.io import DataCatalog, MemoryDataset
from kedro.runner import SequentialRunner
from pydantic import ValidationError

from resnet50_pipeline.datasets import DirectoryDataset, JSONDataset, ParquetDataset, PathDataset, TextFileDataset
from resnet50_pipeline.exceptions import DatasetError, ListFileError, ValidationFailedError
from resnet50_pipeline.imagenet.lists.files import read_list_file
from resnet50_pipeline.imagenet.lists.fixes import ReviewCommands
from resnet50_pipeline.imagenet.shards.shard_set import resolve_shards
from resnet50_pipeline.imagenet.shards.source import open_images
from resnet50_pipeline.parameters import (
    DataPreparationParameters,
    DatasetParameters,
    DataValidationParameters,
    ShardParameters,
)
from resnet50_pipeline.pipelines import data_preparation, data_validation
from resnet50_pipeline.text import format_bytes


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """The folder for results."""
    return tmp_path / "results"


@pytest.fixture
def catalog(digits: Path, results: Path) -> DataCatalog:
    """A catalog for data_validation and data_preparation that contains the sample."""
    return DataCatalog(
        {
            "dataset_root": DirectoryDataset(str(digits)),
            "params:dataset": MemoryDataset(DatasetParameters(class_num=10)),
            "params:data_validation": MemoryDataset(DataValidationParameters(blocking=("images_exist",))),
            "params:data_preparation": MemoryDataset(DataPreparationParameters(shards=ShardParameters())),
            "manifest": ParquetDataset(str(results / "manifest.parquet")),
            "listed_images": ParquetDataset(
                str(results / "manifest.parquet"), ["split", "synset", "path", "label", "bytes", "status"]
            ),
            "validation_report": JSONDataset(str(results / "validation_report.json")),
            "data_docs": DirectoryDataset(str(results / "data_docs")),
            "findings_review": MemoryDataset(ReviewCommands("kedro review …", "kedro data-fix …")),
            "manifest_file": TextFileDataset(str(results / "manifest.parquet")),
            "shards_folder": PathDataset(str(results / "shards")),
            "shards": DirectoryDataset(str(results / "shards")),
            "train_list": TextFileDataset(str(results / "train_list.txt")),
            "val_list": TextFileDataset(str(results / "val_list.txt")),
            "label_map": JSONDataset(str(results / "label_map.json")),
        }
    )


def validate(catalog: DataCatalog) -> None:
    """Run data_validation."""
    SequentialRunner().run(data_validation.create_pipeline(), catalog)


def prepare(catalog: DataCatalog) -> None:
    """Run data_preparation."""
    SequentialRunner().run(data_preparation.create_pipeline(), catalog)


@pytest.mark.parametrize("ending", ["\n", ""])
def test_the_lists_match_sed_and_the_originals_are_unchanged(catalog, digits: Path, results: Path, ending: str) -> None:
    """Both lists equal the output of `sed 's#^#train/#'` byte for byte, and the user's lists are unchanged."""
    before = {}
    for split in ("train", "val"):
        path = digits / f"{split}_list.txt"
        path.write_text(path.read_text().rstrip("\n") + ending)
        before[split] = path.read_bytes()
    validate(catalog)
    prepare(catalog)
    for split in ("train", "val"):
        by_sed = subprocess.run(
            ["sed", f"s#^#{split}/#", digits / f"{split}_list.txt"], capture_output=True, check=True
        )
        assert (results / f"{split}_list.txt").read_bytes() == by_sed.stdout
        assert (digits / f"{split}_list.txt").read_bytes() == before[split]
        for line in by_sed.stdout.decode().splitlines():
            assert (digits / line.split(" ")[0]).is_file()


def test_a_prefixed_list_is_unchanged(catalog, digits: Path, results: Path) -> None:
    """If the stage runs on its own list, it reproduces the list byte for byte."""
    validate(catalog)
    prepare(catalog)
    prefixed = (results / "train_list.txt").read_bytes()
    (digits / "train_list.txt").write_bytes(prefixed)
    validate(catalog)
    prepare(catalog)
    assert (results / "train_list.txt").read_bytes() == prefixed


def test_the_label_map_names_the_classes(catalog, results: Path) -> None:
    """The label map contains the id, synset and name of each class, sorted by id."""
    validate(catalog)
    prepare(catalog)
    label_map = json.loads((results / "label_map.json").read_text())
    assert label_map["class_num"] == 10
    assert label_map["classes"][0] == {"id": 0, "synset": "n00000000", "name": "zero"}
    assert [one["id"] for one in label_map["classes"]] == list(range(10))


def test_invalid_data_is_not_prepared(catalog, digits: Path, results: Path) -> None:
    """If validation failed, the stage raises an error and writes nothing."""
    min((digits / "val").rglob("*.JPEG")).unlink()
    with pytest.raises(ValidationFailedError):
        validate(catalog)
    with pytest.raises(ValidationFailedError, match=r"val_list\.txt:1: .* → .* \[images_exist\]"):
        prepare(catalog)
    assert {path.name for path in results.iterdir()} == {"data_docs", "validation_report.json", "manifest.parquet"}


def test_validation_error_stops_a_run_of_both_stages(catalog, digits: Path, results: Path) -> None:
    """A run of both stages stops with the validation error, which contains the path of the full list of problems."""
    min((digits / "val").rglob("*.JPEG")).unlink()
    both = data_validation.create_pipeline() + data_preparation.create_pipeline()
    with pytest.raises(ValidationFailedError, match=re.escape(str(results / "data_docs" / "findings.txt"))):
        SequentialRunner().run(both, catalog)


def test_list_changed_after_validation_is_not_prepared(catalog, digits: Path, results: Path) -> None:
    """A line added after validation causes an error that mentions data_validation."""
    validate(catalog)
    path = digits / "train_list.txt"
    path.write_text(path.read_text() + "n00000000/new.JPEG 0\n")
    with pytest.raises(DatasetError, match=r"train_list\.txt .* → .*data_validation"):
        prepare(catalog)
    assert not (results / "train_list.txt").exists()


def set_dataset(catalog: DataCatalog, **changes: Any) -> None:
    """Replace the `dataset` parameters in the catalog."""
    parameters = DatasetParameters.model_validate({"class_num": 10, **changes})
    catalog["params:dataset"] = MemoryDataset(parameters)


def test_a_doubled_prefix_is_repaired_and_counted(catalog, digits: Path, results: Path) -> None:
    """If dataset.repair is true, each path gets one prefix, the repairs are counted, and the original is unchanged."""
    path = digits / "train_list.txt"
    by_sed = subprocess.run(["sed", "s#^#train/#", path], capture_output=True, check=True).stdout
    path.write_bytes(b"train/" + by_sed[:-1].replace(b"\n", b"\ntrain/") + b"\n")
    before = path.read_bytes()
    with pytest.raises(ListFileError, match=r"train_list\.txt:1: .*train/train/.* dataset\.repair: true"):
        validate(catalog)
    set_dataset(catalog, repair=True)
    validate(catalog)
    prepare(catalog)
    assert (results / "train_list.txt").read_bytes() == by_sed
    assert path.read_bytes() == before
    report = json.loads((results / "validation_report.json").read_text())
    assert "40 of 40 paths" in json.dumps(report, ensure_ascii=False)


def test_missing_lists_are_generated_in_the_workspace(catalog, digits: Path, results: Path) -> None:
    """Without list files, the stage generates sorted lists from the folders and does not change the dataset."""
    for split in ("train", "val"):
        (digits / f"{split}_list.txt").unlink()
    validate(catalog)
    prepare(catalog)
    lines = (results / "val_list.txt").read_text().splitlines()
    assert len(lines) == 20
    assert lines == sorted(lines)
    assert lines[0].startswith("val/n00000000/n00000000_")
    assert not list(digits.glob("*_list.txt"))


def test_a_flat_val_folder_uses_its_ground_truth(catalog, digits: Path, results: Path) -> None:
    """The val list is generated from a flat val/ and a file with one synset per line, and no image is moved."""
    (digits / "val_list.txt").unlink()
    labels = {}
    for number, image in enumerate(sorted((digits / "val").rglob("*.JPEG")), start=1):
        labels[f"ILSVRC2012_val_{number:08d}.JPEG"] = image.parent.name
        image.rename(digits / "val" / f"ILSVRC2012_val_{number:08d}.JPEG")
        image.parent.rmdir() if not any(image.parent.iterdir()) else None
    (digits / "truth.txt").write_text("".join(f"{synset}\n" for synset in labels.values()))
    set_dataset(catalog, val_ground_truth="truth.txt")
    validate(catalog)
    prepare(catalog)
    expected = "".join(f"val/{name} {int(synset[1:])}\n" for name, synset in labels.items())
    assert (results / "val_list.txt").read_text() == expected
    assert sorted(path.name for path in (digits / "val").iterdir()) == list(labels)


# ── archives ──


@pytest.fixture
def packed(digits: Path, tmp_path: Path) -> dict[str, Any]:
    """The `dataset` parameters for a folder that contains only lists, with the images in archives elsewhere."""
    root = tmp_path / "root"
    root.mkdir()
    values: dict[str, Any] = {"root": root, "class_num": 10}
    for split in ("train", "val"):
        shutil.copy(digits / f"{split}_list.txt", root)
        values[f"{split}_archive"] = tmp_path / f"{split}.tar"
        with tarfile.open(values[f"{split}_archive"], "w") as archive:
            archive.add(digits / split, arcname=".")
    return values


def use(catalog: DataCatalog, values: dict[str, Any]) -> None:
    """Replace the dataset for both stages."""
    parameters = {name: value for name, value in values.items() if name != "root"}
    catalog["params:dataset"] = MemoryDataset(DatasetParameters.model_validate(parameters))
    catalog["dataset_root"] = DirectoryDataset(str(values["root"]))


def test_packed_archives_stop_the_stage_with_the_command_to_unpack(catalog, packed, results: Path) -> None:
    """Archives pass validation, but data_preparation stops with the setting and the command for unpacking them."""
    use(catalog, packed)
    validate(catalog)
    with pytest.raises(DatasetError) as raised:
        prepare(catalog)
    assert "60 of 60 images" in str(raised.value)
    size = format_bytes(catalog.load("listed_images")["bytes"].sum())
    assert f"dataset.unpack: true ({size})" in str(raised.value)
    assert f"--val {packed['val_archive']} --root {packed['root']}`" in str(raised.value)
    assert not (results / "train_list.txt").exists()
    assert sorted(path.name for path in packed["root"].iterdir()) == ["train_list.txt", "val_list.txt"]


@pytest.mark.parametrize("has_lists", [True, False])
def test_archives_are_unpacked_with_the_setting(catalog, packed, digits: Path, results: Path, has_lists: bool) -> None:
    """If dataset.unpack is true, the lists are the same, and each listed image is under the dataset root."""
    if not has_lists:
        for folder in (packed["root"], digits):
            for path in folder.glob("*_list.txt"):
                path.unlink()
    validate(catalog)
    prepare(catalog)
    expected = [(results / f"{split}_list.txt").read_bytes() for split in ("train", "val")]
    use(catalog, {**packed, "unpack": True})
    validate(catalog)
    prepare(catalog)
    assert [(results / f"{split}_list.txt").read_bytes() for split in ("train", "val")] == expected
    for line in b"".join(expected).decode().splitlines():
        path = line.split(" ")[0]
        assert (packed["root"] / path).read_bytes() == (digits / path).read_bytes()


def test_unpacked_images_that_differ_are_reported(catalog, packed) -> None:
    """An unpacked file whose size changed after validation stops the stage, with or without dataset.unpack."""
    use(catalog, {**packed, "unpack": True})
    validate(catalog)
    prepare(catalog)
    image = next((packed["root"] / "train").rglob("*.JPEG"))
    image.write_bytes(image.read_bytes() + b"more")
    with pytest.raises(DatasetError, match=r"\b1 of "):
        prepare(catalog)
    use(catalog, packed)
    with pytest.raises(DatasetError, match=r"\b1 of 60 images"):
        prepare(catalog)
    image.unlink()
    image.symlink_to("/etc/hostname")
    with pytest.raises(DatasetError, match=r"\b1 of 60 images"):
        prepare(catalog)


def test_unpack_without_an_archive_is_an_error() -> None:
    """dataset.unpack requires at least one archive."""
    with pytest.raises(ValidationError, match="train_archive"):
        DatasetParameters(class_num=10, unpack=True)


def test_archives_with_another_md5_stop_the_validation(catalog, packed) -> None:
    """If verify_archives is true, an archive that differs from the published one is not scanned."""
    use(catalog, packed)
    options = DataValidationParameters(blocking=("images_exist",), verify_archives=True)
    catalog["params:data_validation"] = MemoryDataset(options)
    with pytest.raises(DatasetError, match=r"train\.tar has .*[0-9a-f]{32}.* 1d67"):
        validate(catalog)


# ── shards ──


def set_shards(catalog: DataCatalog, **values: Any) -> None:
    """Replace the `data_preparation.shards` parameters."""
    shards = ShardParameters.model_validate(values)
    catalog["params:data_preparation"] = MemoryDataset(DataPreparationParameters(shards=shards))


def read_packed(results: Path, split: str) -> dict[str, bytes]:
    """Return the packed bytes of each path in a list."""
    entries = read_list_file(results / f"{split}_list.txt", 10)
    source = open_images(entries, Path("nowhere"), results / "shards")
    return {path: source.read(row) for row, path in enumerate(entries.paths)}


def test_without_a_mode_no_shards_are_written(catalog, results: Path) -> None:
    """Without a mode, the folder contains only a record that there are no shards."""
    validate(catalog)
    prepare(catalog)
    assert resolve_shards(results / "shards") is None
    assert [path.name for path in (results / "shards").iterdir()] == ["shard_set.json"]


def test_the_images_of_both_lists_are_packed(catalog, digits: Path, results: Path) -> None:
    """In original mode, the shards contain the bytes of all listed images, and the dataset is unchanged."""
    before = {path: path.stat().st_mtime_ns for path in digits.rglob("*")}
    set_shards(catalog, mode="original", images_per_shard=3)
    validate(catalog)
    prepare(catalog)
    for split in ("train", "val"):
        packed = read_packed(results, split)
        assert packed == {path: (digits / path).read_bytes() for path in packed}
    assert len(list((results / "shards" / "train").glob("*.tar"))) == 20
    assert {path: path.stat().st_mtime_ns for path in digits.rglob("*")} == before


def test_image_changed_after_validation_is_not_packed(catalog, digits: Path, results: Path) -> None:
    """Packing compares digests with the manifest, because images may change between stages."""
    set_shards(catalog, mode="jpeg-256")
    validate(catalog)
    image = next((digits / "train").rglob("*.JPEG"))
    data = bytearray(image.read_bytes())
    data[len(data) // 2] ^= 1
    image.write_bytes(data)
    with pytest.raises(DatasetError, match=f"{image} has .*data_validation"):
        prepare(catalog)
    assert not (results / "shards" / "shard_set.json").exists()


def test_shards_are_packed_from_archives(catalog, packed, digits: Path, results: Path) -> None:
    """Shards from archives equal shards from separate files, and nothing is unpacked."""
    use(catalog, packed)
    set_shards(catalog, mode="original")
    validate(catalog)
    prepare(catalog)
    for split in ("train", "val"):
        found = read_packed(results, split)
        assert found == {path: (digits / path).read_bytes() for path in found}
    assert sorted(path.name for path in packed["root"].iterdir()) == ["train_list.txt", "val_list.txt"]
    from_archives = {path.name: path.read_bytes() for path in (results / "shards").rglob("*") if path.is_file()}
    use(catalog, {"root": digits, "class_num": 10})
    shutil.rmtree(results / "shards")
    validate(catalog)
    prepare(catalog)
    assert {path.name: path.read_bytes() for path in (results / "shards").rglob("*") if path.is_file()} == from_archives


def test_an_image_missing_from_an_archive_is_reported(catalog, packed, results: Path) -> None:
    """If an archive was replaced after validation, the error contains the line and path of a missing image."""
    use(catalog, packed)
    set_shards(catalog, mode="original")
    validate(catalog)
    with tarfile.open(packed["val_archive"], "w") as archive:
        archive.add(packed["root"] / "val_list.txt", arcname="n00000000/other.JPEG")
    with pytest.raises(DatasetError, match=r"val_list\.txt:1: val/.* .*val\.tar.* 20 of 20 "):
        prepare(catalog)


@pytest.mark.parametrize(("key", "value"), [("mode", "jpeg-128"), ("jpeg_quality", 101), ("images_per_shard", 0)])
def test_invalid_shard_parameters_are_rejected(key: str, value: object) -> None:
    """Unknown modes and out-of-range values are rejected when the parameters are read."""
    with pytest.raises(ValidationError, match=key):
        ShardParameters.model_validate({key: value})
