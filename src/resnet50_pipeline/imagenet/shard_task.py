"""The making of one shard: what it is made of, whether it is there already, and its members one after the other."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from resnet50_pipeline.exceptions import DatasetError
from resnet50_pipeline.imagenet.shard_member import name_member, pack_image
from resnet50_pipeline.imagenet.shard_set import FORMAT, Packing
from resnet50_pipeline.imagenet.shard_tar import ShardRows, read_shard, write_shard


@dataclass(frozen=True)
class PackedImages:
    """Where the bytes of some images are, in the order in which they are packed. Can be sent to another process.

    Attributes:
        paths: [N] as the list calls them.
        files: [N] files that have their bytes: their own, or an archive.
        offsets: [N] of the first byte in that file.
        sizes: [N] bytes; -1: all of the file.
        digests: [N] SHA-256 that the validation found, hexadecimal; empty where it did not take it.
    """

    paths: Sequence[str]
    files: Sequence[str]
    offsets: Sequence[int]
    sizes: Sequence[int]
    digests: Sequence[str]

    def __len__(self) -> int:
        return len(self.paths)

    def select(self, places: Sequence[int]) -> PackedImages:
        """Return some of the images."""
        columns = (self.paths, self.files, self.offsets, self.sizes, self.digests)
        return PackedImages(*([column[place] for place in places] for column in columns))  # type: ignore[arg-type]

    def name(self, at: int) -> str:
        """Return what messages call an image: its file, or the archive and the image."""
        return self.files[at] if self.sizes[at] < 0 else f"{self.files[at]}:{self.paths[at]}"

    def read(self, at: int) -> bytes:
        """Return the bytes of an image.

        Raises:
            DatasetError: it cannot be read, or is not what was validated.
        """
        file, offset, size, where = self.files[at], self.offsets[at], self.sizes[at], self.name(at)
        try:
            with Path(file).open("rb") as opened:
                opened.seek(offset)
                data = opened.read(size)
        except OSError as error:
            raise DatasetError(
                f"{where}: cannot be read: {error.strerror} → was it moved since validation? Run data_validation again"
            ) from error
        expected = self.digests[at]
        if (size >= 0 and len(data) != size) or (expected and hashlib.sha256(data).hexdigest() != expected):
            raise DatasetError(
                f"{where}: is not the image that was validated (its digest differs) → run data_validation again"
            )
        return data


@dataclass(frozen=True)
class ShardTask:
    """One shard to make.

    Attributes:
        path: of the tar file.
        packing: what is done to the images.
        images: of one class.
    """

    path: Path
    packing: Packing
    images: PackedImages


@dataclass(frozen=True, eq=False)
class MadeShard:
    """One shard that was made.

    Attributes:
        source: digest of what it is made of.
        content: what is in it.
        is_kept: it was there already, and is whole.
        problem: why the one that was there was not kept; empty where there was none.
    """

    source: str
    content: ShardRows
    is_kept: bool
    problem: str


def make_shard(task: ShardTask) -> MadeShard:
    """Make a shard, or keep the one that is there if it is made of the same images in the same way, and whole.

    Raises:
        DatasetError: an image cannot be read or decoded, is not what was validated, or the shard cannot be written.
    """
    source = digest_sources(task)
    problem = ""
    if task.path.exists():
        try:
            return MadeShard(source, read_shard(task.path, source), is_kept=True, problem="")
        except DatasetError as error:
            problem = str(error)
    return MadeShard(source, write_shard(task.path, source, _pack(task)), is_kept=False, problem=problem)


def digest_sources(task: ShardTask) -> str:
    """Return the SHA-256 of everything that a shard's bytes depend on, hexadecimal.

    An image counts with its digest; without one, with its size and its time of change.

    Raises:
        DatasetError: an image is not there.
    """
    digest = hashlib.sha256(f"{FORMAT}\n{task.packing.model_dump_json()}\n".encode())
    images = task.images
    for at, path in enumerate(images.paths):
        digest.update(f"{path}\t{images.digests[at] or _state_of(images, at)}\n".encode())
    return digest.hexdigest()


def _pack(task: ShardTask) -> Iterator[tuple[str, bytes]]:
    for at, path in enumerate(task.images.paths):
        yield name_member(path, task.packing), pack_image(task.images.read(at), task.packing, task.images.name(at))


def _state_of(images: PackedImages, at: int) -> str:
    file = images.files[at]
    try:
        status = Path(file).stat()
    except OSError as error:
        raise DatasetError(
            f"{file}: cannot be read: {error.strerror} → was it moved since validation? Run data_validation again"
        ) from error
    return f"{status.st_size}:{status.st_mtime_ns}:{images.offsets[at]}:{images.sizes[at]}"
