"""Reads and writes the copies of checkpoint sets in an object store.

    s3://bucket/prefix/epoch-0003/
      weights.safetensors, optimizer.safetensors, …, MANIFEST.json    the set (`checkpoint_set.py`)
      events.jsonl, images.npy, …                                     the other files that a resumed run needs
      UPLOADED.json                                                   {"weights.safetensors": "sha256:…", …}

Object stores replace individual objects atomically, but not folders. `UPLOADED.json` is therefore written last and
deleted first: a folder without this file is incomplete and ignored.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from resnet50_pipeline.checkpoint_set import MANIFEST, STATE
from resnet50_pipeline.exceptions import RETRY_EXIT_CODE, CheckpointError, CheckpointMirrorError, PipelineError
from resnet50_pipeline.files import digest_file, replace_directory, write_bytes
from resnet50_pipeline.training_dir import (
    CURSOR,
    checkpoint_paths,
    checkpoints_dir,
    events_path,
    images_path,
    sort_sets,
)

UPLOADED = "UPLOADED.json"
_PROBE = ".write-test"
_SET = re.compile(r"epoch-\d{4}(-step-\d{10})?")
# Without these limits, a store that does not respond would delay the end of a run by up to 10 minutes per file.
_OPTIONS: dict[str, dict[str, Any]] = {
    "file": {"auto_mkdir": True},
    "s3": {"config_kwargs": {"connect_timeout": 10, "read_timeout": 60, "retries": {"max_attempts": 3}}},
}
_WRONG_SETTINGS = (PermissionError, FileNotFoundError, ImportError, ValueError)


class CheckpointMirror:
    """A folder in an object store with copies of a run's checkpoint sets.

    All methods raise CheckpointMirrorError if the store does not respond or refuses a request.
    """

    def __init__(self, url: str) -> None:
        """Use the folder at a URL that fsspec supports, such as `s3://bucket/prefix`."""
        self.url = url.rstrip("/")

    def names(self) -> list[str]:
        """Return the names of all complete sets, from oldest to newest."""
        with self._connected() as (store, root):
            return _sort_complete(store, root, _list_sets(store, root))

    def newer_names(self, training_dir: Path) -> list[str]:
        """Return the names of the complete sets that are newer than all sets in a training folder, oldest first."""
        local = {path.name: path for path in checkpoint_paths(training_dir)}

        def read_state(name: str) -> bytes:
            if name in local:
                return (local[name] / STATE).read_bytes()
            content: bytes = store.cat_file(f"{root}/{name}/{STATE}")
            return content

        with self._connected() as (store, root):
            complete = [name for name, files in _list_sets(store, root).items() if UPLOADED in files]
            ordered = sort_sets({*complete, *local}, read_state)
        newest = max((ordered.index(name) for name in local), default=-1)
        return ordered[newest + 1 :]

    def require_writable(self) -> None:
        """Check that this process may write to the folder and delete from it."""
        with self._connected() as (store, root):
            store.pipe_file(f"{root}/{_PROBE}", b"")
            store.rm_file(f"{root}/{_PROBE}")

    def upload(self, training_dir: Path, name: str) -> None:
        """Upload a checkpoint set of a training run, unless it is already complete.

        If the run deletes the set in the meantime, the copy remains incomplete, and an error is raised.
        """
        folder = checkpoints_dir(training_dir) / name
        with self._connected() as (store, root):
            target = f"{root}/{name}"
            if UPLOADED in _list_sets(store, root).get(name, ()):
                return
            digests: dict[str, str] = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
            digests[MANIFEST] = digest_file(folder / MANIFEST)
            for file in digests:
                store.put_file(str(folder / file), f"{target}/{file}")
            for path in filter(Path.exists, _other_files(training_dir)):
                content = path.read_bytes()  # read once, because the ranks append to events.jsonl
                digests[path.name] = f"sha256:{hashlib.sha256(content).hexdigest()}"
                store.pipe_file(f"{target}/{path.name}", content)
            store.pipe_file(f"{target}/{UPLOADED}", json.dumps(digests, indent=2).encode())

    def download(self, name: str, training_dir: Path, *, only_set: bool = False) -> None:
        """Download a complete set and, unless `only_set`, the other files that a resumed run needs.

        Raises:
            CheckpointError: if a file is missing or damaged. The training folder is then unchanged.
        """
        folder = checkpoints_dir(training_dir) / name
        staged = folder.with_name(f".{name}.tmp")  # a run deletes this folder if the download was interrupted
        others = {path.name: path for path in _other_files(training_dir)}
        shutil.rmtree(staged, ignore_errors=True)
        staged.mkdir(parents=True)
        with self._connected() as (store, root):
            digests = self._read_digests(store.cat_file(f"{root}/{name}/{UPLOADED}"), name)
            if only_set:
                digests = {file: digest for file, digest in digests.items() if file not in others}
            files = _list_sets(store, root)[name]
            for file, digest in digests.items():
                if file in files:
                    store.get_file(f"{root}/{name}/{file}", str(staged / file))
                if file not in files or digest_file(staged / file) != digest:
                    shutil.rmtree(staged)
                    raise CheckpointError(f"{self.url}/{name}/{file} is {'damaged' if file in files else 'missing'}")
        for file in digests.keys() & others.keys():
            write_bytes(others[file], (staged / file).read_bytes())
            (staged / file).unlink()
        replace_directory(staged, folder)

    def prune(self, keep: int, also: str | None) -> None:
        """Delete all sets except the newest `keep` complete sets and the set named `also`.

        Incomplete sets, left behind by interrupted uploads, are deleted too.
        """
        with self._connected() as (store, root):
            sets = _list_sets(store, root)
            complete = _sort_complete(store, root, sets)
            for name in sets.keys() - {*complete[-keep:], also}:
                for file in sorted(sets[name], key=lambda file: file != UPLOADED):
                    store.rm_file(f"{root}/{name}/{file}")

    def discard(self, name: str) -> None:
        """Mark a set as incomplete, so that it is ignored, and replaced if the run saves this set again."""
        with self._connected() as (store, root), contextlib.suppress(FileNotFoundError):
            store.rm_file(f"{root}/{name}/{UPLOADED}")

    def _read_digests(self, content: bytes, name: str) -> dict[str, str]:
        try:
            digests: dict[str, str] = json.loads(content)
        except ValueError as error:
            raise CheckpointError(f"{self.url}/{name}/{UPLOADED} is damaged: {error}") from error
        return digests

    @contextlib.contextmanager
    def _connected(self) -> Iterator[tuple[Any, str]]:
        import fsspec  # loads the store's library, which takes a second

        try:
            options = _OPTIONS.get(self.url.partition("://")[0], {})
            store, root = fsspec.core.url_to_fs(self.url, use_listings_cache=False, **options)
            yield store, root.rstrip("/")
        except PipelineError:
            raise
        except Exception as error:  # each store has its own errors
            is_final = isinstance(error, _WRONG_SETTINGS) or "Credentials" in type(error).__name__
            advice = (
                "check training.checkpoint_mirror, the bucket and its credentials (for S3: AWS_ACCESS_KEY_ID, "
                "AWS_SECRET_ACCESS_KEY and AWS_ENDPOINT_URL, or ~/.aws)"
                if is_final
                else "check that the store is running and reachable"
            )
            failure = CheckpointMirrorError(f"{self.url}: {type(error).__name__}: {error} → {advice}")
            failure.exit_code = 1 if is_final else RETRY_EXIT_CODE
            raise failure from error


def _other_files(training_dir: Path) -> list[Path]:
    """Return the paths of the files outside the sets that a resumed run needs."""
    # Copy the position in the events before the events themselves, so that it never refers to missing events.
    return [training_dir / CURSOR, events_path(training_dir), images_path(training_dir)]


def _sort_complete(store: Any, root: str, sets: Mapping[str, list[str]]) -> list[str]:
    """Return the names of the complete sets, from oldest to newest."""
    names = (name for name, files in sets.items() if UPLOADED in files)
    return sort_sets(names, lambda name: store.cat_file(f"{root}/{name}/{STATE}"))


def _list_sets(store: Any, root: str) -> dict[str, list[str]]:
    """Return the files of each set, complete or not, keyed by the name of the set."""
    sets: dict[str, list[str]] = {}
    for path in store.find(root):
        name, _, file = path.removeprefix(f"{root}/").partition("/")
        if _SET.fullmatch(name) and file and "/" not in file:
            sets.setdefault(name, []).append(file)
    return sets
