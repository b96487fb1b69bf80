"""Defines the Kedro datasets in the catalog. They replace their file or folder atomically.

In contrast, the datasets in `kedro-datasets` write directly to the final path. If a run is killed during a write, they
leave an incomplete file, which the next stage or DVC would treat as a complete result.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kedro.io import AbstractDataset, DatasetError

from resnet50_pipeline.exceptions import DatasetNotFoundError, ResultNotSavedError
from resnet50_pipeline.files import replace_directory, replacing_file, shorten_path, write_bytes, write_text

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

_TEXTS_SAMPLED = 1000


class _LocalPath(AbstractDataset[Any, Any]):
    """Base class for datasets with a local path. Loading raises an error if the path does not exist.

    If `may_be_missing` is true, a missing path is not an error. Tables and JSON objects then load as None; text files
    and folders load as their path.
    """

    def __init__(self, filepath: str, metadata: dict[str, Any] | None = None, may_be_missing: bool = False) -> None:
        self.filepath = Path(filepath)
        self.may_be_missing = may_be_missing
        self.metadata = metadata

    def _describe(self) -> dict[str, Any]:
        return {"filepath": str(self.filepath)}

    def _exists(self) -> bool:
        return self.filepath.exists()

    def _is_missing(self) -> bool:
        return self.may_be_missing and not self.filepath.exists()

    def _require(self) -> Path:
        if not self.filepath.exists() and not self.may_be_missing:
            raise DatasetNotFoundError(
                f"{self.filepath} does not exist; run the pipeline that writes it first "
                f"(`kedro registry describe` lists them), or set its path under conf/"
            )
        return self.filepath


@contextlib.contextmanager
def _saving(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ResultNotSavedError(path, error) from error


class TextFileDataset(_LocalPath):
    """Saves text to a file but loads the *path* of the file, because the ranks, not Kedro, read it."""

    def load(self) -> Path:
        """Return the path of the file."""
        return self._require()

    def save(self, data: str | bytes) -> None:
        """Write text as UTF-8, or bytes that are already UTF-8. Passing bytes avoids a second copy of a large text."""
        with _saving(self.filepath):
            write_bytes(self.filepath, data if isinstance(data, bytes) else data.encode())


class PathDataset(_LocalPath):
    """Loads the path of a file or folder, even if it does not exist.

    Used by nodes that write to the path themselves.
    """

    def __init__(self, filepath: str, metadata: dict[str, Any] | None = None) -> None:
        super().__init__(filepath, metadata, may_be_missing=True)

    def load(self) -> Path:
        """Return the path, relative to the current folder if it lies inside that folder."""
        return shorten_path(self.filepath)

    def save(self, _data: None) -> None:
        """Raise an error, because another catalog entry saves to the same path.

        Raises:
            DatasetError: always.
        """
        raise DatasetError(f"{self.filepath}: PathDataset is read-only")


class JSONDataset(_LocalPath):
    """Loads and saves a JSON object, with indentation. The order of the keys is preserved."""

    def load(self) -> dict[str, Any] | None:
        """Return the object."""
        if self._is_missing():
            return None
        loaded: dict[str, Any] = json.loads(self._require().read_text(encoding="utf-8"))
        return loaded

    def save(self, data: dict[str, Any]) -> None:
        """Write the object."""
        with _saving(self.filepath):
            write_text(self.filepath, json.dumps(data, indent=2, ensure_ascii=False) + "\n")


class ParquetDataset(_LocalPath):
    """Loads and saves a pandas DataFrame in Parquet format, without its index."""

    def __init__(
        self,
        filepath: str,
        columns: list[str] | None = None,
        may_be_missing: bool = False,
        metadata: dict[str, Any] | None = None,
    ) -> None:
        """Set the file and the columns to load; None loads all columns."""
        super().__init__(filepath, metadata, may_be_missing)
        self.columns = columns

    def load(self) -> pd.DataFrame | None:
        """Return the DataFrame."""
        if self._is_missing():
            return None
        import pyarrow as pa
        import pyarrow.parquet as pq

        table = _to_pandas(pq.read_table(self._require(), columns=self.columns))
        # Arrow does not release its read buffers. For ImageNet's manifest, they are as large as the table.
        pa.default_memory_pool().release_unused()
        return table

    def save(self, data: pd.DataFrame) -> None:
        """Write the DataFrame."""
        with _saving(self.filepath), replacing_file(self.filepath) as temporary:
            data.to_parquet(temporary, index=False)


def _to_pandas(table: pa.Table) -> pd.DataFrame:
    """Convert an Arrow table to a DataFrame, storing repeated strings only once.

    By default, Arrow deduplicates strings with a hash table. For ImageNet's 1.33 million unique paths, this hash table
    needs 340 MB and saves nothing.
    """
    import pandas as pd

    columns = {
        name: table.select([name]).to_pandas(deduplicate_objects=not _is_mostly_distinct(table[name]))[name]
        for name in table.column_names
    }
    return pd.DataFrame(columns, copy=False)


def _is_mostly_distinct(column: pa.ChunkedArray) -> bool:
    """Return whether most of the strings at the beginning of a column are distinct."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if not (pa.types.is_string(column.type) or pa.types.is_large_string(column.type)):
        return False
    sample = column.slice(0, _TEXTS_SAMPLED)
    return bool(pc.count_distinct(sample).as_py() > len(sample) / 2)


class DirectoryDataset(_LocalPath):
    """Saves a folder by moving a temporary folder to the path. Loads the path of the folder.

    A node may also write directly to the path and then save the path itself. Training does this, because its
    checkpoints must remain if the process is killed.
    """

    def load(self) -> Path:
        """Return the path of the folder."""
        return self._require()

    def save(self, data: Path) -> None:
        """Move the folder `data` to the path. Do nothing if `data` is already the path."""
        if data.resolve() != self.filepath.resolve():
            with _saving(self.filepath):
                replace_directory(data, self.filepath)
