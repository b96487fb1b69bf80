"""Updates the artifact locations in an MLflow database file after `tracking.artifact_root` or the project has moved.

MLflow stores an experiment's absolute artifact location when it creates the experiment, and has no API to change this
location. After a move, new runs would therefore write to the old location, and models would not be found.
"""

from __future__ import annotations

import contextlib
import logging
import sqlite3
from pathlib import Path
from urllib.parse import unquote, urlsplit

logger = logging.getLogger(__name__)

# Columns with artifact locations in MLflow's tables.
_COLUMNS = (
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "source"),
    ("model_versions", "storage_location"),
)
_BUSY_SECONDS = 30.0


def follow_artifact_root(database: Path, experiment: str, location: str) -> None:
    """Make new runs of an experiment store their artifacts at `location`.

    Existing runs and models are updated too if the old folder no longer exists, and either the new folder exists or the
    whole project was moved.

    Args:
        database: MLflow's database file. The file may not exist yet.
        experiment: name of the experiment.
        location: `file:` URI of a folder.
    """
    if not database.is_file():
        return
    with contextlib.closing(sqlite3.connect(database, timeout=_BUSY_SECONDS)) as connection:
        try:
            found = connection.execute(
                "SELECT artifact_location FROM experiments WHERE name = ?", (experiment,)
            ).fetchone()
        except sqlite3.OperationalError:  # a new file without tables
            return
        if found is None or found[0] == location:
            return
        old = str(found[0])
        with connection:
            connection.execute("UPDATE experiments SET artifact_location = ? WHERE name = ?", (location, experiment))
            has_moved = _has_moved(_path_of(old), _path_of(location))
            for table, column in _COLUMNS if has_moved else ():
                _replace_prefix(connection, table, column, old, location)
    logger.info("artifacts of experiment %s are now stored in %s instead of %s", experiment, location, old)


def _replace_prefix(connection: sqlite3.Connection, table: str, column: str, old: str, new: str) -> None:
    # The names are constants of this module, and the values are bound parameters.
    connection.execute(
        f"UPDATE {table} SET {column} = ? || substr({column}, ?) WHERE substr({column}, 1, ?) = ?",  # noqa: S608
        (f"{new}/", len(old) + 2, len(old) + 1, f"{old}/"),
    )


def _has_moved(old: Path, new: Path) -> bool:
    return not old.exists() and (new.exists() or not old.parent.exists())


def _path_of(location: str) -> Path:
    return Path(unquote(urlsplit(location).path))
