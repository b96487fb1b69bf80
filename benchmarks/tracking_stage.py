"""Measures the fixed cost of a stage: a `kedro run` of one node that does nothing, and its imports."""

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
# Packages that only some stages should import, and the two that every run imports.
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
    """Run the stage a few times, and once more with Python's import profile."""
    project = copy_project(folder / "project")
    stage = project / "src" / "resnet50_pipeline" / "pipelines" / "nothing"
    stage.mkdir()
    (stage / "__init__.py").write_text(NOTHING, encoding="utf-8")
    _run(project)  # a warm-up, which creates the database and compiles the copied modules
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = [_run(project)[0] for _ in range(RUNS)]
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu_seconds = (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime) / RUNS
    print("seconds of a stage that does nothing:", ", ".join(f"{run_seconds:.2f}" for run_seconds in seconds))
    print(f"CPU seconds: {cpu_seconds:.2f}; a large difference means that the machine was busy")
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
    """Print the packages that take the longest to import, excluding the time of the packages that they import."""
    total: dict[str, int] = {}
    for match in _IMPORT.finditer(profile):
        own, name = int(match[1]), match[4].split(".")[0]
        total[name] = total.get(name, 0) + own
    print("import time in milliseconds, excluding imported packages:")
    for name, microseconds in sorted(total.items(), key=lambda item: -item[1])[:SHOWN_IMPORTS]:
        print(f"  {name:<24} {microseconds / 1000:6.0f}")
    print("large packages that were imported:", ", ".join(name for name in HEAVY if name in total))
