"""Mutated images and lists, for a few seconds each: no crash, no hang, no file outside the root ever opened.

`make fuzz` takes longer, with another seed each time. faults 7, 8, 13, 14, 15, 23, 25.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

FUZZING = Path(__file__).parents[1] / "fuzzing.py"


@pytest.mark.parametrize(("target", "cases"), [("images", 100), ("lists", 300)])
def test_mutated_files_bring_a_finding_and_nothing_worse(target: str, cases: int, tmp_path: Path) -> None:
    """In a process that watches every open, four seconds of mutated files end with no exception and no signal."""
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


def test_the_guard_sees_an_open_outside(tmp_path: Path) -> None:
    """The audit hook is no decoration: a link that is followed out of the root is seen."""
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
    assert f"opened outside of {tmp_path / 'root'}: ['{tmp_path / 'secret'}']" in done.stderr
