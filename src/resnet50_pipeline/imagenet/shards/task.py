"""Builds one shard, or keeps the existing one if it is complete and was made from the same inputs."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from resnet50_pipeline.exceptions import DatasetError
from resnet50_pipeline.imagenet.shards.member import name_shard_member, pack_image
from resnet50_pipeline.imagenet.shards.shard_set import FORMAT, Packing
from resnet50_pipeline.imagenet.shards.tar import ShardRows, read_shard, write_shard


@dataclass(frozen=True)
class PackedImages:
    """Locations of images, in packing order. Picklable.

    Attributes:
        paths: [N] paths as in the list.
        files: [N] files that contain the bytes: image files or archives.
        offsets: [N] position of the first byte in the file.
        sizes: [N] bytes; -1 means the entire file.
        digests: [N] hexadecimal SHA-256 computed by validation; empty if it was not computed.
    """

    paths: Sequence[str]
    files: Sequence[str]
    offsets: Sequence[int]
    sizes: Sequence[int]
    digests: Sequence[str]

    def __len__(self) -> int:
        return len(self.paths)

    def select(self, indices: Sequence[int]) -> PackedImages:
        """Return the images at the given indices."""
        columns = (self.paths, self.files, self.offsets, self.sizes, self.digests)
        return PackedImages(*([column[index] for index in indices] for column in columns))  # type: ignore[arg-type]

    def name(self, index: int) -> str:
        """Return an image's location for error messages: its file, or its archive and its path in the archive."""
        return self.files[index] if self.sizes[index] < 0 else f"{self.files[index]}:{self.paths[index]}"

    def read(self, index: int) -> bytes:
        """Return the bytes of an image.

        Raises:
            DatasetError: if the image cannot be read or has changed since validation.
        """
        offset, size, where = self.offsets[index], self.sizes[index], self.name(index)
        try:
            with Path(self.files[index]).open("rb") as opened:
                opened.seek(offset)
                data = opened.read(size)
        except OSError as error:
            raise DatasetError(
                f"{where} cannot be read: {error.strerror} → restore the file if it was moved, or run data_validation "
                "again"
            ) from error
        expected = self.digests[index]
        if (size >= 0 and len(data) != size) or (expected and hashlib.sha256(data).hexdigest() != expected):
            raise DatasetError(f"{where} has changed since validation (its digest differs) → run data_validation again")
        return data


@dataclass(frozen=True)
class ShardTask:
    """Inputs for building one shard.

    Attributes:
        path: path of the tar file.
        packing: how the images are packed.
        images: images of one class.
        tiff: whether to accept TIFF files.
    """

    path: Path
    packing: Packing
    images: PackedImages
    tiff: bool = False


@dataclass(frozen=True, eq=False)
class BuiltShard:
    """The outcome of building or keeping one shard.

    Attributes:
        source: digest of its inputs.
        content: its members.
        is_kept: True if the existing shard was complete and was kept.
        problem: why the existing shard was replaced; empty if there was none.
    """

    source: str
    content: ShardRows
    is_kept: bool
    problem: str


def build_shard(task: ShardTask) -> BuiltShard:
    """Build a shard unless a complete one with the same images and packing exists.

    Raises:
        DatasetError: if an image cannot be read or decoded or has changed since validation, or the shard cannot be
            written.
    """
    source = digest_sources(task)
    problem = ""
    if task.path.exists():
        try:
            return BuiltShard(source, read_shard(task.path, source), is_kept=True, problem="")
        except DatasetError as error:
            problem = str(error)
    return BuiltShard(source, write_shard(task.path, source, _pack(task)), is_kept=False, problem=problem)


def digest_sources(task: ShardTask) -> str:
    """Return the hexadecimal SHA-256 of all inputs that affect the bytes of a shard.

    An image is represented by its digest or, if validation did not compute one, by its size and modification time.

    Raises:
        DatasetError: if an image is missing.
    """
    digest = hashlib.sha256(f"{FORMAT}\n{task.packing.model_dump_json()}\n".encode())
    images = task.images
    for index, path in enumerate(images.paths):
        digest.update(f"{path}\t{images.digests[index] or _describe_file_state(images, index)}\n".encode())
    return digest.hexdigest()


def _pack(task: ShardTask) -> Iterator[tuple[str, bytes]]:
    for index, path in enumerate(task.images.paths):
        yield (
            name_shard_member(path, task.packing),
            pack_image(task.images.read(index), task.packing, task.images.name(index), tiff=task.tiff),
        )


def _describe_file_state(images: PackedImages, index: int) -> str:
    file = images.files[index]
    try:
        status = Path(file).stat()
    except OSError as error:
        raise DatasetError(
            f"{file} cannot be read: {error.strerror} → restore the file if it was moved, or run data_validation again"
        ) from error
    return f"{status.st_size}:{status.st_mtime_ns}:{images.offsets[index]}:{images.sizes[index]}"
