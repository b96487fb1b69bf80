"""Links CUDA libraries from NVIDIA's wheels into Paddle, and shows which libraries and GPUs a build of Paddle can use.

    python -m resnet50_pipeline.trainer.probes.cuda_libraries  # after every installation of a GPU build

`make setup GPU=1` and the Dockerfile run this command. Paddle 2.6 opens its CUDA libraries by unversioned names such as
`libcudnn.so`. NVIDIA's wheels contain only versioned names, in folders that the dynamic loader does not search. The
command links them into `paddle/libs`, where the loader looks for every library that Paddle opens, after
`LD_LIBRARY_PATH` and before the system folders. Programs therefore need no environment variable.
"""

from __future__ import annotations

import ctypes
import importlib.util
import os
import struct
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

# The libraries that Paddle 2.6.2 opens during training (phi/backends/dynload/dynamic_loader.cc), and their wheels.
LIBRARIES = {
    "libcublas.so": "nvidia-cublas-cu11",
    "libcublasLt.so": "nvidia-cublas-cu11",
    "libcudnn.so": "nvidia-cudnn-cu11",
    "libcufft.so": "nvidia-cufft-cu11",
    "libcurand.so": "nvidia-curand-cu11",
    "libcusolver.so": "nvidia-cusolver-cu11",
    "libcusparse.so": "nvidia-cusparse-cu11",
    "libnccl.so": "nvidia-nccl-cu11",
    "libnvrtc.so": "nvidia-cuda-nvrtc-cu11",
}
_WHEEL_FOLDERS = ("cublas", "cuda_nvrtc", "cudnn", "cufft", "curand", "cusolver", "cusparse", "nccl")
# dynamic_loader.cc searches this folder last, and only for some libraries.
_SYSTEM_CUDA = Path("/usr/local/cuda/lib64")
# From fatbinary_section.h and fatBinaryCtl.h in the CUDA toolkit.
_FATBIN_MAGIC, _PTX = 0xBA55ED50, 1


class Kernels(NamedTuple):
    """The GPUs for which a library has kernels, as compute capabilities times 10, such as 86.

    Attributes:
        machine_code: a GPU runs machine code for its own major version and the same or an earlier minor version.
        ptx: the driver compiles PTX for GPUs with the same or a later capability.
    """

    machine_code: tuple[int, ...]
    ptx: tuple[int, ...]

    def run_on(self, capability: tuple[int, int]) -> bool:
        """Return whether a GPU with this compute capability can run the kernels (CUDA C++ Programming Guide, 3.1)."""
        major, minor = capability
        same_major = [number % 10 for number in self.machine_code if number // 10 == major]
        return any(number <= minor for number in same_major) or any(number <= 10 * major + minor for number in self.ptx)

    def __str__(self) -> str:
        """Return a list such as "6.1, 7.0, 7.5", or "7.5, 8.0 and later" if there is PTX for 8.0."""
        texts = [f"{number // 10}.{number % 10}" for number in sorted({*self.machine_code, *self.ptx})]
        return ", ".join(texts) + (" and later" if self.ptx else "")


def find_paddle() -> Path | None:
    """Return the folder of the installed Paddle without importing it, or None if Paddle is not installed."""
    spec = importlib.util.find_spec("paddle")
    return None if spec is None or spec.origin is None else Path(spec.origin).parent


def link_wheels(paddle: Path) -> list[Path]:
    """Create links in `paddle/libs` to the libraries in NVIDIA's wheels, and return the links.

    Each library is linked under both its versioned and its unversioned name. Links to wheels that are no longer
    installed are removed.
    """
    folder, wheels = paddle / "libs", paddle.parent / "nvidia"
    for link in folder.glob("lib*.so*"):
        if link.is_symlink() and link.readlink().parts[:3] == ("..", "..", "nvidia"):
            link.unlink()
    links = []
    for library in sorted(file for name in _WHEEL_FOLDERS for file in wheels.glob(f"{name}/lib/lib*.so.*")):
        # cuDNN's parts load each other by their versioned names, from the folder that contains the link.
        for name in (library.name, library.name.partition(".so")[0] + ".so"):
            link = folder / name
            if not link.exists():
                link.symlink_to(os.path.relpath(library, folder))
                links.append(link)
    return links


def missing_libraries(paddle: Path) -> dict[str, str]:
    """Load the libraries that a rank with Paddle 2.6 loads. Return the first error for each wheel that fails.

    This needs neither a driver nor a GPU. The libraries stay loaded.
    """
    # Search in the order of dynamic_loader.cc: LD_LIBRARY_PATH, Paddle's folder, system folders, CUDA's default folder.
    folders = [Path(folder) for folder in os.environ.get("LD_LIBRARY_PATH", "").split(os.pathsep) if folder]
    errors: dict[str, str] = {}
    for name, wheel in LIBRARIES.items():
        own = [str(folder / name) for folder in (*folders, paddle / "libs") if (folder / name).exists()]
        failures = []
        for candidate in (*own[:1], name, str(_SYSTEM_CUDA / name)):
            try:
                ctypes.CDLL(candidate)
                break
            except OSError as error:
                failures.append(str(error))
        else:
            errors.setdefault(wheel, failures[0])
    return errors


def read_kernels(paddle: Path) -> Kernels:
    """Return the GPUs that Paddle's own kernels were compiled for, according to its libraries. CPU builds have none.

    The few kernels for other GPUs in some statically linked libraries are ignored.
    """
    found: Counter[tuple[bool, int]] = Counter()
    for library in sorted((paddle / "libs").glob("libphi*.so")):
        with library.open("rb") as file:
            found.update(_read_fatbins(file))
    common = [key for key, count in found.items() if 2 * count >= max(found.values())]
    return Kernels(
        machine_code=tuple(sorted(number for is_ptx, number in common if not is_ptx)),
        ptx=tuple(sorted(number for is_ptx, number in common if is_ptx)),
    )


def _read_fatbins(file: BinaryIO) -> Iterator[tuple[bool, int]]:
    """For each kernel image in a 64-bit ELF file, yield whether it is PTX, and its compute capability times 10.

    This function reads only the headers, because the images in Paddle 2.6.2 take up 1.8 GB. nvcc writes fat binaries to
    the section `.nv_fatbin`. Each fat binary starts with a 16-byte header (magic number, version, header size, total
    size of the images), followed by the images, each with its own header.
    """
    for start, size in _sections(file, b".nv_fatbin"):
        position = start
        while position < start + size:
            magic, _, header_size, images_size = struct.unpack("<IHHQ", _read(file, position, 16))
            if magic != _FATBIN_MAGIC:
                position += 8  # fat binaries are aligned to 8 bytes
                continue
            image, position = position + header_size, position + header_size + images_size
            while image < position:
                kind, _, image_header_size, image_size = struct.unpack("<HHIQ", _read(file, image, 16))
                (capability,) = struct.unpack("<I", _read(file, image + 28, 4))
                yield kind == _PTX, capability
                image += image_header_size + image_size


def _sections(file: BinaryIO, wanted: bytes) -> Iterator[tuple[int, int]]:
    """Yield the offset and the size of each section with this name. See elf(5)."""
    header = _read(file, 0, 64)
    (table,) = struct.unpack_from("<Q", header, 40)
    entry_size, count, names_index = struct.unpack_from("<HHH", header, 58)
    entries = [struct.unpack("<IIQQQQ", _read(file, table + entry_size * index, 40)) for index in range(count)]
    if not entries:
        return
    names = _read(file, entries[names_index][4], entries[names_index][5])
    for name, _, _, _, offset, size in entries:
        if names[name : names.index(b"\0", name)] == wanted:
            yield offset, size


def _read(file: BinaryIO, position: int, size: int) -> bytes:
    file.seek(position)
    return file.read(size)


def main() -> int:
    """Link the libraries, and return the exit code."""
    paddle = find_paddle()
    if paddle is not None and (paddle / "libs").is_dir():
        link_wheels(paddle)
    return 0


if __name__ == "__main__":
    sys.exit(main())
