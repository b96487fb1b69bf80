"""Serves a review of the digits for tests."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path

from resnet50_pipeline.commands.data.review import open_review
from resnet50_pipeline.imagenet.lists.fixes import Fix, write_fixes
from resnet50_pipeline.parameters import DatasetParameters
from resnet50_pipeline.review.server import ReviewServer


def write_findings(path: Path, root: Path, count: int = 6) -> list[str]:
    """Write a fix list that suggests the next digit for each of the first train images. Return their paths."""
    images = sorted((root / "train").glob("*/*.JPEG"))[:count]
    names = [image.relative_to(root).as_posix() for image in images]
    digits = [int(image.parent.name[1:]) for image in images]
    write_fixes(
        path,
        (
            Fix(name, "relabel", str((digit + 1) % 10), f"predicted as <{(digit + 1) % 10}>, with 99%")
            for name, digit in zip(names, digits, strict=True)
        ),
    )
    return names


@contextlib.contextmanager
def serve_review(root: Path, findings: Path, output: Path) -> Iterator[ReviewServer]:
    """Serve a review in a thread."""
    server, _ = open_review(findings, output, root, DatasetParameters(class_num=10))
    with server:
        thread = threading.Thread(target=server.serve_forever, args=[0.02])
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
