"""Class names and the label map; the digest of a data set; a manifest that no longer fits its lists."""

import hashlib
import json
from pathlib import Path

import pandas as pd
import pytest

from resnet50_pipeline.exceptions import DatasetError
from resnet50_pipeline.imagenet import synsets
from resnet50_pipeline.imagenet.digest import compute_data_digest
from resnet50_pipeline.imagenet.layout import find_layout, read_lists
from resnet50_pipeline.imagenet.manifest import require_unchanged
from resnet50_pipeline.imagenet.scan import scan_dataset
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
    """A label's synset is its train folder, and its name is what synset_words.txt says; the map is plain JSON."""
    label_map = as_label_map(find_classes(manifest, 10, digits))
    assert json.loads(json.dumps(label_map)) == label_map
    assert label_map["class_num"] == 10
    assert [one["id"] for one in label_map["classes"]] == list(range(10))
    assert label_map["classes"][9] == {"id": 9, "synset": "n00000009", "name": "nine"}


def test_names_may_come_from_kaggles_file(digits: Path, manifest: pd.DataFrame) -> None:
    """LOC_synset_mapping.txt is read where there is no synset_words.txt, with a byte-order mark too."""
    (digits / "synset_words.txt").unlink()
    (digits / "LOC_synset_mapping.txt").write_text("n00000004 four, 4\nn00000005\n", encoding="utf-8-sig")
    names = [one.name for one in find_classes(manifest, 10, digits)]
    assert names[3:6] == ["n00000003", "four, 4", "n00000005"]


def test_without_a_file_of_names_a_class_is_called_by_its_synset(digits: Path, manifest: pd.DataFrame) -> None:
    """Synsets that are not ImageNet's thousand get no invented name; a label without images gets its number."""
    (digits / "synset_words.txt").unlink()
    classes = find_classes(manifest, 11, digits)
    assert classes[7].name == "n00000007"
    assert (classes[10].synset, classes[10].name) == ("", "10")


def test_the_synset_of_a_label_is_the_folder_of_most_of_its_images(digits: Path, manifest: pd.DataFrame) -> None:
    """One stray label does not rename a class."""
    manifest.loc[0, "label"] = 5
    assert find_classes(manifest, 10, digits)[5].synset == "n00000005"


def test_imagenets_own_names_come_with_the_wheel(tmp_path: Path, monkeypatch) -> None:
    """For the thousand synsets that are known by their digest, in whatever order of labels, names are ImageNet's.

    ILSVRC2012's synsets are not in any installed package; a thousand others stand in for them here.
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


def test_names_that_two_classes_share_name_both(tmp_path: Path, monkeypatch) -> None:
    """ImageNet's two cranes and its maillots are classes of their own in the label map, by label and by synset."""
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


def test_the_digest_names_content_and_not_order(manifest: pd.DataFrame) -> None:
    """Order, images in no list and the place of the folder do not count; a label, path or byte does."""
    digest = compute_data_digest(manifest)
    assert digest.startswith("sha256:")
    assert compute_data_digest(manifest.sample(frac=1, random_state=0)) == digest
    unlisted = manifest.head(1).assign(status="unlisted", path="train/x.JPEG")
    assert compute_data_digest(pd.concat([manifest, unlisted])) == digest
    for column, value in (("label", 7), ("path", "train/x.JPEG"), ("sha256", "0" * 64), ("split", "val")):
        changed = manifest.copy()
        changed.loc[0, column] = value
        assert compute_data_digest(changed) != digest


def test_the_digest_of_images_that_were_not_read_says_so(manifest: pd.DataFrame) -> None:
    """Below level full it does not pass for one of content; an image that cannot be read is no gap."""
    digest = compute_data_digest(manifest)
    manifest.loc[0, "sha256"] = ""
    assert compute_data_digest(manifest).startswith("incomplete-sha256:")
    assert digest not in compute_data_digest(manifest)
    manifest.loc[0, "status"] = "missing"
    assert compute_data_digest(manifest).startswith("sha256:")


def test_the_digest_stays_what_it_was() -> None:
    """The digest stands in registries, so this code must go on to give the same."""
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


def test_lists_that_were_changed_since_are_refused(manifest: pd.DataFrame, entries, digits: Path) -> None:
    """Another label, order or number of entries than the manifest has is told, and what to run."""
    require_unchanged(entries, manifest)
    path = digits / "val_list.txt"
    lines = path.read_text().splitlines(keepends=True)
    for changed in (lines[::-1], lines[1:], [lines[0].replace(" 0", " 1"), *lines[1:]]):
        path.write_text("".join(changed))
        lists = read_lists(find_layout(digits), class_num=10)
        with pytest.raises(DatasetError, match=r"val_list\.txt was changed since .*run data_validation"):
            require_unchanged({split: one.entries for split, one in lists.items()}, manifest)
