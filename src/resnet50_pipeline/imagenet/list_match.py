"""Whether a list still says what the manifest's rows say, a million lines at a time."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from resnet50_pipeline.imagenet.list_files import ListEntries

_MAX_LABEL = 1_000_000


def find_first_difference(entries: ListEntries, paths: NDArray[np.object_], labels: NDArray[np.int64]) -> int | None:
    """Return the index of the first entry that is not the row at its place, or None where all are the same.

    Where one of the two ends before the other, that is the first difference.

    Args:
        entries: paths relative to the dataset root.
        paths: [N] strings, of the manifest, in its order.
        labels: [N] of the manifest.
    """
    if entries.plain is not None:
        rendered = _render(paths, labels, entries.ends_with_newline)
        if rendered is not None and rendered.equals(pa.py_buffer(entries.plain.data)):
            return None
    found = zip(entries.paths, entries.labels.tolist(), strict=True)
    expected = zip(paths.tolist(), labels.tolist(), strict=True)
    for index, (one, other) in enumerate(zip(found, expected, strict=False)):
        if one != other:
            return index
    return None if len(entries) == len(paths) else min(len(entries), len(paths))


def _render(paths: NDArray[np.object_], labels: NDArray[np.int64], ends_with_newline: bool) -> pa.Buffer | None:
    """Return the list file of the rows, or None where there are none, or labels that no list of theirs would have."""
    if not len(labels) or labels.min() < 0 or labels.max() > _MAX_LABEL:
        return None
    # Each label is turned into text once, and there are a thousand of them, not a million.
    texts = pa.array([f" {label}\n" for label in range(int(labels.max()) + 1)], type=pa.large_string())
    lines = pc.binary_join_element_wise(
        pa.array(paths, type=pa.large_string()), texts.take(pa.array(labels)), pa.scalar("", type=pa.large_string())
    )
    ends = np.frombuffer(lines.buffers()[1], dtype=np.int64)
    return lines.buffers()[2].slice(0, int(ends[len(lines)]) - (not ends_with_newline))
