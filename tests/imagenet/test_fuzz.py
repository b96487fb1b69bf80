"""Fuzzes images and lists for a few seconds: no crash, no hang, and no access outside the root.

`make fuzz` runs longer, with a new seed each time. Covers faults 7, 8, 13, 14, 15, 23 and 25.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

FUZZING = Path(__file__).parents[1] / "fuzzing.py"


@pytest.mark.parametrize(("target", "cases"), [("images", 100), ("lists", 300)])
def test_mutated_files_never_crash(target: str, cases: int, tmp_path: Path) -> None:
    """Four seconds of mutated files cause no exception and no signal in a process that audits every open."""
    done = subprocess.run(
        [sys.executable, FUZZING, target, "--seconds", "4", "--seed", "1", "--keep", tmp_path / "last"],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    found = re.search(r"^(\d+) cases$", done.stdout, re.MULTILINE)
    assert found
    assert int(found[1]) >= cases


@pytest.mark.parametrize("image_format", ["JPEG", "PNG", "BMP", "WEBP", "GIF", "TIFF"])
def test_scan_and_decoder_agree_on_mutated_files(image_format: str) -> None:
    """Under a memory limit, 200 mutated files of each format cause no crash, and scan and decoder agree on them.

    `make fuzz` runs longer.
    """
    done = subprocess.run(
        [sys.executable, FUZZING, image_format, "--cases", "200", "--seconds", "100", "--seed", "1"],
        capture_output=True,
        text=True,
        check=False,
        timeout=150,
    )
    assert done.returncode == 0, done.stderr


def test_guard_detects_access_outside_the_root(tmp_path: Path) -> None:
    """The audit hook detects when a link is followed out of the root."""
    code = (
        "import sys; from pathlib import Path; from fuzzing import OpenGuard\n"
        "folder = Path(sys.argv[1]); (folder / 'root').mkdir(); (folder / 'secret').write_text('')\n"
        "(folder / 'root' / 'link').symlink_to(folder / 'secret')\n"
        "guard = OpenGuard(folder / 'root')\n"
        "with guard.armed():\n"
        "    (folder / 'root' / 'link').read_bytes()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, tmp_path], cwd=FUZZING.parent, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert str(tmp_path / "secret") in done.stderr
