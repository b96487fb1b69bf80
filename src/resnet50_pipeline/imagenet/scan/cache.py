"""Caches inspection results between scans, so that only new and changed files are read again.

The cache has one folder of Arrow files per dataset. `known.arrow` contains the results of earlier scans. Every few
seconds, the current scan saves its new results to `new-0001.arrow`, `new-0002.arrow` and so on. Each file is moved into
place with a single rename, so a scan that is killed loses only a few seconds of work.
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
from resnet50_pipeline.imaging.content.measures import SCORES
from resnet50_pipeline.imaging.decode import describe_decoders

logger = logging.getLogger(__name__)

# Increment this number when inspecting the same bytes may yield a different result.
_RULES_VERSION = 5
_KNOWN = "known.arrow"
_NEW = "new-*.arrow"
# Keep several caches for users who switch between datasets or copies of a dataset. ImageNet's cache takes about 230 MB.
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
        "difference_hash": pa.large_string(),
        **dict.fromkeys(SCORES, pa.float32()),
    }
)


class ScanCache:
    """Cached results from earlier scans of one dataset folder.

    A row is valid while the file's size and modification time stay the same. Comparing hashes would require reading
    the file again.

    Attributes:
        rows: columns path, bytes, mtime_ns, inode, scan_level, and the columns of `run_task`; each path occurs once.
    """

    def __init__(
        self, folder: Path, root: Path, archives: Sequence[tuple[str, int, int]] = (), *, tiff: bool = False
    ) -> None:
        """Load the cache. It is empty if none is stored, or if the inspection rules have changed since it was stored.

        Args:
            folder: folder for the caches of all datasets; created on the first write.
            root: dataset root, with symbolic links resolved.
            archives: path, size and modification time of each archive that contains images. The cache is discarded if
                any archive changes.
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
        """Return the cache row of each unchanged file, or -1 for new and changed files.

        Args:
            paths: [N] paths of the files.
            sizes: [N] bytes.
            mtimes: [N] nanoseconds since 1970.
            levels: scan levels to accept.
        """
        found = _index_in(paths, self.rows["path"])
        if not len(self.rows):
            return found
        same = (self._numeric_column("bytes")[found] == sizes) & (self._numeric_column("mtime_ns")[found] == mtimes)
        is_acceptable = pa.compute.is_in(self.rows["scan_level"], pa.array(levels, pa.large_string())).to_numpy()
        return np.where(same & is_acceptable[found], found, -1)

    def add(self, columns: Mapping[str, object]) -> None:
        """Append results to the cache and write them to disk."""
        self._number += 1
        path = self._folder / f"new-{self._number:04d}.arrow"
        self._write(path, pa.table(dict(columns), schema=self._schema))
        self._parts.append(path)

    def replace(self, rows: pa.Table) -> None:
        """Replace the contents of the cache with `rows`."""
        self._write(self._folder / _KNOWN, rows.select(_SCHEMA.names).cast(self._schema))
        # Delete the parts only after the rename. If the process is killed in between, they merely repeat some rows.
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
            logger.warning("%s: cannot be read (%s); inspecting its images again", path, error)
            return None
        if table.schema.equals(self._schema, check_metadata=True):
            return table
        logger.info("%s: written by an older version or for other archives; inspecting its images again", path)
        return None

    def _write(self, path: Path, table: pa.Table) -> None:
        """Write a table, or warn if it cannot be written. The next scan then reads the images again."""
        try:
            with (
                replacing_file(path) as temporary,
                pa.OSFile(str(temporary), "wb") as sink,
                pa.ipc.new_file(sink, table.schema) as writer,
            ):
                writer.write_table(table)
        except OSError as error:
            logger.warning("%s: cannot be written (%s); the next scan will read its images again", path, error.strerror)


def _index_in(values: pa.LargeStringArray, known: pa.ChunkedArray) -> NDArray[np.int64]:
    """Return the index of each value in `known`, or -1 if `known` does not contain the value."""
    known = known.combine_chunks()
    if known.equals(values):  # usually true, and much faster than hashing a million keys
        return np.arange(len(values))
    index = pa.compute.index_in(values, known)
    return np.asarray(index.fill_null(-1).to_numpy(zero_copy_only=False), np.int64)


def _drop_superseded(table: pa.Table) -> pa.Table:
    """Keep only the last, newest row of each path."""
    numbered = pa.table({"path": table["path"], "row": np.arange(len(table))})
    last = numbered.group_by("path").aggregate([("row", "max")])["row_max"].combine_chunks()
    return table.take(last.sort())
