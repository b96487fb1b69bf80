"""What former scans found out about each file, so that only files that changed are read again.

A folder of Arrow files: `known.arrow`, and `new-0001.arrow` … with what a scan found since, one every few seconds. Each
appears by one rename, so a scan that is killed loses the last few seconds of its work and nothing else.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import PIL
import pyarrow as pa
import pyarrow.compute
import pyarrow.ipc
from numpy.typing import NDArray

from resnet50_pipeline.files import replacing_file

logger = logging.getLogger(__name__)

# To be raised when an inspection of the same bytes would find anything else.
_RULES_VERSION = 1
_KNOWN = "known.arrow"
_NEW = "new-*.arrow"
_SCHEMA = pa.schema(
    {
        "path": pa.large_string(),
        "bytes": pa.int64(),
        "mtime_ns": pa.int64(),
        "scan_level": pa.large_string(),
        "format": pa.large_string(),
        "mode": pa.large_string(),
        "width": pa.int64(),
        "height": pa.int64(),
        "sha256": pa.large_string(),
        "exif_orientation": pa.int64(),
        "trailing_bytes": pa.int64(),
        "status": pa.large_string(),
        "problem": pa.large_string(),
    }
)


class ScanCache:
    """The rows of former scans of one dataset folder.

    Attributes:
        rows: columns path, bytes, mtime_ns, scan_level, and those of `Inspection`; each path once.
    """

    def __init__(self, folder: Path, root: Path, archives: Sequence[tuple[str, int, int]] = ()) -> None:
        """Read what is known; nothing where there is no cache, or one of another root, or of older rules.

        Args:
            folder: of the cache; made when there is something to keep.
            root: dataset root, with symbolic links resolved.
            archives: path, size and time of change of each archive that images are read from. Of other archives, or
                of these when they were changed, nothing is known.
        """
        self._folder = folder
        about = {"root": str(root), "rules": _RULES_VERSION, "pillow": PIL.__version__, "archives": list(archives)}
        self._schema = _SCHEMA.with_metadata({"about": json.dumps(about, sort_keys=True)})
        self._parts = sorted(folder.glob(_NEW))
        tables = [table for path in (folder / _KNOWN, *self._parts) if (table := self._read(path)) is not None]
        known = pa.concat_tables([self._schema.empty_table(), *tables])
        self.rows = known if len(tables) < 2 else _keep_last(known)
        self._number = max((int(path.stem.rpartition("-")[2]) for path in self._parts), default=0)

    def find(
        self, paths: pa.LargeStringArray, sizes: NDArray[np.int64], mtimes: NDArray[np.int64], levels: Sequence[str]
    ) -> NDArray[np.int64]:
        """Return the row of each file that is as it was, -1 for the others.

        Args:
            paths: [N] of the files.
            sizes: [N] bytes.
            mtimes: [N] nanoseconds.
            levels: that will do.
        """
        found = _index_in(paths, self.rows["path"])
        if not len(self.rows):
            return found
        same = (self._numbers("bytes")[found] == sizes) & (self._numbers("mtime_ns")[found] == mtimes)
        will_do = pa.compute.is_in(self.rows["scan_level"], pa.array(levels, pa.large_string())).to_numpy()
        return np.where(same & will_do[found], found, -1)

    def add(self, columns: Mapping[str, object]) -> None:
        """Keep what was found about further files, on disk, before this returns."""
        self._number += 1
        path = self._folder / f"new-{self._number:04d}.arrow"
        self._write(path, pa.table(dict(columns), schema=self._schema))
        self._parts.append(path)

    def replace(self, rows: pa.Table) -> None:
        """Make `rows` all that is known."""
        self._write(self._folder / _KNOWN, rows.select(_SCHEMA.names).cast(self._schema))
        for path in self._parts:
            path.unlink(missing_ok=True)
        self._parts.clear()

    @property
    def is_compact(self) -> bool:
        """Whether everything known is in one file."""
        return not self._parts

    def _numbers(self, name: str) -> NDArray[np.int64]:
        numbers: NDArray[np.int64] = self.rows[name].to_numpy()
        return numbers

    def _read(self, path: Path) -> pa.Table | None:
        try:
            with pa.memory_map(str(path)) as source:
                table = pa.ipc.open_file(source).read_all()
        except FileNotFoundError:
            return None
        except (pa.ArrowInvalid, OSError) as error:
            logger.warning("%s cannot be read (%s); its images are read again", path, error)
            return None
        if table.schema.equals(self._schema, check_metadata=True):
            return table
        logger.info("%s is of another dataset root or an older version; its images are read again", path)
        return None

    def _write(self, path: Path, table: pa.Table) -> None:
        with (
            replacing_file(path) as temporary,
            pa.OSFile(str(temporary), "wb") as sink,
            pa.ipc.new_file(sink, table.schema) as writer,
        ):
            writer.write_table(table)


def _index_in(values: pa.LargeStringArray, known: pa.ChunkedArray) -> NDArray[np.int64]:
    """Return where each value is in `known`, -1 where it is not."""
    known = known.combine_chunks()
    if known.equals(values):  # nothing was changed: a comparison instead of a table of a million keys
        return np.arange(len(values))
    index = pa.compute.index_in(values, known)
    return np.asarray(index.fill_null(-1).to_numpy(zero_copy_only=False), np.int64)


def _keep_last(table: pa.Table) -> pa.Table:
    """Return the last row of each path: what was found last."""
    numbered = pa.table({"path": table["path"], "row": np.arange(len(table))})
    last = numbered.group_by("path").aggregate([("row", "max")])["row_max"].combine_chunks()
    return table.take(last.sort())
