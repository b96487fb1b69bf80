"""ImageNet's archives: read without unpacking, unpacked safely, whatever is in them."""

import io
import os
import signal
import subprocess
import sys
import tarfile
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from resnet50_pipeline.exceptions import DatasetError, DatasetNotFoundError, OutputDirectoryInUseError
from resnet50_pipeline.imagenet import unpack
from resnet50_pipeline.imagenet.archives import (
    MAX_MEMBER_BYTES,
    find_archive_parts,
    iterate_archive_members,
    list_part,
)
from resnet50_pipeline.imagenet.unpack import unpack_archives

CLASSES = {
    "n01440764": {"n01440764_18.JPEG": b"tench 18", "n01440764_7.JPEG": b"tench 7" * 200},
    "n01443537": {"n01443537_2.JPEG": b"goldfish"},
}
VAL = {f"ILSVRC2012_val_{number:08d}.JPEG": b"image %d" % number for number in (1, 2, 3)}


def make_tar(path: Path, files: dict[str, bytes], *members: tarfile.TarInfo) -> Path:
    """Write a tar of files, and of members without content behind them."""
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
    """A folder with the tar of each class."""
    folder = tmp_path / "classes"
    folder.mkdir()
    for synset, files in CLASSES.items():
        make_tar(folder / f"{synset}.tar", files)
    return folder


@pytest.fixture
def train_tar(tmp_path: Path, class_tars: Path) -> Path:
    """The tar of tars."""
    files = {path.name: path.read_bytes() for path in sorted(class_tars.iterdir())}
    return make_tar(tmp_path / "ILSVRC2012_img_train.tar", files)


@pytest.fixture
def val_tar(tmp_path: Path) -> Path:
    """The flat tar."""
    return make_tar(tmp_path / "ILSVRC2012_img_val.tar", VAL)


def everything_below(folder: Path) -> dict[str, bytes]:
    """Return path and content of each file, hidden ones too."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


EXPECTED_TRAIN = {f"{synset}/{name}": data for synset, files in CLASSES.items() for name, data in files.items()}


# ── reading ──


def test_the_train_archive_is_read_without_unpacking(train_tar: Path, tmp_path: Path) -> None:
    """Every image of the tar of tars comes with its class folder in its name and with its bytes; nothing is written."""
    before = everything_below(tmp_path)
    assert dict(iterate_archive_members(train_tar)) == EXPECTED_TRAIN
    assert everything_below(tmp_path) == before


def test_class_archives_are_read_alone_and_from_their_folder(class_tars: Path) -> None:
    """A class archive gives its class the file's name; a folder of them is read like the train archive."""
    (class_tars / "README.txt").write_text("no archive")
    assert dict(iterate_archive_members(class_tars)) == EXPECTED_TRAIN
    one = dict(iterate_archive_members(class_tars / "n01443537.tar"))
    assert one == {"n01443537/n01443537_2.JPEG": b"goldfish"}


def test_the_val_archive_is_flat(val_tar: Path) -> None:
    """The images of val have no class folder."""
    assert dict(iterate_archive_members(val_tar)) == VAL


def test_a_tar_of_class_folders_is_read_as_it_lies(tmp_path: Path) -> None:
    """What `tar -c .` makes of an unpacked folder is read as well."""
    for name, data in EXPECTED_TRAIN.items():
        path = tmp_path / "folder" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    with tarfile.open(tmp_path / "own.tar", "w") as archive:
        archive.add(tmp_path / "folder", arcname=".")
    assert dict(iterate_archive_members(tmp_path / "own.tar")) == EXPECTED_TRAIN


def test_gnu_tar_makes_what_is_read(tmp_path: Path, class_tars: Path) -> None:
    """Archives of the tar program, and not of Python alone, are read."""
    names = sorted(path.name for path in class_tars.iterdir())
    subprocess.run(["tar", "-cf", tmp_path / "gnu.tar", "-C", class_tars, *names], check=True)
    assert dict(iterate_archive_members(tmp_path / "gnu.tar")) == EXPECTED_TRAIN


def test_members_say_where_their_bytes_are(train_tar: Path) -> None:
    """Listing reads headers only, and offset and size lead straight to the image in the outermost file."""
    data = train_tar.read_bytes()
    found = {
        one.name: data[one.offset : one.offset + one.size]
        for part in find_archive_parts(train_tar)
        for one in list_part(part)
    }
    assert found == EXPECTED_TRAIN


def test_memory_does_not_grow_with_the_archive(tmp_path: Path) -> None:
    """20 MB of images, of which one is in memory at a time, take less than 3 MB."""
    files = {f"n01440764_{number}.JPEG": bytes(10_000) for number in range(2000)}
    path = make_tar(tmp_path / "n01440764.tar", files)
    del files
    tracemalloc.start()
    count = sum(1 for _ in iterate_archive_members(path))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert count == 2000
    assert peak < 3_000_000


@pytest.mark.parametrize("inner", [False, True])
def test_an_archive_that_was_cut_off_is_told_wherever_it_was(train_tar: Path, val_tar: Path, inner: bool) -> None:
    """Cut at any block, and in the middle of any, an archive never passes for a shorter whole one."""
    path = train_tar if inner else val_tar
    data = path.read_bytes().rstrip(b"\0")
    whole = -(-len(data) // 512) * 512
    for end in range(0, whole + 1, 256):
        path.write_bytes(data.ljust(whole, b"\0")[:end])
        with pytest.raises(DatasetError, match="download it again"):
            list(iterate_archive_members(path))


def test_a_damaged_header_is_not_the_end(val_tar: Path) -> None:
    """A header in the middle that is garbage is an error, though tarfile takes it for the end of the archive."""
    data = bytearray(val_tar.read_bytes())
    data[1024:1100] = b"x" * 76
    val_tar.write_bytes(data)
    with pytest.raises(DatasetError, match="cut off or damaged behind byte 1024"):
        list(iterate_archive_members(val_tar))


def test_what_is_no_archive_is_told(tmp_path: Path) -> None:
    """A missing file, a web page, an empty file, and a folder without class archives are each named."""
    with pytest.raises(DatasetNotFoundError, match="there is no such archive"):
        find_archive_parts(tmp_path / "nothing.tar")
    with pytest.raises(DatasetNotFoundError, match=r"there is no n01440764\.tar"):
        find_archive_parts(tmp_path)
    page = tmp_path / "page.tar"
    for content in (b"<!doctype html>" * 100, b"", b"x"):
        page.write_bytes(content)
        with pytest.raises(DatasetError, match="is no tar archive, or damaged"):
            find_archive_parts(page)


# ── members that escape (fault 44) ──

ESCAPES: dict[str, tuple[tarfile.TarInfo, str]] = {
    "parent": (member("../escaped.JPEG"), r"leads out of its folder with `\.\.`"),
    "parent inside": (member("a/../../../escaped.JPEG"), r"leads out of its folder with `\.\.`"),
    "absolute": (member("/tmp/escaped.JPEG"), "is an absolute path"),  # noqa: S108 - never written
    "symbolic link": (member("link.JPEG", tarfile.SYMTYPE, "/etc/passwd"), "is a symbolic link"),
    "link to a folder": (member("folder", tarfile.SYMTYPE, "../.."), "is a symbolic link"),
    "hard link": (member("link.JPEG", tarfile.LNKTYPE, "../../secret"), "is a hard link"),
    "character device": (member("null.JPEG", tarfile.CHRTYPE), "is a device"),
    "block device": (member("disk.JPEG", tarfile.BLKTYPE), "is a device"),
    "FIFO": (member("fifo.JPEG", tarfile.FIFOTYPE), "is a FIFO"),
    "folder outside": (member("../elsewhere", tarfile.DIRTYPE), r"leads out of its folder with `\.\.`"),
    "backslash": (member("..\\escaped.JPEG"), "has a backslash"),
    "hidden": (member(".bashrc"), "begins with a dot"),
    "control character": (member("a\nb.JPEG"), "has characters that no image's name has"),
    "not UTF-8": (member("a\udcff.JPEG"), "has characters that no image's name has"),
    "too long": (member("a" * 300 + ".JPEG"), "is too long"),
    "too deep": (member("a/b/c.JPEG"), "lies deeper than a class folder"),
}


@pytest.mark.parametrize("name", ESCAPES)
@pytest.mark.parametrize("kind", ["train", "val"])
def test_a_member_that_escapes_is_an_error_and_writes_nothing(tmp_path: Path, name: str, kind: str) -> None:
    """Each kind of member that is no plain image is refused by name; the class that it is in leaves nothing behind."""
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


def test_the_outer_archive_may_not_escape_either(tmp_path: Path) -> None:
    """What has the name of no class archive is none, wherever its name leads."""
    inner = make_tar(tmp_path / "x.tar", {"a.JPEG": b"a"}).read_bytes()
    for names, message in (
        (["n01440764.tar", "../n01443537.tar"], "is not the archive of a class"),
        (["n01440764.tar", "other.JPEG"], "is not the archive of a class"),
    ):
        with pytest.raises(DatasetError, match=message):
            unpack_archives(tmp_path / "root", {"train": make_tar(tmp_path / "t.tar", dict.fromkeys(names, inner))})
    assert not (tmp_path / "root").exists()


def test_a_member_twice_or_too_large_is_refused(tmp_path: Path) -> None:
    """One image cannot replace another, and no member can fill the memory."""
    with pytest.raises(DatasetError, match="twice in the archive"):
        list(iterate_archive_members(make_tar(tmp_path / "a.tar", {"a.JPEG": b""}, member("./a.JPEG"))))
    huge = tarfile.TarInfo("huge.JPEG")
    huge.size = MAX_MEMBER_BYTES + 1
    (tmp_path / "b.tar").write_bytes(huge.tobuf())
    with pytest.raises(DatasetError, match=f"has {MAX_MEMBER_BYTES + 1} bytes, more than"):
        list(iterate_archive_members(tmp_path / "b.tar"))


def test_a_size_below_zero_does_not_lead_in_a_circle(tmp_path: Path) -> None:
    """A header can state a negative size, after which tarfile would read the same header for ever."""
    info = tarfile.TarInfo("a.JPEG")
    header = bytearray(info.tobuf(tarfile.GNU_FORMAT))
    header[124:136] = b"\xff" * 10 + b"\xfc\x00"  # -1024 in GNU's binary form
    header[148:156] = b"        "
    header[148:156] = b"%06o\0 " % sum(header[:512])
    (tmp_path / "a.tar").write_bytes(bytes(header) + bytes(1024))
    with pytest.raises(DatasetError, match="download it again"):
        list(iterate_archive_members(tmp_path / "a.tar"))


# ── unpacking ──


def test_both_archives_are_unpacked_to_the_layout(train_tar: Path, val_tar: Path, tmp_path: Path) -> None:
    """train/<synset>/ and a flat val/ are there, byte for byte, and nothing else."""
    root = tmp_path / "root"
    done = unpack_archives(root, {"train": train_tar, "val": val_tar})
    expected = {f"train/{name}": data for name, data in EXPECTED_TRAIN.items()}
    assert everything_below(root) == expected | {f"val/{name}": data for name, data in VAL.items()}
    assert (done.images, done.folders, done.folders_before) == (6, 3, 0)


def test_unpacking_goes_on_where_it_was(train_tar: Path, tmp_path: Path) -> None:
    """Classes that are there are left, what a killed run left half-filled is gone, the rest is unpacked."""
    root = tmp_path / "root"
    unpack_archives(root, {"train": train_tar})
    times = {path: path.stat().st_mtime_ns for path in (root / "train/n01440764").iterdir()}
    half = root / "train/.unpacking-n01443537"
    (root / "train/n01443537").rename(half)
    (half / "n01443537_2.JPEG").write_bytes(b"gol")
    done = unpack_archives(root, {"train": train_tar})
    assert (done.images, done.folders, done.folders_before) == (1, 1, 1)
    assert everything_below(root / "train") == EXPECTED_TRAIN
    assert {path: path.stat().st_mtime_ns for path in (root / "train/n01440764").iterdir()} == times


@pytest.mark.parametrize("change", ["longer", "missing", "added", "link"])
def test_a_folder_with_other_files_is_left_and_told(train_tar: Path, tmp_path: Path, change: str) -> None:
    """Nothing of the user's is replaced: a class folder that is not the archive's is an error that names the files."""
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
    with pytest.raises(DatasetError, match=rf"n01440764: is there already, and 1 of its files .*\({named}\)"):
        unpack_archives(root, {"train": train_tar})
    assert everything_below(root) == before


def test_nothing_is_unpacked_through_a_link(train_tar: Path, tmp_path: Path) -> None:
    """A train/ or a class folder that is a symbolic link to elsewhere is not followed."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    root = tmp_path / "root"
    (root / "train").mkdir(parents=True)
    (root / "train/n01440764").symlink_to(elsewhere)
    with pytest.raises(DatasetError, match="is a symbolic link to"):
        unpack_archives(root, {"train": train_tar})
    (root / "train/n01440764").unlink()
    (root / "train").rmdir()
    (root / "train").symlink_to(elsewhere)
    with pytest.raises(DatasetError, match="is a symbolic link to"):
        unpack_archives(root, {"train": train_tar})
    assert list(elsewhere.iterdir()) == []


def test_swapped_archives_are_told(val_tar: Path, tmp_path: Path) -> None:
    """A train archive without classes is probably the val archive."""
    with pytest.raises(DatasetError, match="is it the val archive"):
        unpack_archives(tmp_path / "root", {"train": val_tar})


def test_a_full_disk_is_told_before_anything_is_written(train_tar: Path, tmp_path: Path, monkeypatch) -> None:
    """The archive's size is held against the free space first."""
    usage = unpack.shutil.disk_usage(tmp_path)
    monkeypatch.setattr(unpack.shutil, "disk_usage", lambda _: usage._replace(free=10))
    with pytest.raises(DatasetError, match="GB are free → make room"):
        unpack_archives(tmp_path / "root", {"train": train_tar})
    assert everything_below(tmp_path / "root") == {}


def test_two_at_once_are_refused(train_tar: Path, tmp_path: Path) -> None:
    """A second process does not write into what the first is filling."""
    (tmp_path / "root").mkdir()
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, tmp_path / "root"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert holder.stdout is not None
    try:
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(OutputDirectoryInUseError, match="another process unpacks to it"):
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


@settings(max_examples=300, deadline=2000, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    changes=st.lists(st.tuples(st.integers(0, 8191), st.integers(0, 255)), min_size=1, max_size=6),
    cut=st.none() | st.integers(0, 8191),
)
def test_mutated_archives_never_write_outside(
    tmp_path_factory, changes: list[tuple[int, int]], cut: int | None
) -> None:
    """Whatever bytes are changed, an archive is unpacked below its root or refused, and neither hangs nor crashes."""
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
def test_the_command_unpacks_and_ends_with_one_message(
    train_tar: Path, val_tar: Path, tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    """`unpack` says what it did and exits with 0; a damaged archive is one line on stderr and exit code 1."""
    done = run_command("--train", train_tar, "--val", val_tar, "--root", tmp_path / "root", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "6 images in 3 folders unpacked, 0 folders were there already" in done.stdout
    damage(val_tar)
    failed = run_command("--val", val_tar, "--root", tmp_path / "other", cwd=tmp_path)
    assert failed.returncode == 1
    assert failed.stderr.startswith(f"error: {val_tar}: ")
    assert "Traceback" not in failed.stderr


@pytest.fixture
def damage() -> Callable[[Path], None]:
    """A function that cuts a file off."""
    return lambda path: path.write_bytes(path.read_bytes()[:1024])


UNPACKER = """
import sys
from pathlib import Path
from resnet50_pipeline.imagenet.unpack import unpack_archives
unpack_archives(Path(sys.argv[1]), {"train": Path(sys.argv[2])})
"""


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_a_killed_unpacking_leaves_whole_classes_only_and_goes_on(tmp_path: Path, number: signal.Signals) -> None:
    """Whenever it is killed, each class is whole or not there, and the next start completes the rest."""
    files = {f"image_{index}.JPEG": bytes([index % 256]) * 5000 for index in range(3000)}
    inner = make_tar(tmp_path / "inner.tar", files).read_bytes()
    synsets = [f"n{index:08d}" for index in range(4)]
    archive = make_tar(tmp_path / "train.tar", {f"{synset}.tar": inner for synset in synsets})
    root = tmp_path / "root"
    process = subprocess.Popen([sys.executable, "-c", UNPACKER, root, archive], stderr=subprocess.DEVNULL)
    # In the middle of the second class.
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
    assert done.folders_before == len(whole)
    assert sorted(path.name for path in (root / "train").iterdir()) == synsets
    assert all(everything_below(root / "train" / synset) == files for synset in synsets)
