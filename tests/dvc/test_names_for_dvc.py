"""File names that DVC cannot store are found and shown in a form that can be typed."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from resnet50_pipeline.commands.dvc.outs import find_names_that_are_not_utf8, quote_bytes


def test_names_that_are_not_utf8_are_found_and_can_be_typed(tmp_path: Path) -> None:
    """Only such names are found, and the shell accepts the name that is shown."""
    folder = os.fsencode(tmp_path)
    (tmp_path / "café.JPEG").touch()
    bad = folder + b"/it's caf\xe9.JPEG"
    Path(os.fsdecode(bad)).touch()
    found = list(find_names_that_are_not_utf8(tmp_path))
    assert [os.fsencode(path) for path in found] == [bad]
    shown = quote_bytes(bad)
    assert shown.isascii()
    subprocess.run(["/bin/bash", "-c", f"rm {shown}"], check=True)
    assert [path.name for path in tmp_path.iterdir()] == ["café.JPEG"]
