"""One digest that names the content of a data set: which images, with which labels, in which split."""

from __future__ import annotations

import hashlib

import pandas as pd

from resnet50_pipeline.imagenet.manifest import select_listed


def compute_data_digest(manifest: pd.DataFrame) -> str:
    """Return `sha256:…` over split, path, label and content of all listed images.

    Neither the order of the lists nor images that no list names have a part in it, nor where the dataset lies.

    Args:
        manifest: as `scan_dataset` gives it.
    """
    listed = select_listed(manifest)
    columns = [listed[name].tolist() for name in ("split", "path", "label", "sha256")]
    lines = sorted(f"{split}\t{path}\t{label}\t{digest}\n" for split, path, label, digest in zip(*columns, strict=True))
    return f"sha256:{hashlib.sha256(''.join(lines).encode()).hexdigest()}"
