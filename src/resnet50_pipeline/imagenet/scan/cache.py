"""Caches inspection results between scans, so that only new and changed files are read again.

The cache has one folder of Arrow files per dataset. `known.arrow` contains the results of earlier scans.
The current scan writes its results to `new-0001.arrow` and so on, every few seconds. Each file is moved into place
with a single rename, so a killed scan loses only the last few seconds of its work.
"""

from __future__ import annotations

import hashlib
import json
import logging
import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute
import pyarrow.ipc
from numpy.typing import NDArray

from resnet50_pipeline.files import replacing_file
from resnet50_pipeline.imaging.decode import describe_decoders

logger = logging.getLogger(__name__)

# Increment this when inspecting the same bytes could produce a different result.
_RULES_VERSION = 3
_KNOWN = "known.arrow"
_NEW = "new-*.arrow"
# Keep several caches, because a user may alternate between datasets or between copies of a dataset. ImageNet's cache
# takes about 150 MB.
_MAX_DATASETS = 8
_DATASET_FOLDER = re.compile("[0-9a-f]{16}")
_SCHEMA = pa.schema(
    {
        "path": pa.large_string(),
        "bytes": pa.int64(),
        "mtime_ns": pa.int64(),
        "inode": pa.int64(),
        "scan_level": pa.large_string(),
        "format": pa.large_string(),
        "mode": pa.large_string(),
        "width": pa.int64(),
        "height": pa.int64(),
        "sha256": pa.large_string(),
        "exif_orientation": pa.int64(),
        "trailing_bytes": pa.int64(),
        "ignored": pa.large_string(),
        "status": pa.large_string(),
        "problem": pa.large_string(),
    }
)


class ScanCache:
    """Cached results from earlier scans of one dataset folder.

    A row is valid as long as the file keeps its size and modification time. The cache does not compare hashes, because
    computing a hash requires reading the file again.

    Attributes:
        rows: columns path, bytes, mtime_ns, inode, scan_level, and the fields of `Inspection`; each path occurs once.
    """

    def __init__(
        self, folder: Path, root: Path, archives: Sequence[tuple[str, int, int]] = (), *, tiff: bool = False
    ) -> None:
        """Load the cache.

        Start with an empty cache if none is stored, or if the stored one was built with different rules.

        Args:
            folder: folder for the caches of all datasets; created on the first write.
            root: dataset root, with symbolic links resolved.
            archives: path, size and modification time of each archive that contains images. If any of
                these values changes, the cache is discarded.
            tiff: whether the scan accepts TIFF files.
        """
        key = json.dumps([str(root), [path for path, _, _ in archives]])
        self._folder = folder / hashlib.sha256(key.encode()).hexdigest()[:16]
        about = {"root": str(root), "rules": _RULES_VERSION, "archives": list(archives)}
        about |= {"decoders": describe_decoders(), "tiff": tiff}
        self._schema = _SCHEMA.with_metadata({"about": json.dumps(about, sort_keys=True)})
        self._parts = sorted(self._folder.glob(_NEW))
        tables = [table for path in (self._folder / _KNOWN, *self._parts) if (table := self._read(path)) is not None]
        known = pa.concat_tables([self._schema.empty_table(), *tables])
        self.rows = known if len(tables) < 2 else _drop_superseded(known)
        self._number = max((int(path.stem.rpartition("-")[2]) for path in self._parts), default=0)

    def find(
        self, paths: pa.LargeStringArray, sizes: NDArray[np.int64], mtimes: NDArray[np.int64], levels: Sequence[str]
    ) -> NDArray[np.int64]:
        """Return the cache row of each unchanged file, and -1 for new and changed files.

        Args:
            paths: [N] paths of the files.
            sizes: [N] bytes.
            mtimes: [N] nanoseconds since 1970.
            levels: acceptable scan levels of a row.
        """
        found = _index_in(paths, self.rows["path"])
        if not len(self.rows):
            return found
        same = (self._numeric_column("bytes")[found] == sizes) & (self._numeric_column("mtime_ns")[found] == mtimes)
        will_do = pa.compute.is_in(self.rows["scan_level"], pa.array(levels, pa.large_string())).to_numpy()
        return np.where(same & will_do[found], found, -1)

    def add(self, columns: Mapping[str, object]) -> None:
        """Append results to the cache and write them to disk."""
        self._number += 1
        path = self._folder / f"new-{self._number:04d}.arrow"
        self._write(path, pa.table(dict(columns), schema=self._schema))
        self._parts.append(path)

    def replace(self, rows: pa.Table) -> None:
        """Replace the contents of the cache with `rows`."""
        self._write(self._folder / _KNOWN, rows.select(_SCHEMA.names).cast(self._schema))
        # Delete the parts only after the rename. If the process is killed in between, the parts only repeat rows that
        # are already in `rows`.
        for path in self._parts:
            path.unlink(missing_ok=True)
        self._parts.clear()
        self._delete_oldest()

    def delete(self) -> None:
        """Delete the results for this dataset, so that the next scan reads all files."""
        shutil.rmtree(self._folder, ignore_errors=True)

    @property
    def is_compact(self) -> bool:
        """True if all rows are in one file."""
        return not self._parts

    def _delete_oldest(self) -> None:
        """Delete the caches of the least recently scanned datasets, and any cache in an older format."""
        parent = self._folder.parent
        if not self._folder.is_dir():
            return
        for path in (parent / _KNOWN, *parent.glob(_NEW)):
            path.unlink(missing_ok=True)
        others = [path for path in parent.iterdir() if _DATASET_FOLDER.fullmatch(path.name) and path != self._folder]
        others.sort(key=lambda path: path.stat().st_mtime_ns, reverse=True)
        for path in others[_MAX_DATASETS - 1 :]:
            shutil.rmtree(path, ignore_errors=True)

    def _numeric_column(self, name: str) -> NDArray[np.int64]:
        numbers: NDArray[np.int64] = self.rows[name].to_numpy()
        return numbers

    def _read(self, path: Path) -> pa.Table | None:
        try:
            with pa.memory_map(str(path)) as source:
                table = pa.ipc.open_file(source).read_all()
        except FileNotFoundError:
            return None
        except (pa.ArrowInvalid, OSError) as error:
            logger.warning("%s: cannot be read (%s); its images are inspected again", path, error)
            return None
        if table.schema.equals(self._schema, check_metadata=True):
            return table
        logger.info("%s: belongs to an older version or to other archives; its images are inspected again", path)
        return None

    def _write(self, path: Path, table: pa.Table) -> None:
        """Write a table. If the disk is full or read-only, the images are simply read again next time."""
        try:
            with (
                replacing_file(path) as temporary,
                pa.OSFile(str(temporary), "wb") as sink,
                pa.ipc.new_file(sink, table.schema) as writer,
            ):
                writer.write_table(table)
        except OSError as error:
            logger.warning("%s: cannot be written (%s); the next scan reads these images again", path, error.strerror)


def _index_in(values: pa.LargeStringArray, known: pa.ChunkedArray) -> NDArray[np.int64]:
    """Return the index of each value in `known`, and -1 for values that are not in it."""
    known = known.combine_chunks()
    if known.equals(values):  # usually true, and much faster than building a hash table of a million keys
        return np.arange(len(values))
    index = pa.compute.index_in(values, known)
    return np.asarray(index.fill_null(-1).to_numpy(zero_copy_only=False), np.int64)


def _drop_superseded(table: pa.Table) -> pa.Table:
    """Keep only the last row for each path, which is the newest."""
    numbered = pa.table({"path": table["path"], "row": np.arange(len(table))})
    last = numbered.group_by("path").aggregate([("row", "max")])["row_max"].combine_chunks()
    return table.take(last.sort())
