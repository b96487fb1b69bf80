"""Compares a list with a manifest, using whole-column operations because a list can have a million lines."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from resnet50_pipeline.imagenet.lists.files import ListEntries

_MAX_LABEL = 1_000_000


def find_first_difference(entries: ListEntries, paths: NDArray[np.object_], labels: NDArray[np.int64]) -> int | None:
    """Return the index of the first entry that differs from its manifest row, or None if all entries match.

    If the list and the manifest differ in length, the first extra entry of the longer one counts as a difference.

    Args:
        entries: entries with paths relative to the dataset root.
        paths: [N] strings, paths in manifest order.
        labels: [N] labels in manifest order.
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
    """Render manifest rows as a list file. Return None if there are no rows or a label is out of range."""
    if not len(labels) or labels.min() < 0 or labels.max() > _MAX_LABEL:
        return None
    # Format each label only once, because a million rows share about a thousand labels.
    texts = pa.array([f" {label}\n" for label in range(int(labels.max()) + 1)], type=pa.large_string())
    lines = pc.binary_join_element_wise(
        pa.array(paths, type=pa.large_string()), texts.take(pa.array(labels)), pa.scalar("", type=pa.large_string())
    )
    ends = np.frombuffer(lines.buffers()[1], dtype=np.int64)
    return lines.buffers()[2].slice(0, int(ends[len(lines)]) - (not ends_with_newline))
