"""Commands read file names as UTF-8 in every locale."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import os, sys
from resnet50_pipeline.processes.utf8_mode import ensure_utf8_mode
ensure_utf8_mode()
assert os.listdir(sys.argv[1]) == ["ñandú"], ascii(os.listdir(sys.argv[1]))
print("ñandú → ok")
"""


@pytest.mark.parametrize(
    "locale",
    [
        {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
        {"LC_ALL": "C.UTF-8"},
        {"LC_ALL": "C"},
    ],
)
def test_names_are_utf8_in_every_locale(locale: dict[str, str], tmp_path: Path):
    """A program restarts in UTF-8 mode if Python would decode file names differently, and can print any text."""
    (tmp_path / "é" / "ñandú").mkdir(parents=True)
    (tmp_path / "program.py").write_text(PROGRAM, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, tmp_path / "program.py", tmp_path / "é"],
        env={name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ} | locale,
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert b"ok" in done.stdout
