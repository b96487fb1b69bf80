"""Which images are no longer what a former manifest says of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pandas as pd


@dataclass(frozen=True)
class ManifestChanges:
    """Paths of images, relative to the dataset root, sorted.

    Attributes:
        changed: of another content, label or split than before, or listed now and not before, or the other way round.
        added: not there before.
        gone: not there any more.
    """

    changed: tuple[str, ...]
    added: tuple[str, ...]
    gone: tuple[str, ...]

    def lines(self, most_named: int) -> Iterator[str]:
        """Yield a line each kind of change: how many images, and the first of them."""
        for what, paths in (("changed", self.changed), ("new", self.added), ("gone", self.gone)):
            if paths:
                rest = f" and {len(paths) - most_named} more" if len(paths) > most_named else ""
                yield f"{what}: {len(paths)}: {', '.join(paths[:most_named])}{rest}"


def find_changes(before: pd.DataFrame, after: pd.DataFrame) -> ManifestChanges:
    """Compare two manifests by path: split, label, status, size and digest of each image.

    Args:
        before: columns split, path, label, bytes, sha256, status.
        after: the same.
    """
    old, new = (_by_path(manifest) for manifest in (before, after))
    both = old.index.intersection(new.index)
    differs = old.loc[both] != new.loc[both]
    return ManifestChanges(
        tuple(sorted(both[differs.to_numpy()])),
        tuple(sorted(new.index.difference(old.index))),
        tuple(sorted(old.index.difference(new.index))),
    )


def _by_path(manifest: pd.DataFrame) -> pd.Series[str]:
    """Return what is compared of each path, as one text; of a path that is listed twice, its first row."""
    columns = [manifest[name].astype(str) for name in ("split", "label", "status", "bytes", "sha256")]
    first = ~manifest["path"].duplicated()
    texts = ["\t".join(row) for row in zip(*columns, strict=True)]
    return pd.Series(texts, index=pd.Index(manifest["path"]), dtype=str)[first.to_numpy()]
