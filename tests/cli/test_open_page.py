"""`make report` opens the index page of the environment in ARGS."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
PAGE = Path("data/photos/08_reporting/index.html")


def open_page(root: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the script in a project without a display."""
    environment = {"PYTHONPATH": str(REPOSITORY / "src")}
    command = [sys.executable, str(REPOSITORY / "tools" / "open_page.py"), *arguments]
    return subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, check=False)


def test_the_page_is_that_of_the_environment(tmp_path: Path) -> None:
    """The page is in the environment's workspace. Before the first run, the error names the command that writes it."""
    conf = tmp_path / "conf"
    for name, text in (("base", "workspace: data/sample\ndataset_root: x\n"), ("local", ""), ("photos", "")):
        (conf / name).mkdir(parents=True)
        if text:
            (conf / name / "globals.yml").write_text(text)
    shutil.copy(REPOSITORY / "conf" / "logging.yml", conf)
    missing = open_page(tmp_path, "index", "--env", "photos")
    assert (missing.returncode, missing.stdout) == (1, "")
    assert missing.stderr == f'{PAGE} does not exist; it is written by: make run ARGS="--env photos"\n'
    (tmp_path / PAGE).parent.mkdir(parents=True)
    (tmp_path / PAGE).write_text("")
    found = open_page(tmp_path, "index", "--env", "photos")
    assert (found.returncode, found.stdout) == (0, f"{PAGE}\n")
    default = open_page(tmp_path, "index")
    assert default.stderr == "data/sample/08_reporting/index.html does not exist; it is written by: make run\n"
    assert "there is no environment 'photo'" in open_page(tmp_path, "index", "--env", "photo").stderr
