"""Splits an inspection into tasks. A task is a batch of images for one worker process."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import repeat
from pathlib import Path

from resnet50_pipeline.imagenet.scan.image_files import inspect_archived, inspect_file, inspect_image
from resnet50_pipeline.imagenet.scan.inspection import Inspection, ScanLevel
from resnet50_pipeline.imaging.content.measures import Measures, measure_content

# With these sizes, a task takes about 0.1 s, much longer than sending it to a worker.
_IMAGES_PER_TASK: dict[ScanLevel, int] = {"structure": 2048, "header": 2048, "full": 64}


@dataclass(frozen=True)
class InspectionTask:
    """A batch of images to inspect.

    Attributes:
        root: dataset root, with symbolic links resolved.
        paths: [N] POSIX paths relative to `root`.
        level: depth of the inspection.
        is_walked: True if a walk found all images as regular files, with no links in their paths below the root.
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


COLUMN_NAMES = (*(name for name in Inspection._fields if name != "small"), *Measures._fields)
"""Names of the columns that `run_task` returns."""
# One sequence per column, which is faster to send between processes than one record per image.
Columns = tuple[tuple[object, ...], ...]
Executor = Callable[[Sequence[InspectionTask]], Iterator[Columns]]


def split_into_tasks(task: InspectionTask) -> list[InspectionTask]:
    """Split a task into tasks of the right size for its level. The order of the images stays the same."""
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
    """Inspect the images in a task, and measure their content if they are decoded."""
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
    # Decode all images before measuring any of them. Alternating would double the time for measuring, because decoding
    # evicts the measuring code from the processor's caches.
    measures = [Measures() if one.small is None else measure_content(one.small) for one in found]
    *columns, _ = zip(*found, strict=True)
    return (*columns, *zip(*measures, strict=True))
