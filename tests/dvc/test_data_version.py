"""Images used in place are versioned by a single digest, which DVC tracks and MLflow shows."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from PIL import Image

from dvc_clone import Clone
from resnet50_pipeline.imagenet.sample import write_sample

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

CHAIN = "conf/imagenet/dvc.yaml"
VERSION = "data/imagenet/02_intermediate/data_version.json"
DATA_VERSION = ("kedro", "data-version", "--env", "imagenet")


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset in the ImageNet layout outside the project, with 10 classes of 4 train and 2 val images each."""
    folder = tmp_path_factory.mktemp("elsewhere") / "images"
    write_sample(folder, train_images_per_class=4, val_images_per_class=2)
    return folder


@pytest.fixture(scope="module")
def clone(images: Path, tmp_path_factory: pytest.TempPathFactory) -> Clone:
    """A clone whose ImageNet stages use the small dataset, after `dvc repro` of the data stages."""
    clone = Clone.of_working_tree(tmp_path_factory.mktemp("clone"))
    clone.edit_parameters("globals.yml", {"dataset_root": str(images)}, "imagenet")
    clone.edit_parameters("parameters_dataset.yml", {"dataset": {"class_num": 10}}, "imagenet")
    any_dataset = yaml.safe_dump({"data_validation": {"workers": 1}})
    (clone.root / "conf/imagenet/parameters_data_validation.yml").write_text(any_dataset)
    assert repro(clone) == ["data_version", "data_validation", "data_preparation"]
    return clone


def repro(clone: Clone) -> list[str]:
    """Run `dvc repro` on the data stages, and return the stages that ran."""
    said = clone.run("dvc", "repro", f"{CHAIN}:data_preparation")
    return [line.split(":")[1].rstrip("'") for line in said.splitlines() if line.startswith("Running stage")]


def test_images_are_not_copied(clone: Clone, images: Path) -> None:
    """DVC's cache and the workspace contain no images, only the manifest and the digest."""
    assert clone.read_yaml(VERSION)["train_images"] == 40
    sizes = {path.stat().st_size for path in images.rglob("*.JPEG")}
    contents = {path.read_bytes() for path in images.rglob("*.JPEG")}
    for folder in (".dvc/cache", "data"):
        small = [path for path in (clone.root / folder).rglob("*") if path.is_file() and path.stat().st_size in sizes]
        assert [path for path in small if path.read_bytes() in contents] == []


def test_with_unchanged_images_only_the_version_is_computed(clone: Clone) -> None:
    """If the images are unchanged, a second repro runs only data_version, and `--check` reports no difference."""
    assert repro(clone) == ["data_version"]
    assert "40 train and 20 val images, sha256:" in clone.run(*DATA_VERSION, "--check")


def test_a_changed_image_is_listed_and_detected_by_dvc(clone: Clone, images: Path) -> None:
    """`--check` identifies a changed image and writes nothing; after an update, `dvc status` and repro detect it."""
    before = clone.read_yaml(VERSION)
    path = next(images.glob("train/n00000003/*.JPEG"))
    with Image.open(path) as image:
        image.rotate(5).save(path, "JPEG", quality=95)
    code, said = clone.fail(*DATA_VERSION, "--check")
    assert code == 1
    assert str(path.relative_to(images)) in said
    assert clone.read_yaml(VERSION) == before

    clone.run(*DATA_VERSION)
    now = clone.read_yaml(VERSION)
    assert now["data_digest"] != before["data_digest"]
    status = clone.run("dvc", "status", CHAIN).split("data_validation:")[1].split("data_preparation:")[0]
    assert f"modified:           {VERSION}" in status

    assert repro(clone) == ["data_version", "data_validation", "data_preparation"]
    assert clone.fail(*DATA_VERSION, "--check")[0] == 0


def test_mlflow_shows_the_version_that_dvc_tracks(clone: Clone) -> None:
    """Each MLflow run has the same dataset digest as the file that DVC tracks."""
    assert repro(clone) == ["data_version"]
    digest = clone.read_yaml(VERSION)["data_digest"]
    for stage in ("data_validation", "data_preparation"):
        assert clone.dataset_digests(stage) == {digest}


def test_a_damaged_manifest_does_not_prevent_the_version(clone: Clone) -> None:
    """If the manifest is damaged, the version is still computed; only the list of changes is missing."""
    manifest = clone.root / "data/imagenet/02_intermediate/manifest.parquet"
    whole = manifest.read_bytes()
    manifest.unlink()
    manifest.write_bytes(whole[:500])
    said = clone.run(*DATA_VERSION, "--check")
    assert "manifest.parquet" in said
    assert "kedro run --pipelines data_validation" in said
    manifest.write_bytes(whole)


def test_the_order_of_a_list_is_part_of_the_version(clone: Clone, images: Path) -> None:
    """Reordering train_list.txt changes the manifest digest but not the data digest."""
    before = clone.read_yaml(VERSION)
    list_file = images / "train_list.txt"
    list_file.write_text("".join(reversed(list_file.read_text().splitlines(keepends=True))))
    clone.run(*DATA_VERSION)
    now = clone.read_yaml(VERSION)
    assert now["data_digest"] == before["data_digest"]
    assert now["manifest_digest"] != before["manifest_digest"]


def test_without_digests_there_is_no_version(clone: Clone) -> None:
    """A scan level without digests is rejected, with the level to set."""
    code, said = clone.fail(*DATA_VERSION, "--params", "data_validation.scan.level=header")
    assert code == 1
    assert "data_validation.scan.level" in said
    assert "full" in said
