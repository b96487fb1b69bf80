"""One digest that names the content of a data set: which images, with which labels, in which split."""

from __future__ import annotations

import hashlib

import pandas as pd

from resnet50_pipeline.imagenet.manifest import select_listed

COMPLETE, INCOMPLETE = "sha256", "incomplete-sha256"


def compute_data_digest(manifest: pd.DataFrame) -> str:
    """Return `sha256:…` over split, path, label and content of all listed images.

    Neither the order of the lists nor images that no list names have a part in it, nor where the dataset lies. It
    begins with `incomplete-sha256:` where the scan did not take the digest of every image that it could read: then it
    stands for names and labels, and for the content of some images at most.

    Args:
        manifest: as `scan_dataset` gives it.
    """
    listed = select_listed(manifest)
    is_complete = bool((listed.loc[listed["status"] == "ok", "sha256"] != "").all())
    columns = [listed[name].tolist() for name in ("split", "path", "label", "sha256")]
    lines = sorted(f"{split}\t{path}\t{label}\t{digest}\n" for split, path, label, digest in zip(*columns, strict=True))
    return f"{COMPLETE if is_complete else INCOMPLETE}:{hashlib.sha256(''.join(lines).encode()).hexdigest()}"


def compute_manifest_digest(manifest: pd.DataFrame) -> str:
    """Return `sha256:…` over every row of a manifest, in its order.

    Beside what `compute_data_digest` covers it stands for the order of the lists, for images that no list names, and
    for what is wrong with any.

    Args:
        manifest: as `scan_dataset` gives it.
    """
    columns = [manifest[name].tolist() for name in ("split", "path", "label", "bytes", "sha256", "status")]
    digest = hashlib.sha256()
    for row in zip(*columns, strict=True):
        digest.update(("\t".join(map(str, row)) + "\n").encode())
    return f"{COMPLETE}:{digest.hexdigest()}"
