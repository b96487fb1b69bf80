"""Defines the catalog's Kedro datasets, which replace their file or folder atomically.

The datasets in `kedro-datasets` write directly to the final path. If a run is killed during a write, these datasets
leave an incomplete file, which the next stage or DVC would take for a complete result.
"""

from __future__ import annotations

import base64
import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NewType

from kedro.io import AbstractDataset, DatasetError

from resnet50_pipeline.exceptions import DatasetNotFoundError, ResultNotSavedError
from resnet50_pipeline.files import replace_directory, replacing_file, shorten_path, write_bytes, write_text
from resnet50_pipeline.imagenet.lists.fixes import ReviewCommands, make_review_commands

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

# Kedro-Viz chooses how to show a preview by the name of this type.
TablePreview = NewType("TablePreview", dict[str, Any])
JSONPreview = NewType("JSONPreview", str)
ImagePreview = NewType("ImagePreview", str)

_TEXTS_SAMPLED = 1000
_ENTRIES_IN_PREVIEW = 20


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
                f"{self.filepath} does not exist → first run the pipeline that writes this file (see `kedro registry "
                "describe`), or set its path under conf/"
            )
        return self.filepath


@contextlib.contextmanager
def _saving(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ResultNotSavedError(path, error) from error


class TextFileDataset(_LocalPath):
    """Saves text to a file but loads the file's *path*, because only the ranks read its content."""

    def load(self) -> Path:
        """Return the path of the file."""
        return self._require()

    def save(self, data: str | bytes) -> None:
        """Write text as UTF-8. To avoid a second copy of a large text, pass bytes that are already UTF-8."""
        with _saving(self.filepath):
            write_bytes(self.filepath, data if isinstance(data, bytes) else data.encode())


class PathDataset(_LocalPath):
    """Loads the path of a file or folder, even if it does not exist.

    This dataset is for nodes that write to the path themselves.
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


class ReviewCommandsDataset(AbstractDataset[Any, Any]):
    """Loads the commands that review a file with findings and apply the decisions, for the pages that show them."""

    def __init__(
        self,
        findings: str,
        reviewed: str,
        environment: str | None = None,
        dataset_root: str | None = None,
        metadata: dict[str, Any] | None = None,
    ) -> None:
        self.findings, self.reviewed = Path(findings), Path(reviewed)
        self.environment, self.dataset_root = environment, dataset_root
        self.metadata = metadata

    def load(self) -> ReviewCommands:
        """Return the commands, with paths relative to the current folder if they lie inside that folder."""
        return make_review_commands(self.findings, self.reviewed, self.environment, self.dataset_root)

    def save(self, _data: None) -> None:
        """Raise an error, because the commands follow from the configuration.

        Raises:
            DatasetError: always.
        """
        raise DatasetError("ReviewCommandsDataset is read-only")

    def _describe(self) -> dict[str, Any]:
        return {"findings": str(self.findings), "environment": self.environment}


class JSONDataset(_LocalPath):
    """Loads and saves a JSON object, with indentation. The order of the keys is preserved."""

    def load(self) -> dict[str, Any] | None:
        """Return the object."""
        if self._is_missing():
            return None
        loaded: dict[str, Any] = json.loads(self._require().read_text(encoding="utf-8"))
        return loaded

    def preview(self) -> JSONPreview:
        """Return the object for Kedro-Viz, with at most 20 entries per list, or "" if there is no object."""
        if not self.filepath.exists():
            return JSONPreview("")
        return JSONPreview(json.dumps(_shorten_lists(json.loads(self.filepath.read_text(encoding="utf-8")))))

    def save(self, data: dict[str, Any]) -> None:
        """Write the object."""
        with _saving(self.filepath):
            write_text(self.filepath, json.dumps(data, indent=2, ensure_ascii=False) + "\n")


def _shorten_lists(value: Any) -> Any:
    if isinstance(value, list):
        return [_shorten_lists(one) for one in value[:_ENTRIES_IN_PREVIEW]]
    return {name: _shorten_lists(one) for name, one in value.items()} if isinstance(value, dict) else value


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
        # Arrow holds on to its read buffers, which are as large as the table for ImageNet's manifest.
        pa.default_memory_pool().release_unused()
        return table

    def preview(self) -> TablePreview:
        """Return the first 20 rows for Kedro-Viz, or {} if there is no table."""
        if not self.filepath.exists():
            return TablePreview({})
        import pyarrow.parquet as pq

        batch = next(pq.ParquetFile(self.filepath).iter_batches(_ENTRIES_IN_PREVIEW, columns=self.columns), None)
        if batch is None:
            return TablePreview({})
        return TablePreview(json.loads(batch.to_pandas().to_json(orient="split", date_format="iso")))

    def save(self, data: pd.DataFrame) -> None:
        """Write the DataFrame."""
        with _saving(self.filepath), replacing_file(self.filepath) as temporary:
            data.to_parquet(temporary, index=False)


def _to_pandas(table: pa.Table) -> pd.DataFrame:
    """Convert an Arrow table to a DataFrame, storing repeated strings only once.

    By default, Arrow deduplicates strings with a hash table, which takes 340 MB for ImageNet's 1.33 million unique
    paths and saves nothing.
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
    """Saves a folder by moving a temporary folder to the path, and loads the path.

    Nodes can also write directly to the path and then save the path itself, as training does, so that checkpoints
    survive if the process is killed.
    """

    def load(self) -> Path:
        """Return the path of the folder."""
        return self._require()

    def preview(self, image: str = "") -> ImagePreview:
        """Return an image in the folder for Kedro-Viz, as base64, or "" if the folder has no image with this name."""
        path = self.filepath / image
        return ImagePreview(base64.b64encode(path.read_bytes()).decode("ascii") if image and path.is_file() else "")

    def save(self, data: Path) -> None:
        """Move the folder `data` to the path. Do nothing if `data` is already the path."""
        if data.resolve() != self.filepath.resolve():
            with _saving(self.filepath):
                replace_directory(data, self.filepath)
