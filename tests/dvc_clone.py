"""A clone of the working tree with a separate history, in which DVC tests act like a user."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml
from mlflow import MlflowClient

from resnet50_pipeline.child_runs.run_file import merge

PROJECT = Path(__file__).parents[1]


class Clone:
    """A Git repository with a user's commands. It uses the sample of conf/test."""

    def __init__(self, root: Path) -> None:
        self.root = root
        # A clone of a clone needs its own module path, so PYTHONPATH is set per clone.
        self.environment = {
            **os.environ,
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "PYTHONPATH": str(root / "src"),
            "DVC_SITE_CACHE_DIR": str(root / ".dvc" / "tmp" / "site"),
            "DVC_NO_ANALYTICS": "1",
            "COLUMNS": "200",
            **{
                f"GIT_{role}_{field}": "test@localhost"
                for role in ("AUTHOR", "COMMITTER")
                for field in ("NAME", "EMAIL")
            },
        }

    @classmethod
    def of_working_tree(cls, root: Path) -> Clone:
        """Copy all tracked files of the working tree to `root`, with the parameters of conf/test, and commit."""
        clone = cls(root)
        listed = subprocess.run(
            ["git", "ls-files", "-coz", "--exclude-standard"], cwd=PROJECT, capture_output=True, text=True, check=True
        )
        for name in filter(None, listed.stdout.split("\0")):
            # A clone does not contain run results from the working tree.
            is_result = name.startswith("data/") and Path(name).name not in ("README.md", ".gitkeep")
            if (PROJECT / name).is_file() and not is_result and not name.endswith("dvc.lock"):
                (root / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(PROJECT / name, root / name)
        for path in (root / "conf" / "test").glob("parameters*.yml"):
            content = yaml.safe_load(path.read_text(encoding="utf-8"))
            if "tracking" not in content:
                clone.edit_parameters(path.name, content)
        clone.run("git", "init", "--quiet")
        clone.commit("clone")
        return clone

    def clone_to(self, root: Path) -> Clone:
        """Return a Git clone, without ignored files."""
        subprocess.run(["git", "clone", "--quiet", str(self.root), str(root)], check=True)
        return Clone(root)

    def start(self, *command: str, **options: Any) -> subprocess.Popen[str]:
        """Start a command in the clone, with this environment's programs."""
        streams = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        return subprocess.Popen(command, cwd=self.root, env=self.environment, **{**streams, **options})

    def fail(self, *command: str) -> tuple[int, str]:
        """Run a failing command in the clone, and return its exit code and output."""
        process = self.start(*command)
        output, _ = process.communicate()
        return process.returncode, output

    def run(self, *command: str) -> str:
        """Run a command in the clone, and return its output."""
        code, output = self.fail(*command)
        assert code == 0, output
        return output

    def repro(self, *arguments: str) -> list[str]:
        """Run `dvc repro`, and return the stages that it ran (or, with --dry, would run), in order."""
        return re.findall(r"^Running stage '(\w+)':", self.run("dvc", "repro", *arguments), re.MULTILINE)

    def commit(self, message: str) -> None:
        """Commit all changes."""
        self.run("git", "add", "--all")
        self.run("git", "commit", "--quiet", "-m", message)

    def edit_parameters(self, file: str, change: dict[str, Any], environment: str = "base") -> None:
        """Merge `change` into a file of conf/<environment>."""
        path = self.root / "conf" / environment / file
        merged = merge(yaml.safe_load(path.read_text(encoding="utf-8")), change)
        path.write_text(yaml.safe_dump(merged, sort_keys=False), encoding="utf-8")

    def read_yaml(self, path: str) -> Any:
        """Return the content of a YAML or JSON file of the clone."""
        return yaml.safe_load((self.root / path).read_text(encoding="utf-8"))

    def dataset_digests(self, stage: str) -> set[str]:
        """Return MLflow's dataset digests for the newest run of a stage, and its tag data_digest.

        MLflow truncates digests to 36 characters; if they match the tag, only the tag is returned.
        """
        client = MlflowClient(f"sqlite:///{self.root}/mlflow.db")
        experiments = [experiment.experiment_id for experiment in client.search_experiments()]
        found = client.search_runs(experiments, f"tags.`kedro.pipelines` = '{stage}'", max_results=1)
        shown = {dataset.dataset.digest for run in found for dataset in run.inputs.dataset_inputs}
        tags = {run.data.tags["data_digest"] for run in found}
        return tags if shown == {tag.removeprefix("sha256:")[:36] for tag in tags} else shown | tags

    def untracked(self) -> set[str]:
        """Return the files that are untracked or changed."""
        lines = self.run("git", "status", "--porcelain", "--untracked-files=all").splitlines()
        return {line[3:] for line in lines}
