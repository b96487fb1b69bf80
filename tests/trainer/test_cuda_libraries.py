"""Paddle finds the CUDA libraries in NVIDIA's wheels, and a build's kernels are read from its libraries."""

from __future__ import annotations

import ctypes
import shutil
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from resnet50_pipeline.trainer.probes.cuda_libraries import (
    LIBRARIES,
    Kernels,
    find_paddle,
    link_wheels,
    missing_libraries,
    read_kernels,
)

WHEEL_FOLDERS = {
    "cublas/lib/libcublas.so.11": "libcublas.so",
    "cublas/lib/libcublasLt.so.11": "libcublasLt.so",
    "cuda_nvrtc/lib/libnvrtc.so.11.2": "libnvrtc.so",
    "cudnn/lib/libcudnn.so.8": "libcudnn.so",
    "cufft/lib/libcufft.so.10": "libcufft.so",
    "curand/lib/libcurand.so.10": "libcurand.so",
    "cusolver/lib/libcusolver.so.11": "libcusolver.so",
    "cusparse/lib/libcusparse.so.11": "libcusparse.so",
    "nccl/lib/libnccl.so.2": "libnccl.so",
}


@pytest.fixture
def paddle(tmp_path: Path) -> Path:
    """A `paddle` folder next to NVIDIA's wheels, whose libraries are copies of a small one."""
    import _ctypes

    for path in WHEEL_FOLDERS:
        library = tmp_path / "nvidia" / path
        library.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(_ctypes.__file__, library)
    (tmp_path / "paddle" / "libs").mkdir(parents=True)
    return tmp_path / "paddle"


def elf_with_fatbins(images: list[list[tuple[bool, int]]]) -> bytes:
    """Return a 64-bit ELF file with one fat binary per list of (whether an image is PTX, its capability)."""
    section = b""
    for fatbin in images:
        body = b""
        for is_ptx, capability in fatbin:
            content = b"\0" * 24
            header = struct.pack("<HHIQ", 1 if is_ptx else 2, 0x101, 64, len(content)) + b"\0" * 12
            body += (header + struct.pack("<I", capability)).ljust(64, b"\0") + content
        section += struct.pack("<IHHQ", 0xBA55ED50, 1, 16, len(body)) + body + b"\0" * 8
    names = b"\0.nv_fatbin\0.shstrtab\0"
    table = 64 + len(section) + len(names)
    header = b"\x7fELF\2\1\1".ljust(40, b"\0") + struct.pack("<QIHHHHHH", table, 0, 64, 0, 0, 64, 3, 2)
    entries = b"\0" * 64
    for name, offset, size in ((1, 64, len(section)), (12, 64 + len(section), len(names))):
        entries += struct.pack("<IIQQQQ", name, 1, 0, 0, offset, size).ljust(64, b"\0")
    return header + section + names + entries


@pytest.mark.parametrize(
    ("capability", "runs"),
    [
        ((6, 0), False),  # P100: machine code for 6.1 needs 6.1
        ((6, 1), True),
        ((7, 0), True),
        ((7, 2), True),
        ((8, 0), True),
        ((8, 6), True),
        ((8, 9), True),  # runs the machine code for 8.6
        ((9, 0), False),  # H100: machine code does not run on a later major version
        ((12, 0), False),
    ],
)
def test_machine_code_runs_within_a_major_version(capability, runs):
    """Machine code for 6.1 to 8.6 runs only on the same or a later minor version of the same major version."""
    assert Kernels((61, 70, 75, 80, 86), ()).run_on(capability) is runs


@pytest.mark.parametrize(("capability", "runs"), [((7, 5), False), ((8, 0), True), ((9, 0), True), ((12, 0), True)])
def test_ptx_runs_on_later_gpus(capability, runs):
    """The driver compiles PTX for 8.0 on GPUs with 8.0 and later."""
    assert Kernels((), (80,)).run_on(capability) is runs


def test_kernels_are_read_from_fat_binaries(paddle: Path):
    """Capabilities of rare kernels, which belong to other libraries, are ignored."""
    common = [(False, 70), (False, 86), (True, 86)]
    (paddle / "libs/libphi.so").write_bytes(elf_with_fatbins([common, common, [*common, (False, 90)], common]))
    kernels = read_kernels(paddle)
    assert kernels == Kernels((70, 86), (86,))
    assert str(kernels) == "7.0, 8.6 and later"


def test_a_build_without_kernels_has_none(paddle: Path):
    """A CPU build of Paddle has no fat binaries."""
    (paddle / "libs/libphi.so").write_bytes(elf_with_fatbins([]))
    assert read_kernels(paddle) == Kernels((), ())


def test_linked_wheels_are_complete(paddle: Path):
    """After linking, every library that Paddle opens can be loaded by its name with and without a version."""
    assert set(missing_libraries(paddle)) == set(LIBRARIES.values())
    links = {link.name for link in link_wheels(paddle)}
    assert links == {*WHEEL_FOLDERS.values(), *(Path(path).name for path in WHEEL_FOLDERS)}
    assert missing_libraries(paddle) == {}
    assert link_wheels(paddle)  # the links are created again
    assert missing_libraries(paddle) == {}


def test_links_survive_a_move_and_leave_paddles_own_files(paddle: Path, tmp_path_factory: pytest.TempPathFactory):
    """Links are relative, Paddle's own files are never replaced, and links to removed wheels are deleted."""
    own = paddle / "libs/libcublas.so"
    own.write_bytes(b"Paddle's own")
    link_wheels(paddle)
    assert own.read_bytes() == b"Paddle's own"
    moved = tmp_path_factory.mktemp("moved") / "site-packages"
    shutil.move(paddle.parent, moved)
    ctypes.CDLL(str(moved / "paddle/libs/libcudnn.so"))
    shutil.rmtree(moved / "nvidia/cudnn")
    link_wheels(moved / "paddle")
    assert not (moved / "paddle/libs/libcudnn.so").is_symlink()
    assert set(missing_libraries(moved / "paddle")) == {"nvidia-cudnn-cu11", "nvidia-cublas-cu11"}


def test_libraries_in_ld_library_path_come_first(paddle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """As in Paddle, a damaged library in LD_LIBRARY_PATH takes precedence over the wheel's library."""
    link_wheels(paddle)
    (tmp_path / "libcudnn.so").write_bytes(b"no library")
    monkeypatch.setenv("LD_LIBRARY_PATH", str(tmp_path))
    assert "libcudnn.so" in missing_libraries(paddle)["nvidia-cudnn-cu11"]


def test_command_changes_nothing_in_a_cpu_environment():
    """Setup runs the command in every environment. Without NVIDIA's wheels, the command creates no links."""
    paddle = find_paddle()
    assert paddle is not None
    before = sorted(path.name for path in (paddle / "libs").iterdir())
    subprocess.run([sys.executable, "-m", "resnet50_pipeline.trainer.probes.cuda_libraries"], check=True)
    assert sorted(path.name for path in (paddle / "libs").iterdir()) == before
