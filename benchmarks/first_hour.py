"""Measures how long a new user and a developer wait: `python benchmarks/first_hour.py [--check] [--pairs N] [--ci]`.

Everything runs in clones of the committed state, in a temporary folder and with a temporary HOME:

- From `git clone` to the report of `make run`, with the packages in this machine's uv cache.
- Alternating pairs of `kedro run` in this state and in commit c864052. Each clone has its own environment.
- `make test`, pytest's collection, and the error of `kedro run` for a missing dataset.
- With --ci, `.ci/run` as a whole.

Prints one line per target: `target | measured | bound | met`. With --check, the exit code is 1 if a target is missed.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from targets import Target, report

PROJECT = Path(__file__).parents[1]
BEFORE = "c864052"
RESULTS = ("data/sample/02_intermediate", "data/sample/05_model_input", "data/sample/06_models", "mlflow.db")


def main() -> int:
    """Measure, print the targets, and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="exit with 1 if a target is missed")
    parser.add_argument("--pairs", type=int, default=2, help="pairs of runs in this state and in the earlier commit")
    parser.add_argument("--ci", action="store_true", help="also run .ci/run, which takes up to an hour")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="first-hour-") as folder:
        home = Path(folder, "home")
        home.mkdir()
        started = time.monotonic()
        now = clone(Path(folder, "now"))
        run(now, home, "make", "run")
        report_minutes = (time.monotonic() - started) / 60
        assert (now / "data/sample/08_reporting/evaluation_report.html").is_file()
        targets = [Target("git clone to report, minutes", report_minutes, 5)]
        if options.pairs:
            targets.append(compare_runs(now, clone(Path(folder, "before"), BEFORE), home, options.pairs))
        targets.append(Target("make test, minutes", run(now, home, "make", "test") / 60, 8))
        collect = [".venv/bin/pytest", "--collect-only", "-q"]
        targets.append(Target("collection, seconds", median_of_3(now, home, collect), 8))
        command = [".venv/bin/kedro", "run", "--env", "imagenet", "--params", "dataset.root=/nowhere"]
        targets.append(Target("error for a missing dataset, seconds", median_of_3(now, home, command, code=1), 1))
        if options.ci:
            targets.append(Target(".ci/run, minutes", run(clone(Path(folder, "ci")), home, ".ci/run") / 60, 40))
    return report(targets, is_checked=options.check)


def clone(root: Path, commit: str = "HEAD") -> Path:
    """Clone a commit of the project and return the clone's path."""
    subprocess.run(["git", "clone", "--quiet", str(PROJECT), str(root)], check=True)
    subprocess.run(["git", "checkout", "--quiet", "--detach", commit], cwd=root, check=True)
    return root


def run(project: Path, home: Path, *command: str, code: int = 0) -> float:
    """Run a command in a clone and return its duration in seconds.

    Raises:
        SystemExit: if the exit code is not `code`; the message is the command's output.
    """
    cache = os.environ.get("UV_CACHE_DIR", str(Path.home() / ".cache/uv"))
    environment = {**os.environ, "HOME": str(home), "UV_CACHE_DIR": cache}
    started = time.monotonic()
    done = subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True, check=False)
    seconds = time.monotonic() - started
    print(f"{' '.join(command)}: {seconds:.1f} s", flush=True)
    if done.returncode != code:
        raise SystemExit(done.stdout + done.stderr)
    return seconds


def compare_runs(now: Path, before: Path, home: Path, pairs: int) -> Target:
    """Return the median ratio of `kedro run` in both clones, which alternate so that they run under the same load."""
    run(before, home, "make", "setup")
    ratios = []
    for _ in range(pairs):
        seconds = []
        for project in (before, now):
            for name in RESULTS:
                path = project / name
                shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
            seconds.append(run(project, home, "make", "run"))
        ratios.append(seconds[1] / seconds[0])
    return Target(f"make run / make run in {BEFORE} (median of pairs)", statistics.median(ratios), 0.5)


def median_of_3(project: Path, home: Path, command: list[str], code: int = 0) -> float:
    """Return the median duration of three runs of a command, in seconds."""
    return statistics.median(run(project, home, *command, code=code) for _ in range(3))


if __name__ == "__main__":
    sys.exit(main())
