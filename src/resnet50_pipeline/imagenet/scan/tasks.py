"""Defines inspection tasks: batches of images that one worker process inspects in sequence."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import repeat
from pathlib import Path

from resnet50_pipeline.imagenet.scan.image_files import inspect_archived, inspect_file, inspect_image
from resnet50_pipeline.imagenet.scan.inspection import ScanLevel

# With these sizes, a task takes about 0.1 s at each level. Sending the task to a worker takes much less time.
_IMAGES_PER_TASK: dict[ScanLevel, int] = {"structure": 2048, "header": 2048, "full": 64}


@dataclass(frozen=True)
class InspectionTask:
    """A batch of images to inspect.

    Attributes:
        root: dataset root, with symbolic links resolved.
        paths: [N] POSIX paths relative to `root`.
        level: depth of the inspection.
        is_walked: True if a walk found that all images are regular files below the root, without links in their paths.
        archive: archive that contains the images; empty for separate files.
        offsets: [N] position of the first byte within the archive; empty for separate files.
        sizes: [N] bytes; may be empty for separate files.
        tiff: whether to accept TIFF files.
    """

    root: str
    paths: Sequence[str]
    level: ScanLevel
    is_walked: bool
    archive: str = ""
    offsets: Sequence[int] = ()
    sizes: Sequence[int] = ()
    tiff: bool = False


# One sequence per field of `Inspection`. Sending columns to another process is faster than sending one record per
# image.
Columns = tuple[tuple[object, ...], ...]
Executor = Callable[[Sequence[InspectionTask]], Iterator[Columns]]


def split_into_tasks(task: InspectionTask) -> list[InspectionTask]:
    """Split a task into tasks of a suitable size for its level, in the same order."""
    size = _IMAGES_PER_TASK[task.level]
    return [
        replace(
            task,
            paths=task.paths[start : start + size],
            offsets=task.offsets[start : start + size],
            sizes=task.sizes[start : start + size],
        )
        for start in range(0, len(task.paths), size)
    ]


def run_task(task: InspectionTask) -> Columns:
    """Inspect the images of a task."""
    if task.archive:
        found = inspect_archived(task.archive, task.offsets, task.sizes, task.level, tiff=task.tiff)
    elif task.is_walked and task.level != "structure":
        prefix = f"{task.root}/"
        sizes = task.sizes or repeat(0)
        found = [
            inspect_file(prefix + path, task.level, size, tiff=task.tiff)
            for path, size in zip(task.paths, sizes, strict=False)
        ]
    else:
        root = Path(task.root)
        found = [inspect_image(root, path, task.level, tiff=task.tiff) for path in task.paths]
    return tuple(zip(*found, strict=True))
