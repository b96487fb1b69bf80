"""Faults 19, 56 and 57: inconsistent classes, labels and files, as reported by data_validation."""

from __future__ import annotations

import pytest

from faulty_dataset import BLOCKING, FaultyDataset, encode
from resnet50_pipeline.expectations import problems


def without_lists(faulty: FaultyDataset) -> FaultyDataset:
    """Delete the list files, so that the lists are generated from the class folders."""
    for split in ("train", "val"):
        faulty.list_path(split).unlink()
    return faulty


def test_one_image_in_two_classes_is_an_error_with_both_labels(faulty: FaultyDataset) -> None:
    """Fault 57: a copy in another class stops the run, and the problem names both images, labels and folders."""
    first, copy = faulty.image(label=3), faulty.image(label=7)
    copy.write_bytes(first.read_bytes())
    outcome = faulty.run()
    assert outcome.exit_code == 1
    (problem,) = outcome.problems("copies_have_one_label")
    for part in (first.name, copy.name, "label 3 (n00000003)", "label 7 (n00000007)"):
        assert part in problem
    allowed = faulty.run(blocking=tuple(name for name in BLOCKING if name != "copies_have_one_label"))
    assert allowed.exit_code == 0


def test_one_image_in_two_classes_of_different_splits_is_an_error(faulty: FaultyDataset) -> None:
    """Fault 57: the run also stops if one of the two images is in val/."""
    faulty.image("val", label=7).write_bytes(faulty.image(label=3).read_bytes())
    blocking = tuple(name for name in BLOCKING if name != "splits_share_no_image")
    (problem,) = faulty.run(blocking=blocking).problems("copies_have_one_label")
    assert problem.startswith("val_list.txt:")


def test_a_copy_in_the_same_class_is_only_a_copy(faulty: FaultyDataset) -> None:
    """Copies within a class do not contradict each other."""
    faulty.image(label=3, number=1).write_bytes(faulty.image(label=3).read_bytes())
    outcome = faulty.run()
    assert outcome.exit_code == 0
    assert len(outcome.problems("images_are_unique")) == 1
    assert outcome.problems("copies_have_one_label") == []


def test_files_that_are_not_used_are_counted_by_suffix(faulty: FaultyDataset) -> None:
    """Fault 56: files in train/ and val/ without an image suffix are reported once per suffix and split."""
    folder = without_lists(faulty).root / "train" / "n00000000"
    for name in ("a.jfif", "b.jfif", "c.heic", "d", ".e.JPEG"):
        (folder / name).write_bytes(encode())
    (faulty.root / "val" / "README.txt").write_text("")
    outcome = faulty.run()
    assert outcome.exit_code == 0
    found = outcome.problems("no_other_files")
    assert len(found) == 5
    for part in (
        "1 file with the suffix .heic (train/n00000000/c.heic)",
        "2 files with the suffix .jfif (train/n00000000/a.jfif, train/n00000000/b.jfif)",
        "(train/n00000000/d)",
        "(train/n00000000/.e.JPEG)",
        "(val/README.txt)",
    ):
        assert sum(part in problem for problem in found) == 1, part
    assert outcome.report["statistics"]["other_files"] == 6
    assert outcome.report["statistics"]["unlisted_images"] == 0
    assert faulty.run(blocking=(*BLOCKING, "no_other_files")).exit_code == 1


def test_listed_files_may_have_any_suffix(faulty: FaultyDataset) -> None:
    """Fault 56: a listed file is used regardless of its suffix."""
    image = faulty.image()
    image.rename(image.with_suffix(".jfif"))
    faulty.edit(lambda data: data.replace(b".JPEG", b".jfif", 1))
    outcome = faulty.run()
    assert outcome.exit_code == 0
    assert outcome.problems("no_other_files") == []


def test_many_suffixes_are_one_finding(faulty: FaultyDataset) -> None:
    """If all images end in .jpg, there is one problem per split, not one per image."""
    for split in ("train", "val"):
        for image in (faulty.root / split).rglob("*.JPEG"):
            image.rename(image.with_suffix(".jpg"))
        faulty.edit(lambda data: data.replace(b".JPEG", b".jpg"), split)
    outcome = faulty.run()
    train, val = outcome.problems("names_end_in_jpeg")
    assert "40 images" in train
    assert "20 images" in val


def test_generated_lists_have_no_lines(faulty: FaultyDataset) -> None:
    """Without list files, problems name images and folders, but no list file or line."""
    without_lists(faulty)
    image = sorted((faulty.root / "train" / "n00000004").iterdir())[0]
    image.write_bytes(b"")
    for emptied in (faulty.root / "train" / "n00000006").iterdir():
        emptied.unlink()
    outcome = faulty.run()
    assert outcome.exit_code == 1
    assert "_list.txt" not in outcome.message
    (broken,) = outcome.problems("images_decode")
    assert broken.startswith(f"train/n00000004/{image.name} ")
    (empty,) = outcome.problems("every_class_has_train_images")
    assert "train/n00000006" in empty


def test_many_images_of_another_kind_are_one_finding(faulty: FaultyDataset, monkeypatch: pytest.MonkeyPatch) -> None:
    """Many images in another format are one finding per split, with a few file names; a few have one finding each."""
    monkeypatch.setattr(problems, "_MAX_ALIKE", 3)
    images = [faulty.image(label=label) for label in range(5)]
    for seed, image in enumerate(images):
        image.write_bytes(encode("RGB", "PNG", seed=seed))
    faulty.image("val").write_bytes(encode("RGB", "PNG", seed=99))
    few, many = sorted(faulty.run().problems("images_are_jpeg"), key=len)
    assert few.startswith("val_list.txt:1: ")
    assert "5 images in train/" in many
    assert images[0].name in many
