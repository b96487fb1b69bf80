"""Lists the tests for each dataset fault, and tests the output of `kedro run` for some of them.

Each test adds a fault to a real dataset and runs both stages (lists: test_faults_lists.py, images:
test_faults_images.py, `kedro run`: this file). It checks the exit code and the message with file and line, and that the
dataset is unchanged and no temporary file remains. The table also names further tests of the same fault.

fault 1    tab                              lists, kedro run; imagenet/test_list_files.py
fault 2    label missing                    lists; imagenet/test_list_files.py
fault 3    blank last and middle lines      lists; imagenet/test_list_files.py
fault 4    two spaces, space in a path      lists; imagenet/test_list_files.py
fault 5    byte-order mark                  lists; imagenet/test_list_files.py
fault 6    CRLF                             lists; imagenet/test_list_files.py
fault 7    not UTF-8, NUL                   lists; imagenet/test_list_files.py, imagenet/test_fuzz.py
fault 8    invalid labels                   lists; imagenet/test_list_files.py, imagenet/test_fuzz.py
fault 9    labels 1..1000                   lists, kedro run; imagenet/test_list_files.py
fault 10   prefix missing                   lists; imagenet/test_list_files.py (property test against sed)
fault 11   rewriter run twice               lists; imagenet/test_list_files.py (property test)
fault 12   train/train/…                    lists, kedro run; imagenet/test_list_files.py
fault 13   absolute path, ..                lists; imagenet/test_list_files.py, imagenet/test_fuzz.py
fault 14   links out of the root, circular lists; imagenet/test_inspection.py
fault 15   folder, FIFO, device             lists; imagenet/test_inspection.py
fault 16   a path twice, with two labels    lists; imagenet/test_list_files.py
fault 17   one image in both splits         lists, kedro run; expectations/test_suite.py
fault 18   empty list                       lists; imagenet/test_list_files.py, expectations/test_suite.py
fault 19   class without images             lists; expectations/test_suite.py
fault 20   other suffixes, unlisted images  lists; imagenet/test_scan.py, expectations/test_suite.py
fault 21   label against folder             lists; expectations/test_suite.py
fault 22   PNG and CMYK                     images; expectations/test_suite.py, expectations/test_ilsvrc2012.py
fault 23   truncated, empty, HTML           images, kedro run; imagenet/test_inspection.py, imagenet/test_fuzz.py,
                                            imaging/test_decode.py, serving/test_one_decoder.py
fault 24   flipped bit                      images; expectations/test_suite.py
fault 25   EXIF                             images; imagenet/test_inspection.py
fault 26   decompression bomb               images; imagenet/test_inspection.py
fault 27   killed, disk full                images; ground/test_files.py
fault 44   archive that escapes             kedro run; imagenet/test_archives.py, imagenet/test_archived_images.py
"""

from __future__ import annotations

import re
import shutil
import tarfile
from pathlib import Path

import pytest

from faulty_dataset import FaultyDataset, kedro_run


@pytest.mark.slow
def test_kedro_run_prepares_a_valid_dataset(faulty: FaultyDataset, kedro_project: Path) -> None:
    """For a valid dataset, the exit code is 0, and the lists match those written by `sed`."""
    outcome = kedro_run(kedro_project, faulty.root)
    assert outcome.exit_code == 0
    prepared = kedro_project / "data" / "test" / "05_model_input" / "train_list.txt"
    assert prepared.read_text() == "".join(f"train/{line}\n" for line in faulty.lines())


def add_a_tab(faulty: FaultyDataset) -> None:
    """Fault 1."""
    faulty.edit(lambda data: data.replace(b" ", b"\t", 1))


def start_labels_at_one(faulty: FaultyDataset) -> None:
    """Fault 9."""
    for split in ("train", "val"):
        faulty.edit_lines(
            lambda lines: [f"{path} {int(label) + 1}" for path, label in (line.split(" ") for line in lines)], split
        )


def prefix_twice(faulty: FaultyDataset) -> None:
    """Fault 12, on more lines than an error shows."""
    faulty.edit_lines(lambda lines: [f"train/train/{line}" for line in lines])


def copy_into_both_splits(faulty: FaultyDataset) -> None:
    """Fault 17."""
    shutil.copy(faulty.image("train"), faulty.image("val"))


def add_a_web_page(faulty: FaultyDataset) -> None:
    """Fault 23."""
    faulty.image().write_bytes(b"<!DOCTYPE html><html>404</html>")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("plant", "message"),
    [
        (add_a_tab, r"^\S*/train_list\.txt:1: '.*\\t0' .* → .*\n"),
        (
            start_labels_at_one,
            r"^\S*/train_list\.txt:\d+: .*10 .*0\.\.9 .* → .*dataset\.label_base: 1\n",
        ),
        (
            prefix_twice,
            r"^\S*/train_list\.txt:1: .*train/train/[^\0]* 30 more\n.*: \S+",
        ),
        (
            copy_into_both_splits,
            r"^val_list\.txt:1: .* train_list\.txt:1: .* \[splits_share_no_image\]",
        ),
        (add_a_web_page, r"^train_list\.txt:1: .* → .* \[images_decode\]\n"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_kedro_run_shows_one_error_per_problem(faulty: FaultyDataset, kedro_project: Path, plant, message: str) -> None:
    """The exit code is 1, and stderr contains `error: file:line: problem → next step` but no traceback."""
    plant(faulty)
    outcome = kedro_run(kedro_project, faulty.root)
    assert outcome.exit_code == 1
    assert re.search(message, outcome.message)
    if named := re.search(r"full list: (\S+)", outcome.message):
        lines = (kedro_project / named[1]).read_text().splitlines()
        full_list = [line for line in lines if not line.startswith("#")]
        assert len(full_list) == (40 if plant is prefix_twice else 1)
        assert all(" → " in line for line in full_list)


@pytest.mark.slow
def test_kedro_run_repairs_lists_if_the_parameter_is_set(faulty: FaultyDataset, kedro_project: Path) -> None:
    """Fault 12: if dataset.repair is true, the prepared lists are correct, and the report counts the repairs."""
    prefix_twice(faulty)
    outcome = kedro_run(kedro_project, faulty.root, "dataset.repair=true")
    assert outcome.exit_code == 0
    assert "40 of 40 paths" in outcome.report["notices"][0]


def pack(faulty: FaultyDataset, folder: Path, *hostile: tarfile.TarInfo) -> list[str]:
    """Move the images into archives and return the parameters with the archive paths."""
    folder.mkdir()
    for split in ("train", "val"):
        with tarfile.open(folder / f"{split}.tar", "w") as archive:
            archive.add(faulty.root / split, arcname=".")
            for member in hostile:
                archive.addfile(member)
        shutil.rmtree(faulty.root / split)
    return [f"dataset.{split}_archive={folder}/{split}.tar" for split in ("train", "val")]


@pytest.mark.slow
def test_kedro_run_validates_archives_and_asks_to_unpack_them(
    faulty: FaultyDataset, kedro_project: Path, tmp_path: Path
) -> None:
    """Validation reads archives directly, but data_preparation stops with the command for unpacking them."""
    outcome = kedro_run(kedro_project, faulty.root, *pack(faulty, tmp_path / "archives"))
    assert outcome.exit_code == 1
    assert outcome.report["is_valid"]
    assert "60 of 60 images" in outcome.message
    assert f"`kedro unpack --train {tmp_path}/archives/train.tar" in outcome.message


@pytest.mark.slow
def test_kedro_run_rejects_an_archive_that_escapes(faulty: FaultyDataset, kedro_project: Path, tmp_path: Path) -> None:
    """Fault 44: a link out of the archive stops the run before any image is read, even if unpacking is enabled."""
    link = tarfile.TarInfo("./n00000000/link.JPEG")
    link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
    parameters = pack(faulty, tmp_path / "archives", link)
    outcome = kedro_run(kedro_project, faulty.root, *parameters, "dataset.unpack=true")
    assert outcome.exit_code == 1
    assert re.search(r"link\.JPEG'.* → ", outcome.message)
    assert not outcome.results.exists()
