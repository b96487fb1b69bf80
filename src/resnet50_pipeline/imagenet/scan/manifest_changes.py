"""Compares two manifests to find images that were changed, added or removed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pandas as pd

from resnet50_pipeline.text import list_names


@dataclass(frozen=True)
class ManifestChanges:
    """Images that differ between two manifests, as sorted paths relative to the dataset root.

    Attributes:
        changed: images whose content, label, split or status differs, or that only one of the manifests lists.
        added: images that are only in the new manifest.
        gone: images that are only in the old manifest.
    """

    changed: tuple[str, ...]
    added: tuple[str, ...]
    gone: tuple[str, ...]

    def lines(self, most_named: int) -> Iterator[str]:
        """Yield one line per kind of change, with the number of images and the first paths."""
        for what, paths in (("changed", self.changed), ("new", self.added), ("gone", self.gone)):
            if paths:
                yield f"{what}: {len(paths)}: {list_names(paths, most_named)}"


def find_changes(before: pd.DataFrame, after: pd.DataFrame) -> ManifestChanges:
    """Compare the split, label, status, size and digest of each path in two manifests.

    Args:
        before: old manifest, with the columns split, path, label, bytes, sha256, status.
        after: new manifest, with the same columns.
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
    """Join the compared values into one string per path. If a path is repeated, only its first row is used."""
    columns = [manifest[name].astype(str) for name in ("split", "label", "status", "bytes", "sha256")]
    first = ~manifest["path"].duplicated()
    texts = ["\t".join(row) for row in zip(*columns, strict=True)]
    return pd.Series(texts, index=pd.Index(manifest["path"]), dtype=str)[first.to_numpy()]
