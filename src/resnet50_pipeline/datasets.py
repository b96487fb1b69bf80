"""The Kedro datasets of the catalog: each appears whole, by one rename, or not at all.

`kedro-datasets` opens the final path and writes into it; a run killed there leaves a torn file that the next
stage, or DVC, takes for a result.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kedro.io import AbstractDataset

from resnet50_pipeline.exceptions import DatasetNotFoundError
from resnet50_pipeline.files import replace_directory, replacing_file, write_bytes, write_text

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

_TEXTS_SAMPLED = 1000


class _LocalPath(AbstractDataset[Any, Any]):
    """What the four below share: a local path, and the error when nothing is there.

    With `may_be_missing` that is no error: a table or object loads as None, a text or folder as its path all the same.
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


class TextFileDataset(_LocalPath):
    """Saves a text; loads the *path*, for the ranks read it and not Kedro."""

    def load(self) -> Path:
        """Return the path of the file."""
        return self._require()

    def save(self, data: str | bytes) -> None:
        """Write the text as UTF-8; bytes are one that is in UTF-8 already, as a million lines had better be."""
        write_bytes(self.filepath, data if isinstance(data, bytes) else data.encode())


class JSONDataset(_LocalPath):
    """A JSON object, indented, keys in the order given."""

    def load(self) -> dict[str, Any] | None:
        """Return the object."""
        if self._is_missing():
            return None
        loaded: dict[str, Any] = json.loads(self._require().read_text(encoding="utf-8"))
        return loaded

    def save(self, data: dict[str, Any]) -> None:
        """Write the object."""
        write_text(self.filepath, json.dumps(data, indent=2, ensure_ascii=False) + "\n")


class ParquetDataset(_LocalPath):
    """A pandas table without its index."""

    def __init__(
        self,
        filepath: str,
        columns: list[str] | None = None,
        may_be_missing: bool = False,
        metadata: dict[str, Any] | None = None,
    ) -> None:
        """Take the file, and the columns that are loaded; all, where none are named."""
        super().__init__(filepath, metadata, may_be_missing)
        self.columns = columns

    def load(self) -> pd.DataFrame | None:
        """Return the table."""
        if self._is_missing():
            return None
        import pyarrow as pa
        import pyarrow.parquet as pq

        table = _to_pandas(pq.read_table(self._require(), columns=self.columns))
        # Arrow keeps the memory that it read into: of ImageNet's manifest, as much as the table itself takes.
        pa.default_memory_pool().release_unused()
        return table

    def save(self, data: pd.DataFrame) -> None:
        """Write the table."""
        with replacing_file(self.filepath) as temporary:
            data.to_parquet(temporary, index=False)


def _to_pandas(table: pa.Table) -> pd.DataFrame:
    """Return the table with each repeated text once in memory.

    Arrow does that by itself, with a table of all texts on the way: of 1.33 million paths, no two of which are equal,
    that takes 340 MB to no purpose.
    """
    import pandas as pd

    columns = {
        name: table.select([name]).to_pandas(deduplicate_objects=not _is_various(table[name]))[name]
        for name in table.column_names
    }
    return pd.DataFrame(columns, copy=False)


def _is_various(column: pa.ChunkedArray) -> bool:
    """Tell whether hardly any of the first texts of a column are the same."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if not (pa.types.is_string(column.type) or pa.types.is_large_string(column.type)):
        return False
    sample = column.slice(0, _TEXTS_SAMPLED)
    return bool(pc.count_distinct(sample).as_py() > len(sample) / 2)


class DirectoryDataset(_LocalPath):
    """A folder; saves by taking over a staged one, loads the path.

    A folder that was written in place (checkpoints, which must outlive a killed run) is saved under its own path.
    """

    def load(self) -> Path:
        """Return the path of the folder."""
        return self._require()

    def save(self, data: Path) -> None:
        """Move the staged folder `data` into place, or accept the folder that was written in place."""
        if data.resolve() != self.filepath.resolve():
            replace_directory(data, self.filepath)
