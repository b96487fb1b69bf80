"""Indexes the images below a folder, and resolves references to them in lists and tables."""

from __future__ import annotations

import os
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from resnet50_pipeline.exceptions import DatasetError
from resnet50_pipeline.imagenet.folder_walk import is_class_folder
from resnet50_pipeline.imagenet.lists.generation import is_image_name

_SYSTEM_FILES = frozenset({"thumbs.db", "desktop.ini"})


class ImageIndex:
    """The image files below a folder. Hidden and system files are ignored, and links are not followed.

    Attributes:
        root: the folder.
        paths: POSIX paths relative to `root`, sorted.
        linked_folders: symbolic links to folders, relative to `root`. `paths` does not include their images.
        other_files: number of other files, keyed by suffix in lower case.
        tables: text files and tables below `root`, as paths relative to `root`.
        hints: why tables that name images were not used, for the error message if no layout is recognized.
    """

    def __init__(self, root: Path) -> None:
        """Walk the folder.

        Raises:
            DatasetError: if a folder cannot be read, or there are no images.
        """
        self.root = root
        self.paths: list[str] = []
        self.tables: list[str] = []
        self.hints: list[str] = []
        self.linked_folders: list[str] = []
        self.other_files: Counter[str] = Counter()
        for folder, folders, files in os.walk(root, onerror=_stop):
            folders[:] = sorted(name for name in folders if is_class_folder(name))
            prefix = Path(folder).relative_to(root).as_posix()
            prefix = "" if prefix == "." else f"{prefix}/"
            self.linked_folders += [prefix + name for name in folders if Path(folder, name).is_symlink()]
            for name in files:
                if is_image_name(name):
                    self.paths.append(prefix + name)
                elif not name.startswith(".") and name.lower() not in _SYSTEM_FILES:
                    suffix = os.path.splitext(name)[1].lower()  # noqa: PTH122
                    if suffix in {".csv", ".tsv", ".txt"}:
                        self.tables.append(prefix + name)
                    else:
                        self.other_files[suffix] += 1
        self.paths.sort()
        self.tables.sort()
        self._set = frozenset(self.paths)
        self._folders = {path.rpartition("/")[0] for path in self.paths}
        # The keys of the first dictionary have no suffix; the keys of the other dictionaries have no folder.
        self._by_path_stem: dict[str, list[str]] = defaultdict(list)
        self._by_name: dict[str, list[str]] = defaultdict(list)
        self._by_stem: dict[str, list[str]] = defaultdict(list)
        for path in self.paths:
            name = path.rpartition("/")[2]
            self._by_path_stem[path.rpartition(".")[0]].append(path)
            self._by_name[name].append(path)
            self._by_stem[name.rpartition(".")[0]].append(path)

    def below(self, folder: str) -> list[str]:
        """Return the images below `folder`. All paths are relative to the root."""
        return [path for path in self.paths if path.startswith(f"{folder}/")]

    def _find(self, path: str) -> str | None:
        """Return an image by its path relative to the root. The suffix is optional if the path is unique without it."""
        if path in self._set:
            return path
        stems = self._by_path_stem.get(path, [])
        return stems[0] if len(stems) == 1 else None

    def resolve(self, name: str, folders: Iterable[str] = ("",)) -> str | None:
        """Return the image that a table refers to, or None.

        Args:
            name: a path relative to the root or to one of `folders`, or a unique file name. The suffix is optional.
                Absolute paths may be from another machine.
            folders: folders to try first, relative to the root; "" is the root itself.
        """
        plain = name.strip().replace("\\", "/").removeprefix("./")
        for form in dict.fromkeys((plain, *(unicodedata.normalize(kind, plain) for kind in ("NFC", "NFD")))):
            for folder in folders:
                if (path := self._find(f"{folder}/{form}" if folder else form)) is not None:
                    return path
            # The folder exists, so the image is missing, and one with the same name elsewhere is a different image.
            parent, _, base = form.rpartition("/")
            if parent and any((f"{folder}/{parent}" if folder else parent) in self._folders for folder in folders):
                continue
            # Absolute paths, and paths that start with the folder's name, end with a path relative to the root.
            parts = PurePosixPath(form).parts
            for start in range(1, len(parts)):
                # A bare file name is unambiguous only below the folder itself.
                if start == len(parts) - 1 and parts[start - 1] != self.root.name:
                    break
                if (path := self._find("/".join(parts[start:]))) is not None:
                    return path
            if parent and len(self._folders) > 1:
                continue
            for known in (self._by_name, self._by_stem):
                found = known.get(base, [])
                if len(found) == 1:
                    return found[0]
        return None


def _stop(error: OSError) -> None:
    raise DatasetError(f"{error.filename}: cannot be read: {error.strerror} → make the folder readable") from error
