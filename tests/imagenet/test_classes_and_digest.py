"""Class names, the label map and the digest of a dataset are correct, and outdated manifests are rejected."""

import hashlib
import json
from pathlib import Path

import pandas as pd
import pytest

from resnet50_pipeline.exceptions import DatasetError
from resnet50_pipeline.imagenet import synsets
from resnet50_pipeline.imagenet.layout import find_layout, read_lists
from resnet50_pipeline.imagenet.scan.digest import compute_data_digest
from resnet50_pipeline.imagenet.scan.manifest import require_unchanged
from resnet50_pipeline.imagenet.scan.scan import scan_dataset
from resnet50_pipeline.imagenet.synsets import as_label_map, find_classes


@pytest.fixture
def entries(digits: Path):
    """The entries of both lists."""
    return {split: one.entries for split, one in read_lists(find_layout(digits), class_num=10).items()}


@pytest.fixture
def manifest(digits: Path, entries) -> pd.DataFrame:
    """The manifest of the sample."""
    return scan_dataset(digits, entries, workers=1)


def test_classes_are_folders_with_names_from_synset_words(digits: Path, manifest: pd.DataFrame) -> None:
    """Synsets are the train folders, names come from synset_words.txt, and the label map is plain JSON."""
    label_map = as_label_map(find_classes(manifest, 10, digits))
    assert json.loads(json.dumps(label_map)) == label_map
    assert label_map["class_num"] == 10
    assert [one["id"] for one in label_map["classes"]] == list(range(10))
    assert label_map["classes"][9] == {"id": 9, "synset": "n00000009", "name": "nine"}


def test_names_may_come_from_kaggles_file(digits: Path, manifest: pd.DataFrame) -> None:
    """Names come from LOC_synset_mapping.txt, with or without a byte-order mark, if synset_words.txt is missing."""
    (digits / "synset_words.txt").unlink()
    (digits / "LOC_synset_mapping.txt").write_text("n00000004 four, 4\nn00000005\n", encoding="utf-8-sig")
    names = [one.name for one in find_classes(manifest, 10, digits)]
    assert names[3:6] == ["n00000003", "four, 4", "n00000005"]


def test_class_without_a_name_is_named_after_its_synset(digits: Path, manifest: pd.DataFrame) -> None:
    """Without names, a class is named after its synset, or after its label if it has no images."""
    (digits / "synset_words.txt").unlink()
    classes = find_classes(manifest, 11, digits)
    assert classes[7].name == "n00000007"
    assert (classes[10].synset, classes[10].name) == ("", "10")


def test_the_synset_of_a_label_is_the_folder_of_most_of_its_images(digits: Path, manifest: pd.DataFrame) -> None:
    """A single mislabeled image does not change the synset of a class."""
    manifest.loc[0, "label"] = 5
    assert find_classes(manifest, 10, digits)[5].synset == "n00000005"


def test_imagenets_own_names_come_with_the_wheel(tmp_path: Path, monkeypatch) -> None:
    """The 1000 ILSVRC2012 synsets, recognized by their digest, get ImageNet's names regardless of label order.

    No installed package contains these synsets, so the test uses 1000 other synsets and patches the digest.
    """
    ordered = [f"n{number:08d}" for number in range(1000)]
    monkeypatch.setattr(synsets, "IMAGENET_SYNSETS_DIGEST", hashlib.sha256("\n".join(ordered).encode()).hexdigest())
    manifest = pd.DataFrame(
        {"split": "train", "synset": ordered, "label": pd.array(range(999, -1, -1), dtype="Int64"), "status": "ok"}
    )
    classes = find_classes(manifest, 1000, tmp_path)
    assert (classes[999].synset, classes[999].name) == (ordered[0], "tench, Tinca tinca")
    assert (classes[0].synset, classes[0].name) == (ordered[999], "toilet tissue, toilet paper, bathroom tissue")
    assert len({one.name for one in classes}) > 990


def test_classes_with_equal_names_stay_separate(tmp_path: Path, monkeypatch) -> None:
    """Classes that share a name, such as ImageNet's two cranes, stay separate in the label map."""
    ordered = [f"n{number:08d}" for number in range(1000)]
    monkeypatch.setattr(synsets, "IMAGENET_SYNSETS_DIGEST", hashlib.sha256("\n".join(ordered).encode()).hexdigest())
    manifest = pd.DataFrame(
        {"split": "train", "synset": ordered, "label": pd.array(range(1000), dtype="Int64"), "status": "ok"}
    )
    classes = as_label_map(find_classes(manifest, 1000, tmp_path))["classes"]
    assert classes[134] == {"id": 134, "synset": "n00000134", "name": "crane"}
    assert classes[517] == {"id": 517, "synset": "n00000517", "name": "crane"}
    assert [one["id"] for one in classes if one["name"].split(", ")[0] == "maillot"] == [638, 639]
    assert [one["id"] for one in classes] == list(range(1000))
    assert len({one["synset"] for one in classes}) == 1000


def test_digest_depends_on_content_and_not_on_order(manifest: pd.DataFrame) -> None:
    """The digest depends on labels, paths, splits and content, but not on order, unlisted images or location."""
    digest = compute_data_digest(manifest)
    assert digest.startswith("sha256:")
    assert compute_data_digest(manifest.sample(frac=1, random_state=0)) == digest
    unlisted = manifest.head(1).assign(status="unlisted", path="train/x.JPEG")
    assert compute_data_digest(pd.concat([manifest, unlisted])) == digest
    for column, value in (("label", 7), ("path", "train/x.JPEG"), ("sha256", "0" * 64), ("split", "val")):
        changed = manifest.copy()
        changed.loc[0, column] = value
        assert compute_data_digest(changed) != digest


def test_digest_without_image_hashes_is_marked_incomplete(manifest: pd.DataFrame) -> None:
    """The digest is marked incomplete if a readable image was not hashed. An unreadable image does not matter."""
    digest = compute_data_digest(manifest)
    manifest.loc[0, "sha256"] = ""
    assert compute_data_digest(manifest).startswith("incomplete-sha256:")
    assert digest not in compute_data_digest(manifest)
    manifest.loc[0, "status"] = "missing"
    assert compute_data_digest(manifest).startswith("sha256:")


def test_digest_definition_is_stable() -> None:
    """The definition of the digest never changes, because registries store digests."""
    manifest = pd.DataFrame(
        {
            "split": ["train", "val"],
            "path": ["train/n1/a.JPEG", "val/b.JPEG"],
            "label": pd.array([0, 1], dtype="Int64"),
            "sha256": ["a" * 64, "b" * 64],
            "status": "ok",
        }
    )
    text = f"train\ttrain/n1/a.JPEG\t0\t{'a' * 64}\nval\tval/b.JPEG\t1\t{'b' * 64}\n"
    assert compute_data_digest(manifest) == f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"


def test_changed_lists_are_refused(manifest: pd.DataFrame, entries, digits: Path) -> None:
    """Lists whose labels, order or number of entries differ from the manifest are rejected."""
    require_unchanged(entries, manifest)
    path = digits / "val_list.txt"
    lines = path.read_text().splitlines(keepends=True)
    for changed in (lines[::-1], lines[1:], [lines[0].replace(" 0", " 1"), *lines[1:]]):
        path.write_text("".join(changed))
        lists = read_lists(find_layout(digits), class_num=10)
        with pytest.raises(DatasetError, match=r"val_list\.txt .*data_validation"):
            require_unchanged({split: one.entries for split, one in lists.items()}, manifest)
