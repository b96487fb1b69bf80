"""The stage data_preparation, run by Kedro: lists as `sed` would make them, and never of unvalidated data."""

import json
import shutil
import subprocess
import tarfile
from pathlib import Path
from typing import Any

import pytest
from kedro.io import DataCatalog, MemoryDataset
from kedro.runner import SequentialRunner
from pydantic import ValidationError

from resnet50_pipeline.datasets import DirectoryDataset, JSONDataset, ParquetDataset, TextFileDataset
from resnet50_pipeline.exceptions import DatasetError, ListFileError, ValidationFailedError
from resnet50_pipeline.imagenet.list_files import read_list_file
from resnet50_pipeline.imagenet.shard_set import find_shards
from resnet50_pipeline.imagenet.shard_source import open_images
from resnet50_pipeline.parameters import (
    DataPreparationParameters,
    DatasetParameters,
    DataValidationParameters,
    ShardParameters,
)
from resnet50_pipeline.pipelines import data_preparation, data_validation


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """The folder of the results."""
    return tmp_path / "results"


@pytest.fixture
def catalog(digits: Path, results: Path) -> DataCatalog:
    """A catalog over the sample, for both stages."""
    return DataCatalog(
        {
            "dataset_root": DirectoryDataset(str(digits)),
            "params:dataset": MemoryDataset(DatasetParameters(root=digits, class_num=10)),
            "params:data_validation": MemoryDataset(DataValidationParameters(blocking=("images_exist",))),
            "params:data_preparation": MemoryDataset(
                DataPreparationParameters(shards=ShardParameters(output_dir=results / "shards"))
            ),
            "manifest": ParquetDataset(str(results / "manifest.parquet")),
            "listed_images": ParquetDataset(
                str(results / "manifest.parquet"), ["split", "synset", "path", "label", "bytes", "status"]
            ),
            "validation_report": JSONDataset(str(results / "validation_report.json")),
            "data_docs": DirectoryDataset(str(results / "data_docs")),
            "manifest_file": TextFileDataset(str(results / "manifest.parquet")),
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
def test_the_lists_are_those_of_sed_and_the_originals_stay(catalog, digits: Path, results: Path, ending: str) -> None:
    """Both lists are byte for byte what `sed 's#^#train/#'` gives; the user's own are as they were."""
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


def test_a_list_that_was_prefixed_already_stays_as_it_is(catalog, digits: Path, results: Path) -> None:
    """The stage on its own result gives it again, byte for byte."""
    validate(catalog)
    prepare(catalog)
    prefixed = (results / "train_list.txt").read_bytes()
    (digits / "train_list.txt").write_bytes(prefixed)
    validate(catalog)
    prepare(catalog)
    assert (results / "train_list.txt").read_bytes() == prefixed


def test_the_label_map_names_the_classes(catalog, results: Path) -> None:
    """Id, synset and name of every class are there, by id."""
    validate(catalog)
    prepare(catalog)
    label_map = json.loads((results / "label_map.json").read_text())
    assert label_map["class_num"] == 10
    assert label_map["classes"][0] == {"id": 0, "synset": "n00000000", "name": "zero"}
    assert [one["id"] for one in label_map["classes"]] == list(range(10))


def test_invalid_data_is_not_prepared(catalog, digits: Path, results: Path) -> None:
    """After a failed validation the stage refuses, and writes nothing."""
    min((digits / "val").rglob("*.JPEG")).unlink()
    with pytest.raises(ValidationFailedError):
        validate(catalog)
    with pytest.raises(ValidationFailedError, match=r"val_list\.txt:1: .* is missing → .* \[images_exist\]"):
        prepare(catalog)
    assert {path.name for path in results.iterdir()} == {"data_docs", "validation_report.json", "manifest.parquet"}


def test_in_one_run_the_validation_stops_first(catalog, digits: Path, results: Path) -> None:
    """Of a run of both stages the user sees the validation's error, which names the full list."""
    min((digits / "val").rglob("*.JPEG")).unlink()
    both = data_validation.create_pipeline() + data_preparation.create_pipeline()
    with pytest.raises(ValidationFailedError, match=f"full list: {results / 'data_docs' / 'findings.txt'}"):
        SequentialRunner().run(both, catalog)


def test_a_list_that_was_changed_since_is_not_prepared(catalog, digits: Path, results: Path) -> None:
    """Lines that came after the validation are not trained on: the stage says to validate again."""
    validate(catalog)
    path = digits / "train_list.txt"
    path.write_text(path.read_text() + "n00000000/new.JPEG 0\n")
    with pytest.raises(DatasetError, match=r"train_list\.txt was changed since .* → run data_validation again"):
        prepare(catalog)
    assert not (results / "train_list.txt").exists()


def set_dataset(catalog: DataCatalog, digits: Path, **changes: Any) -> None:
    """Give the stages other parameters of the group `dataset`."""
    parameters = DatasetParameters.model_validate({"root": digits, "class_num": 10, **changes})
    catalog["params:dataset"] = MemoryDataset(parameters)


def test_a_list_that_sed_ran_over_twice_is_repaired_and_counted(catalog, digits: Path, results: Path) -> None:
    """With dataset.repair the lists are those of one `sed`, the report counts the lines, and the original stays."""
    path = digits / "train_list.txt"
    by_sed = subprocess.run(["sed", "s#^#train/#", path], capture_output=True, check=True).stdout
    path.write_bytes(b"train/" + by_sed[:-1].replace(b"\n", b"\ntrain/") + b"\n")
    before = path.read_bytes()
    with pytest.raises(
        ListFileError, match=r"train_list\.txt:1: .* starts with train/ twice; .* dataset\.repair: true"
    ):
        validate(catalog)
    set_dataset(catalog, digits, repair=True)
    validate(catalog)
    prepare(catalog)
    assert (results / "train_list.txt").read_bytes() == by_sed
    assert path.read_bytes() == before
    report = json.loads((results / "validation_report.json").read_text())
    assert "40 of 40 paths had train/ in front more than once" in json.dumps(report, ensure_ascii=False)


def test_lists_that_are_missing_are_made_in_the_workspace(catalog, digits: Path, results: Path) -> None:
    """Without list files the stage writes those of the folders, and none into the user's folder."""
    for split in ("train", "val"):
        (digits / f"{split}_list.txt").unlink()
    validate(catalog)
    prepare(catalog)
    lines = (results / "val_list.txt").read_text().splitlines()
    assert len(lines) == 20
    assert lines == sorted(lines)
    assert lines[0].startswith("val/n00000000/n00000000_")
    assert not list(digits.glob("*_list.txt"))


def test_a_flat_val_folder_is_listed_by_its_ground_truth(catalog, digits: Path, results: Path) -> None:
    """A flat val/ and a synset a line give the val list that training reads, and every image stays where it is."""
    (digits / "val_list.txt").unlink()
    images = sorted((digits / "val").rglob("*.JPEG"))
    for image in images:
        image.rename(digits / "val" / image.name)
        image.parent.rmdir() if not any(image.parent.iterdir()) else None
    names = sorted(image.name for image in images)
    (digits / "truth.txt").write_text("".join(f"{name.partition('_')[0]}\n" for name in names))
    set_dataset(catalog, digits, val_ground_truth="truth.txt")
    validate(catalog)
    prepare(catalog)
    expected = "".join(f"val/{name} {int(name[1:9])}\n" for name in names)
    assert (results / "val_list.txt").read_text() == expected
    assert sorted(path.name for path in (digits / "val").iterdir()) == names


# ── archives ──


@pytest.fixture
def packed(digits: Path, tmp_path: Path) -> dict[str, Any]:
    """`params:dataset` of a folder that has nothing but lists, and the archives of its images elsewhere."""
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
    """Let both stages work on another data set."""
    parameters = DatasetParameters.model_validate(values)
    catalog["params:dataset"] = MemoryDataset(parameters)
    catalog["dataset_root"] = DirectoryDataset(str(parameters.root))


def test_archives_that_were_not_unpacked_stop_the_stage_with_what_to_do(catalog, packed, results: Path) -> None:
    """They are validated as they are; that training needs loose files, and how to get them, is said before that."""
    use(catalog, packed)
    validate(catalog)
    with pytest.raises(DatasetError) as raised:
        prepare(catalog)
    assert str(raised.value).startswith("60 of 60 images that were validated in their archives are not below ")
    assert "→ set dataset.unpack: true (0.0 GB), or unpack them yourself: `kedro unpack --train " in str(raised.value)
    assert f"--val {packed['val_archive']} --root {packed['root']}`" in str(raised.value)
    assert not (results / "train_list.txt").exists()
    assert sorted(path.name for path in packed["root"].iterdir()) == ["train_list.txt", "val_list.txt"]


@pytest.mark.parametrize("has_lists", [True, False])
def test_archives_are_unpacked_where_that_is_asked_for(
    catalog, packed, digits: Path, results: Path, has_lists: bool
) -> None:
    """The lists are those of the loose data set, and every image that they name is below the root."""
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


def test_unpacked_images_that_differ_are_told(catalog, packed) -> None:
    """A file of another size in the place of one that was validated stops the stage, also when it is to unpack."""
    use(catalog, {**packed, "unpack": True})
    validate(catalog)
    prepare(catalog)
    image = next((packed["root"] / "train").rglob("*.JPEG"))
    image.write_bytes(image.read_bytes() + b"more")
    with pytest.raises(DatasetError, match="is there already, and 1 of its files are not those of"):
        prepare(catalog)
    use(catalog, packed)
    with pytest.raises(DatasetError, match=r"^1 of 60 images .* or have another size there"):
        prepare(catalog)
    image.unlink()
    image.symlink_to("/etc/hostname")
    with pytest.raises(DatasetError, match=r"^1 of 60 images"):
        prepare(catalog)


def test_unpack_without_an_archive_is_told() -> None:
    """The switch alone means nothing."""
    with pytest.raises(ValidationError, match="neither train_archive nor val_archive names an archive"):
        DatasetParameters(root=Path("x"), class_num=10, unpack=True)


def test_archives_that_are_not_the_published_ones_stop_the_validation(catalog, packed) -> None:
    """Where that is asked for, an archive with another MD5 is not scanned."""
    use(catalog, packed)
    options = DataValidationParameters(blocking=("images_exist",), verify_archives=True)
    catalog["params:data_validation"] = MemoryDataset(options)
    with pytest.raises(
        DatasetError, match=r"train\.tar: has the MD5 [0-9a-f]{32}, but ILSVRC2012's train archive has 1d67"
    ):
        validate(catalog)


# ── shards ──


def set_shards(catalog: DataCatalog, results: Path, **values: Any) -> None:
    """Give the stage other parameters of `data_preparation.shards`."""
    shards = ShardParameters.model_validate({"output_dir": results / "shards", **values})
    catalog["params:data_preparation"] = MemoryDataset(DataPreparationParameters(shards=shards))


def read_packed(results: Path, split: str) -> dict[str, bytes]:
    """Return what is packed for each path of a list."""
    entries = read_list_file(results / f"{split}_list.txt", 10)
    source = open_images(entries, Path("nowhere"), results / "shards")
    return {path: source.read(row) for row, path in enumerate(entries.paths)}


def test_without_a_mode_no_shards_are_made(catalog, results: Path) -> None:
    """The folder says so, and holds nothing else."""
    validate(catalog)
    prepare(catalog)
    assert find_shards(results / "shards") is None
    assert [path.name for path in (results / "shards").iterdir()] == ["shard_set.json"]


def test_the_images_of_both_lists_are_packed(catalog, digits: Path, results: Path) -> None:
    """With mode original every path of a list has its image's bytes, and the user's folder is as it was."""
    before = {path: path.stat().st_mtime_ns for path in digits.rglob("*")}
    set_shards(catalog, results, mode="original", images_per_shard=3)
    validate(catalog)
    prepare(catalog)
    for split in ("train", "val"):
        packed = read_packed(results, split)
        assert packed == {path: (digits / path).read_bytes() for path in packed}
    assert len(list((results / "shards" / "train").glob("*.tar"))) == 20
    assert {path: path.stat().st_mtime_ns for path in digits.rglob("*")} == before


def test_an_image_that_is_not_what_was_validated_is_not_packed(catalog, digits: Path, results: Path) -> None:
    """The manifest's digest is looked at, for time may have passed between the two stages."""
    set_shards(catalog, results, mode="jpeg-256")
    validate(catalog)
    image = next((digits / "train").rglob("*.JPEG"))
    data = bytearray(image.read_bytes())
    data[len(data) // 2] ^= 1
    image.write_bytes(data)
    with pytest.raises(DatasetError, match=f"{image}: is not the image that was validated .*run data_validation again"):
        prepare(catalog)
    assert not (results / "shards" / "shard_set.json").exists()


def test_archives_are_packed_as_they_are(catalog, packed, digits: Path, results: Path) -> None:
    """Nothing is unpacked: the shards are made out of the distributed archives, the same bytes as from loose files."""
    use(catalog, packed)
    set_shards(catalog, results, mode="original")
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


def test_an_image_that_no_archive_has_is_told(catalog, packed, results: Path) -> None:
    """An archive that was exchanged since the validation: the line, the path and the next step."""
    use(catalog, packed)
    set_shards(catalog, results, mode="original")
    validate(catalog)
    with tarfile.open(packed["val_archive"], "w") as archive:
        archive.add(packed["root"] / "val_list.txt", arcname="n00000000/other.JPEG")
    with pytest.raises(
        DatasetError, match=r"val_list\.txt:1: val/.* is not in .*val\.tar, and 20 of 20 images are not"
    ):
        prepare(catalog)


@pytest.mark.parametrize(("key", "value"), [("mode", "jpeg-128"), ("jpeg_quality", 101), ("images_per_shard", 0)])
def test_what_no_packing_has_is_refused(tmp_path: Path, key: str, value: object) -> None:
    """Modes and ranges are checked before anything runs."""
    with pytest.raises(ValidationError, match=key):
        ShardParameters.model_validate({"output_dir": tmp_path, key: value})
