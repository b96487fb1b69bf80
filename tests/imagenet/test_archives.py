"""ImageNet's archives are read without unpacking and are unpacked safely, even if they are malicious."""

import io
import os
import re
import signal
import subprocess
import sys
import tarfile
import time
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from resnet50_pipeline.commands.unpack import unpack as unpack_command
from resnet50_pipeline.exceptions import DatasetError, DatasetNotFoundError, OutputDirectoryInUseError
from resnet50_pipeline.imagenet.archives import unpack
from resnet50_pipeline.imagenet.archives.images import index_archives
from resnet50_pipeline.imagenet.archives.parts import (
    MAX_MEMBER_BYTES,
    find_archive_parts,
    iterate_images,
    list_images,
)
from resnet50_pipeline.imagenet.archives.unpack import unpack_archives

CLASSES = {
    "n01440764": {"n01440764_18.JPEG": b"tench 18", "n01440764_7.JPEG": b"tench 7" * 200},
    "n01443537": {"n01443537_2.JPEG": b"goldfish"},
}
VAL = {f"ILSVRC2012_val_{number:08d}.JPEG": b"image %d" % number for number in (1, 2, 3)}


def make_tar(path: Path, files: dict[str, bytes], *members: tarfile.TarInfo) -> Path:
    """Write a tar of files, followed by members without content."""
    with tarfile.open(path, "w") as archive:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
        for member in members:
            archive.addfile(member)
    return path


def member(name: str, kind: bytes = tarfile.REGTYPE, target: str = "") -> tarfile.TarInfo:
    """Return a member without content."""
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


@pytest.fixture
def class_tars(tmp_path: Path) -> Path:
    """A folder with one tar per class."""
    folder = tmp_path / "classes"
    folder.mkdir()
    for synset, files in CLASSES.items():
        make_tar(folder / f"{synset}.tar", files)
    return folder


@pytest.fixture
def train_tar(tmp_path: Path, class_tars: Path) -> Path:
    """The train archive, a tar of tars."""
    files = {path.name: path.read_bytes() for path in sorted(class_tars.iterdir())}
    return make_tar(tmp_path / "ILSVRC2012_img_train.tar", files)


@pytest.fixture
def val_tar(tmp_path: Path) -> Path:
    """The flat val archive."""
    return make_tar(tmp_path / "ILSVRC2012_img_val.tar", VAL)


def everything_below(folder: Path) -> dict[str, bytes]:
    """Return the path and content of each file, including hidden ones."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def read_images(path: Path) -> Iterator[tuple[str, bytes]]:
    """Yield the name and bytes of each image in an archive or in a folder of archives."""
    for part in find_archive_parts(path):
        for member, data in iterate_images(part):
            yield member.name, data


EXPECTED_TRAIN = {f"{synset}/{name}": data for synset, files in CLASSES.items() for name, data in files.items()}


# ── reading ──


def test_the_train_archive_is_read_without_unpacking(train_tar: Path, tmp_path: Path) -> None:
    """Reading the train archive yields every image with its class folder and writes nothing."""
    before = everything_below(tmp_path)
    assert dict(read_images(train_tar)) == EXPECTED_TRAIN
    assert everything_below(tmp_path) == before


def test_class_archives_are_read_alone_and_from_their_folder(class_tars: Path) -> None:
    """A class archive can be read on its own, and a folder of class archives is read like the train archive."""
    (class_tars / "README.txt").write_text("no archive")
    assert dict(read_images(class_tars)) == EXPECTED_TRAIN
    one = dict(read_images(class_tars / "n01443537.tar"))
    assert one == {"n01443537/n01443537_2.JPEG": b"goldfish"}


def test_the_val_archive_is_flat(val_tar: Path) -> None:
    """Images in the val archive have no class folder."""
    assert dict(read_images(val_tar)) == VAL


def test_tar_of_class_folders_is_read(tmp_path: Path) -> None:
    """A tar of an unpacked folder (`tar -c .`) can be read."""
    for name, data in EXPECTED_TRAIN.items():
        path = tmp_path / "folder" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    with tarfile.open(tmp_path / "own.tar", "w") as archive:
        archive.add(tmp_path / "folder", arcname=".")
    assert dict(read_images(tmp_path / "own.tar")) == EXPECTED_TRAIN


def test_gnu_tar_archives_are_read(tmp_path: Path, class_tars: Path) -> None:
    """Archives written by GNU tar can be read."""
    names = sorted(path.name for path in class_tars.iterdir())
    subprocess.run(["tar", "-cf", tmp_path / "gnu.tar", "-C", class_tars, *names], check=True)
    assert dict(read_images(tmp_path / "gnu.tar")) == EXPECTED_TRAIN


def test_listed_offsets_locate_the_images(train_tar: Path) -> None:
    """Listed offsets and sizes locate each image in the outermost file."""
    data = train_tar.read_bytes()
    found = {
        one.name: data[one.offset : one.offset + one.size]
        for part in find_archive_parts(train_tar)
        for one in list_images(part)
    }
    assert found == EXPECTED_TRAIN


def test_memory_does_not_grow_with_the_archive(tmp_path: Path) -> None:
    """Reading 20 MB of images one by one takes less than 3 MB of memory."""
    files = {f"n01440764_{number}.JPEG": bytes(10_000) for number in range(2000)}
    path = make_tar(tmp_path / "n01440764.tar", files)
    del files
    tracemalloc.start()
    count = sum(1 for _ in read_images(path))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert count == 2000
    assert peak < 3_000_000


@pytest.mark.parametrize("inner", [False, True])
def test_truncated_archive_is_reported(train_tar: Path, val_tar: Path, inner: bool) -> None:
    """A truncated archive is never mistaken for a complete one, no matter where it ends."""
    path = train_tar if inner else val_tar
    data = path.read_bytes().rstrip(b"\0")
    whole = -(-len(data) // 512) * 512
    for end in range(0, whole + 1, 256):
        path.write_bytes(data.ljust(whole, b"\0")[:end])
        with pytest.raises(DatasetError, match=str(path)):
            list(read_images(path))


def test_damaged_header_is_not_the_end_of_an_archive(val_tar: Path) -> None:
    """A damaged header in the middle is an error, although tarfile mistakes it for the end of the archive."""
    data = bytearray(val_tar.read_bytes())
    data[1024:1100] = b"x" * 76
    val_tar.write_bytes(data)
    with pytest.raises(DatasetError, match="byte 1024"):
        list(read_images(val_tar))


def test_files_that_are_not_archives_are_reported(tmp_path: Path) -> None:
    """A missing file, a web page, an empty file and a folder without class archives are rejected."""
    with pytest.raises(DatasetNotFoundError, match=r"nothing\.tar.*correct dataset\.val_archive"):
        find_archive_parts(tmp_path / "nothing.tar", "dataset.val_archive")
    with pytest.raises(DatasetNotFoundError, match=str(tmp_path)):
        find_archive_parts(tmp_path)
    page = tmp_path / "page.tar"
    for content in (b"<!doctype html>" * 100, b"", b"x"):
        page.write_bytes(content)
        with pytest.raises(DatasetError, match=r"page\.tar"):
            find_archive_parts(page)


# ── members that escape (fault 44) ──

ESCAPES: dict[str, tuple[tarfile.TarInfo, str]] = {
    "parent": (member("../escaped.JPEG"), r"\.\./.*`\.\.`"),
    "parent inside": (member("a/../../../escaped.JPEG"), r"\.\./.*`\.\.`"),
    "absolute": (member("/tmp/escaped.JPEG"), "/tmp/escaped.JPEG.*absolute"),  # noqa: S108 - never written
    "symbolic link": (member("link.JPEG", tarfile.SYMTYPE, "/etc/passwd"), "a symbolic link"),
    "link to a folder": (member("folder", tarfile.SYMTYPE, "../.."), "a symbolic link"),
    "hard link": (member("link.JPEG", tarfile.LNKTYPE, "../../secret"), "a hard link"),
    "character device": (member("null.JPEG", tarfile.CHRTYPE), "a device"),
    "block device": (member("disk.JPEG", tarfile.BLKTYPE), "a device"),
    "FIFO": (member("fifo.JPEG", tarfile.FIFOTYPE), "a FIFO"),
    "folder outside": (member("../elsewhere", tarfile.DIRTYPE), r"\.\./.*`\.\.`"),
    "backslash": (member("..\\escaped.JPEG"), "backslash"),
    "hidden": (member(".bashrc"), r"\.bashrc"),
    "control character": (member("a\nb.JPEG"), r"a\\nb\.JPEG"),
    "not UTF-8": (member("a\udcff.JPEG"), r"a\\udcff\.JPEG"),
    "too long": (member("a" * 300 + ".JPEG"), "255 bytes"),
    "too deep": (member("a/b/c.JPEG"), r"a/b/c\.JPEG"),
}


@pytest.mark.parametrize("name", ESCAPES)
@pytest.mark.parametrize("kind", ["train", "val"])
def test_escaping_member_is_refused_and_writes_nothing(tmp_path: Path, name: str, kind: str) -> None:
    """A member that is not a plain image is rejected by name, and no files of its class are left behind."""
    evil, message = ESCAPES[name]
    inner = make_tar(tmp_path / "evil.tar", {"n01443537_1.JPEG": b"harmless"}, evil)
    if kind == "train":
        files = {"n01440764.tar": make_tar(tmp_path / "good.tar", {"a.JPEG": b"a"}).read_bytes()}
        archive = make_tar(tmp_path / "train.tar", {**files, "n01443537.tar": inner.read_bytes()})
    else:
        archive = inner
    root = tmp_path / "deep" / "down" / "set"
    before = everything_below(tmp_path)
    with pytest.raises(DatasetError, match=message):
        unpack_archives(root, {kind: archive})  # type: ignore[dict-item]
    written = {path: data for path, data in everything_below(tmp_path).items() if path not in before}
    assert written == ({"deep/down/set/train/n01440764/a.JPEG": b"a"} if kind == "train" else {})


def test_escaping_member_of_the_outer_archive_is_refused(tmp_path: Path) -> None:
    """Every member of the train archive must be named like a class archive."""
    inner = make_tar(tmp_path / "x.tar", {"a.JPEG": b"a"}).read_bytes()
    for name in ("../n01443537.tar", "other.JPEG"):
        names = ["n01440764.tar", name]
        with pytest.raises(DatasetError, match=re.escape(name)):
            unpack_archives(tmp_path / "root", {"train": make_tar(tmp_path / "t.tar", dict.fromkeys(names, inner))})
    assert not (tmp_path / "root").exists()


def test_repeated_and_oversized_members_are_refused(tmp_path: Path) -> None:
    """Repeated and oversized members are rejected."""
    with pytest.raises(DatasetError, match=r"a\.JPEG.*twice"):
        list(read_images(make_tar(tmp_path / "a.tar", {"a.JPEG": b""}, member("./a.JPEG"))))
    huge = tarfile.TarInfo("huge.JPEG")
    huge.size = MAX_MEMBER_BYTES + 1
    (tmp_path / "b.tar").write_bytes(huge.tobuf())
    with pytest.raises(DatasetError, match=f"{MAX_MEMBER_BYTES + 1:,} bytes"):
        list(read_images(tmp_path / "b.tar"))


def test_negative_member_size_does_not_loop(tmp_path: Path) -> None:
    """A header with a negative size, which tarfile would read forever, is rejected."""
    info = tarfile.TarInfo("a.JPEG")
    header = bytearray(info.tobuf(tarfile.GNU_FORMAT))
    header[124:136] = b"\xff" * 10 + b"\xfc\x00"  # -1024 in GNU's binary form
    header[148:156] = b"        "
    header[148:156] = b"%06o\0 " % sum(header[:512])
    (tmp_path / "a.tar").write_bytes(bytes(header) + bytes(1024))
    with pytest.raises(DatasetError, match=r"a\.tar"):
        list(read_images(tmp_path / "a.tar"))


# ── unpacking ──


def test_archives_are_unpacked_to_the_dataset_layout(train_tar: Path, val_tar: Path, tmp_path: Path) -> None:
    """Unpacking writes train/<synset>/ and a flat val/ byte for byte, and nothing else."""
    root = tmp_path / "root"
    done = unpack_archives(root, {"train": train_tar, "val": val_tar})
    expected = {f"train/{name}": data for name, data in EXPECTED_TRAIN.items()}
    assert everything_below(root) == expected | {f"val/{name}": data for name, data in VAL.items()}
    assert (done.images, done.folders, done.existing_folders) == (6, 3, 0)


def test_unpacking_resumes(train_tar: Path, tmp_path: Path) -> None:
    """Unpacking again keeps finished classes, removes a partial one and unpacks the rest."""
    root = tmp_path / "root"
    unpack_archives(root, {"train": train_tar})
    times = {path: path.stat().st_mtime_ns for path in (root / "train/n01440764").iterdir()}
    half = root / "train/.unpacking-n01443537"
    (root / "train/n01443537").rename(half)
    (half / "n01443537_2.JPEG").write_bytes(b"gol")
    done = unpack_archives(root, {"train": train_tar})
    assert (done.images, done.folders, done.existing_folders) == (1, 1, 1)
    assert everything_below(root / "train") == EXPECTED_TRAIN
    assert {path: path.stat().st_mtime_ns for path in (root / "train/n01440764").iterdir()} == times


@pytest.mark.parametrize("change", ["longer", "missing", "added", "link"])
def test_folder_with_other_files_is_kept_and_reported(train_tar: Path, tmp_path: Path, change: str) -> None:
    """A class folder that differs from the archive is never changed; the error lists the files."""
    root = tmp_path / "root"
    unpack_archives(root, {"train": train_tar})
    image = root / "train/n01440764/n01440764_18.JPEG"
    if change == "longer":
        image.write_bytes(b"another image")
    elif change == "added":
        (image.parent / "mine.JPEG").write_bytes(b"mine")
    else:
        image.unlink()
        if change == "link":
            image.symlink_to(tmp_path / "elsewhere")
    before = everything_below(root)
    named = "mine.JPEG" if change == "added" else "n01440764_18.JPEG"
    with pytest.raises(DatasetError, match=rf"n01440764 .*\b1 of \d+ files \({named}\)"):
        unpack_archives(root, {"train": train_tar})
    assert everything_below(root) == before


def test_nothing_is_unpacked_through_a_link(train_tar: Path, tmp_path: Path) -> None:
    """A train/ or class folder that is a symbolic link is not followed."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    root = tmp_path / "root"
    (root / "train").mkdir(parents=True)
    (root / "train/n01440764").symlink_to(elsewhere)
    with pytest.raises(DatasetError, match=str(elsewhere)):
        unpack_archives(root, {"train": train_tar})
    (root / "train/n01440764").unlink()
    (root / "train").rmdir()
    (root / "train").symlink_to(elsewhere)
    with pytest.raises(DatasetError, match=str(elsewhere)):
        unpack_archives(root, {"train": train_tar})
    assert list(elsewhere.iterdir()) == []


def test_swapped_archives_are_reported(val_tar: Path, tmp_path: Path) -> None:
    """A train archive without classes is rejected because it is probably the val archive."""
    with pytest.raises(DatasetError, match=str(val_tar)):
        unpack_archives(tmp_path / "root", {"train": val_tar})


def test_insufficient_space_is_reported_before_writing(train_tar: Path, tmp_path: Path, monkeypatch) -> None:
    """Insufficient free space is reported before anything is written."""
    usage = unpack.shutil.disk_usage(tmp_path)
    monkeypatch.setattr(unpack.shutil, "disk_usage", lambda _: usage._replace(free=10))
    with pytest.raises(DatasetError, match="10 B "):
        unpack_archives(tmp_path / "root", {"train": train_tar})
    assert everything_below(tmp_path / "root") == {}


def test_concurrent_unpacking_is_refused(train_tar: Path, tmp_path: Path) -> None:
    """A second process is rejected while the first is unpacking to the same folder."""
    (tmp_path / "root").mkdir()
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, tmp_path / "root"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert holder.stdout is not None
    try:
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(OutputDirectoryInUseError, match=str(tmp_path / "root")):
            unpack_archives(tmp_path / "root", {"train": train_tar})
    finally:
        holder.communicate()
    assert unpack_archives(tmp_path / "root", {"train": train_tar}).images == 3


HOLDER = """
import fcntl, os, sys
fcntl.flock(os.open(sys.argv[1], os.O_RDONLY), fcntl.LOCK_EX)
print("held", flush=True)
sys.stdin.read()
"""


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(
    changes=st.lists(st.tuples(st.integers(0, 8191), st.integers(0, 255)), min_size=1, max_size=6),
    cut=st.none() | st.integers(0, 8191),
)
def test_mutated_archives_never_write_outside(
    tmp_path_factory, changes: list[tuple[int, int]], cut: int | None
) -> None:
    """A mutated archive is unpacked below its root or rejected. It never causes a hang or crash."""
    folder = tmp_path_factory.mktemp("fuzz")
    inner = {
        f"{synset}.tar": make_tar(folder / "inner.tar", files).read_bytes()[: 2048 + 512]
        for synset, files in (("n01440764", {"a.JPEG": b"a"}), ("n01443537", {"b.JPEG": b"b", "c.JPEG": b"c"}))
    }
    (folder / "inner.tar").unlink()
    path = make_tar(folder / "train.tar", inner)
    data = bytearray(path.read_bytes())[:8192]
    for position, value in changes:
        data[position % len(data)] = value
    path.write_bytes(bytes(data)[:cut])
    try:
        unpack_archives(folder / "root", {"train": path})
    except DatasetError as error:
        assert "→" in str(error)
    assert {name.split("/")[0] for name in everything_below(folder)} <= {"train.tar", "root"}
    assert not list((folder / "root").glob("**/.unpacking-*"))


# ── the command ──


def run_command(*arguments: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run `resnet50-pipeline unpack`."""
    program = "from resnet50_pipeline.cli import cli; cli()"
    return subprocess.run(
        [sys.executable, "-c", program, "unpack", *map(str, arguments)],
        cwd=cwd,
        env=os.environ,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.slow
def test_unpack_command_reports_success_and_failure(
    train_tar: Path, val_tar: Path, tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    """`unpack` prints the number of images; a damaged archive causes a one-line error and exit code 1."""
    done = run_command("--train", train_tar, "--val", val_tar, "--root", tmp_path / "root", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "6 images" in done.stdout
    assert "3 folders" in done.stdout
    damage(val_tar)
    failed = run_command("--val", val_tar, "--root", tmp_path / "other", cwd=tmp_path)
    assert failed.returncode == 1
    assert failed.stderr.startswith(f"error: {val_tar} ")
    assert "Traceback" not in failed.stderr


@pytest.mark.parametrize("options", [[], ["--verify"]])
def test_unpack_command_names_the_option_of_a_missing_archive(tmp_path: Path, options: list[str]) -> None:
    """If an archive does not exist, the error names the option to correct."""
    path = tmp_path / "missing.tar"
    failed = CliRunner().invoke(unpack_command, ["--train", str(path), "--root", str(tmp_path / "root"), *options])
    assert failed.exit_code == 1
    assert failed.stderr == f"error: {path}: the archive is missing → correct --train\n"
    assert not (tmp_path / "root").exists()


@pytest.fixture
def damage() -> Callable[[Path], None]:
    """A function that truncates a file."""
    return lambda path: path.write_bytes(path.read_bytes()[:1024])


UNPACKER = """
import sys
from pathlib import Path
from resnet50_pipeline.imagenet.archives.unpack import unpack_archives
unpack_archives(Path(sys.argv[1]), {"train": Path(sys.argv[2])})
"""


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_killed_unpacking_leaves_complete_classes_and_resumes(tmp_path: Path, number: signal.Signals) -> None:
    """A killed process leaves only complete classes, and the next one unpacks the rest."""
    files = {f"image_{index}.JPEG": bytes([index % 256]) * 5000 for index in range(3000)}
    inner = make_tar(tmp_path / "inner.tar", files).read_bytes()
    synsets = [f"n{index:08d}" for index in range(4)]
    archive = make_tar(tmp_path / "train.tar", {f"{synset}.tar": inner for synset in synsets})
    root = tmp_path / "root"
    process = subprocess.Popen([sys.executable, "-c", UNPACKER, root, archive], stderr=subprocess.DEVNULL)
    # Wait until the process is in the middle of the second class.
    while process.poll() is None and len(list(root.glob("train/.unpacking-n00000001/*"))) < 100:
        time.sleep(0.005)
    process.send_signal(number)
    assert process.wait() != 0
    left = sorted(path.name for path in (root / "train").iterdir())
    if number != signal.SIGKILL:
        assert not any(name.startswith(".") for name in left)
    whole = {f"train/{name}" for name in left if not name.startswith(".")}
    assert whole
    for folder in whole:
        assert everything_below(root / folder) == files
    done = unpack_archives(root, {"train": archive})
    assert done.existing_folders == len(whole)
    assert sorted(path.name for path in (root / "train").iterdir()) == synsets
    assert all(everything_below(root / "train" / synset) == files for synset in synsets)


# ── archives from other sources ──


def make_mac_tar(path: Path, files: dict[str, bytes]) -> Path:
    """Write a tar as macOS does: a `._name` member precedes each file."""
    return make_tar(
        path, {name: data for one in files for name, data in ((f"./._{one}", b"x"), (f"./{one}", files[one]))}
    )


def test_members_that_macos_added_are_skipped_and_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """`._name`, `.DS_Store` and `__MACOSX` members are skipped, and a warning gives their number."""
    folder = tmp_path / "classes"
    folder.mkdir()
    for synset, files in CLASSES.items():
        make_mac_tar(folder / f"{synset}.tar", files)
    assert dict(read_images(folder)) == EXPECTED_TRAIN
    indexed = index_archives({"train": folder}, workers=1)["train"]
    assert sorted(indexed.names) == sorted(EXPECTED_TRAIN)
    assert any("3 members" in record.getMessage() for record in caplog.records)
    unpack_archives(tmp_path / "root", {"train": folder})
    assert everything_below(tmp_path / "root" / "train") == EXPECTED_TRAIN
    whole = make_mac_tar(tmp_path / "train.tar", {path.name: path.read_bytes() for path in sorted(folder.iterdir())})
    assert dict(read_images(whole)) == EXPECTED_TRAIN


def test_class_archives_may_have_any_name(tmp_path: Path) -> None:
    """In a folder or archive without synset archives, every `<class>.tar` is a class archive."""
    folder = tmp_path / "own"
    folder.mkdir()
    for name in ("cat", "big dog"):
        make_tar(folder / f"{name}.tar", {"1.jpg": name.encode()})
    (folder / "README.txt").write_text("")
    expected = {"cat/1.jpg": b"cat", "big dog/1.jpg": b"big dog"}
    assert dict(read_images(folder)) == expected
    whole = make_tar(tmp_path / "own.tar", {path.name: path.read_bytes() for path in folder.glob("*.tar")})
    assert dict(read_images(whole)) == expected


def test_a_folder_with_the_whole_archives_is_refused(tmp_path: Path, train_tar: Path) -> None:
    """If the folder contains the train archive instead of class archives, the error names the archive."""
    (tmp_path / "downloads").mkdir()
    train_tar.rename(tmp_path / "downloads" / train_tar.name)
    with pytest.raises(DatasetError, match=train_tar.name):
        find_archive_parts(tmp_path / "downloads")


@pytest.mark.parametrize("kind", ["gz", "bz2", "xz"])
def test_compressed_archive_is_reported(tmp_path: Path, kind: str) -> None:
    """The error for a compressed archive says that it must be decompressed."""
    with tarfile.open(tmp_path / f"train.tar.{kind}", f"w:{kind}") as archive:
        archive.addfile(member("a.JPEG"))
    with pytest.raises(DatasetError, match=r"compressed with .*decompress"):
        find_archive_parts(tmp_path / f"train.tar.{kind}")
