"""The fixed cost of a stage: `kedro run` of one node that does nothing, and what it imports."""

from __future__ import annotations

import re
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

from orchestration import copy_project, environment
from targets import Target

RUNS = 5
SHOWN_IMPORTS = 12
# Packages whose import would be a mistake before a stage needs them, and those that every run pays for.
HEAVY = ("pandas", "pyarrow", "cv2", "matplotlib", "scipy", "great_expectations", "paddle", "dask", "mlflow", "kedro")
NOTHING = """\
from kedro.pipeline import Node, Pipeline


def do_nothing() -> str:
    return "nothing"


def create_pipeline(**_kwargs: object) -> Pipeline:
    return Pipeline([Node(do_nothing, inputs=None, outputs="nothing", name="do_nothing")])
"""
_IMPORT = re.compile(r"import time:\s*(\d+) \|\s*(\d+) \| (\s*)(\S+)")


def measure_stage(folder: Path) -> list[Target]:
    """Run the stage a few times, and once more with the interpreter's own profile of imports."""
    project = copy_project(folder / "project")
    stage = project / "src" / "resnet50_pipeline" / "pipelines" / "nothing"
    stage.mkdir()
    (stage / "__init__.py").write_text(NOTHING, encoding="utf-8")
    _run(project)  # makes the database, and compiles what was copied
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = [_run(project)[0] for _ in range(RUNS)]
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    processor = (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime) / RUNS
    print("seconds of a stage that does nothing:", ", ".join(f"{one:.2f}" for one in seconds))
    print(f"of the processor: {processor:.2f}; where the two differ much, the machine had other work")
    _print_imports(_run(project, "-X", "importtime")[1])
    return [Target("fixed cost of a stage, seconds (median)", statistics.median(seconds), 4.5)]


def _run(project: Path, *options: str) -> tuple[float, str]:
    command = [sys.executable, *options, "-m", "kedro", "run", "--pipelines", "nothing"]
    started = time.monotonic()
    done = subprocess.run(
        command, cwd=project, env=environment(project), check=False, capture_output=True, text=True, timeout=300
    )
    if done.returncode != 0:
        raise SystemExit(done.stderr)
    return time.monotonic() - started, done.stderr


def _print_imports(profile: str) -> None:
    """Print the packages that take longest, counted without what they import of the others that are printed."""
    total: dict[str, int] = {}
    for match in _IMPORT.finditer(profile):
        own, name = int(match[1]), match[4].split(".")[0]
        total[name] = total.get(name, 0) + own
    print("milliseconds of a package's own modules:")
    for name, microseconds in sorted(total.items(), key=lambda item: -item[1])[:SHOWN_IMPORTS]:
        print(f"  {name:<24} {microseconds / 1000:6.0f}")
    print("heavy packages that were imported:", ", ".join(name for name in HEAVY if name in total))
