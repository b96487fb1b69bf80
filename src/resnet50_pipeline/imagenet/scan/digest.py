"""Computes digests that identify the content of a dataset: its images, labels and splits."""

from __future__ import annotations

import hashlib

import pandas as pd

from resnet50_pipeline.imagenet.scan.manifest import select_listed

COMPLETE, INCOMPLETE = "sha256", "incomplete-sha256"


def compute_data_digest(manifest: pd.DataFrame) -> str:
    """Return the SHA-256 digest of the split, path, label and content of all listed images, as `sha256:…`.

    The order of the lists, unlisted images and the location of the dataset do not matter. If the scan did not hash
    every readable image, the digest starts with `incomplete-sha256:` and covers only the names and labels of the
    unhashed images, not their content.

    Args:
        manifest: table returned by `scan_dataset`.
    """
    listed = select_listed(manifest)
    is_complete = bool((listed.loc[listed["status"] == "ok", "sha256"] != "").all())
    columns = [listed[name].tolist() for name in ("split", "path", "label", "sha256")]
    lines = sorted(f"{split}\t{path}\t{label}\t{digest}\n" for split, path, label, digest in zip(*columns, strict=True))
    return f"{COMPLETE if is_complete else INCOMPLETE}:{hashlib.sha256(''.join(lines).encode()).hexdigest()}"


def compute_manifest_digest(manifest: pd.DataFrame) -> str:
    """Return the SHA-256 digest of all rows of a manifest, in order, as `sha256:…`.

    Unlike `compute_data_digest`, this digest also depends on the order of the lists, on unlisted images and on each
    image's status.

    Args:
        manifest: table returned by `scan_dataset`.
    """
    columns = [manifest[name].tolist() for name in ("split", "path", "label", "bytes", "sha256", "status")]
    digest = hashlib.sha256()
    for row in zip(*columns, strict=True):
        digest.update(("\t".join(map(str, row)) + "\n").encode())
    return f"{COMPLETE}:{digest.hexdigest()}"
