"""A clone of the project in which the documented commands run unchanged."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import yaml

from dvc_clone import PROJECT, Clone
from ports import free_port
from resnet50_pipeline.telemetry import OFF

_START_SECONDS = 120
# A program that loads the model imports Paddle, which creates these empty folders.
OF_PADDLE = {".cache", ".cache/paddle", ".cache/paddle/dataset"}
# The dataset folder that the pages use.
DATA_SET = "/data/imagenet"
# The class folders of `flowers`.
FLOWERS = ("Rose rot", "Gänseblümchen #2", "tulip", "lily's", "маргаритка")


class DocumentedProject:
    """A clone whose environment `make setup` considers installed, with the small sizes from conf/test.

    Commands run unchanged with three exceptions: `/data/imagenet` is a folder next to the clone (see `imagenet`),
    servers use a free port, and servers are stopped after a request.
    """

    def __init__(self, root: Path) -> None:
        self.clone = Clone.of_working_tree(root)
        self.root = root
        self.home = root.parent / "home"
        self.home.mkdir()
        self.imagenet = root.parent / "imagenet"
        self._take_environment_for_installed()
        self._shrink_imagenet()
        self.clone.commit("test sizes")

    def run(self, command: str) -> str:
        """Run a block with `sh -eu` in the clone, assert that the exit code is 0, and return the output."""
        done = subprocess.run(
            ["sh", "-eu", "-c", self._substitute(command)],
            cwd=self.root, env=self.environment(), stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, timeout=900,
        )  # fmt: skip
        assert done.returncode == 0, f"{command}\nended with {done.returncode}:\n{done.stdout}"
        return done.stdout

    def run_chain_once(self) -> None:
        """Run all pipelines on the sample unless a page has already done so."""
        if not (self.root / "data/sample/08_reporting/registered_model.json").exists():
            self.run("make run")

    def run_python(self, program: str) -> str:
        """Run a Python block in the clone and return its output."""
        path = self.root / ".block.py"
        path.write_text(self._substitute(program), encoding="utf-8")
        try:
            return self.run("python -W error::UserWarning:resnet50_pipeline .block.py")
        finally:
            path.unlink()

    def serve(self, command: str, page: str, then: str = "") -> str:
        """Start a server with a block, wait until `page` answers, run `then`, and stop the server with SIGINT.

        Args:
            command: the block; it runs until the server stops.
            page: path that must answer with status 200.
            then: a block to run while the server is up. In both blocks, 5001 is replaced with the server's port.

        Returns:
            The output of `then`.
        """
        port = free_port()
        ports = dict.fromkeys(("UI_PORT", "VIZ_PORT", "DOCS_PORT", "MLFLOW_PORT"), str(port))
        log = self.root.parent / "server.log"
        with log.open("w+") as output:
            process = subprocess.Popen(
                ["sh", "-eu", "-c", self._substitute(command).replace("5001", str(port))],
                cwd=self.root, env={**self.environment(), **ports}, stdin=subprocess.DEVNULL,
                stdout=output, stderr=output, start_new_session=True,
            )  # fmt: skip
        try:
            deadline = time.monotonic() + _START_SECONDS
            while not _answers(f"http://127.0.0.1:{port}{page}"):
                assert process.poll() is None, f"{command}\nended:\n{log.read_text()}"
                assert time.monotonic() < deadline, f"{command}\ndoes not respond:\n{log.read_text()}"
                time.sleep(0.2)
            return self.run(then.replace("5001", str(port))) if then else ""
        finally:
            os.killpg(process.pid, signal.SIGINT)
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait(20)

    def make_imagenet(self) -> None:
        """Copy the images of the sample to the folder that replaces /data/imagenet, with lists without prefixes."""
        if not self.imagenet.exists():
            shutil.copytree(self.root / "data/sample/01_raw/digits", self.imagenet)

    def make_flowers(self) -> None:
        """Create the `flowers` folder: five class folders with names as people write them, and no split."""
        digits = self.root / "data/sample/01_raw/digits"
        for name, synset in zip(FLOWERS, sorted((digits / "train").iterdir()), strict=False):
            (self.root / "flowers" / name).mkdir(parents=True)
            for split in ("train", "val"):
                for number, image in enumerate(sorted((digits / split / synset.name).iterdir())):
                    shutil.copy(image, self.root / "flowers" / name / f"{split} {number} ü.jpg")

    def written_to_home(self) -> set[str]:
        """Return the files that the commands have written to the home folder so far."""
        return {str(path.relative_to(self.home)) for path in self.home.rglob("*")}

    def environment(self) -> dict[str, str]:
        """Return the environment variables of the commands."""
        # The tests set these variables. A user gets them from the installed environment and the Makefile.
        of_tests = {*OFF, "DVC_SITE_CACHE_DIR", "MPLCONFIGDIR", "CI"}
        return {
            **{name: value for name, value in self.clone.environment.items() if name not in of_tests},
            "HOME": str(self.home),
            "PATH": f"{self.root}/.venv/bin:{self.clone.environment['PATH']}",
            "COLUMNS": "120",
        }

    def _substitute(self, text: str) -> str:
        return text.replace(DATA_SET, str(self.imagenet))

    def _take_environment_for_installed(self) -> None:
        """Link .venv to this process's environment and write the state files of tools/setup.sh."""
        state = self.root / ".venv" / "installed"
        state.mkdir(parents=True)
        for part in Path(sys.prefix).iterdir():
            if part.name != state.name:
                (state.parent / part.name).symlink_to(part)
        (state / "root").write_text(f"{self.root}\n")
        (state / "name").write_text("requirements.lock\n")
        (state / "dev").write_text("requirements-dev.lock\n")
        shutil.copy(PROJECT / "requirements.lock", state / "lock")
        shutil.copy(PROJECT / "requirements-dev.lock", state / "dev.lock")
        shutil.copy(PROJECT / "pyproject.toml", state / "pyproject.toml")

    def _shrink_imagenet(self) -> None:
        """Give conf/imagenet the sample's suite, the size of conf/test, and CPU ranks."""
        small = yaml.safe_load((PROJECT / "conf/test/parameters_training.yml").read_text(encoding="utf-8"))["training"]
        base = yaml.safe_load((PROJECT / "conf/base/parameters_training.yml").read_text(encoding="utf-8"))["training"]
        blocking = yaml.safe_load((PROJECT / "conf/base/parameters_data_validation.yml").read_text(encoding="utf-8"))
        changes = {
            "dataset": {"class_num": 10},
            "data_validation": {"suite": "imagenet_layout", "blocking": blocking["data_validation"]["blocking"]},
            "model_registration": {"gate": {"min_accuracy": 0.0, "max_accuracy_drop": 1.0}, "export_check_images": 4},
            "evaluation": {"batch_size_per_rank": 16},
            "training": {
                **small,
                "launch": {**base["launch"], **small["launch"]},
                **{name: base[name] for name in ("arch", "train_transform", "eval_transform", "loader")},
                "lr": {
                    **base["lr"],
                    "decay_epochs": [],
                    "values": [],
                },  # the recipe's values are for a different schedule
                "images_per_step": None,
            },
        }
        for group, change in changes.items():
            self.clone.edit_parameters(f"parameters_{group}.yml", {group: change}, "imagenet")


def _answers(address: str) -> bool:
    try:
        with urllib.request.urlopen(address, timeout=2) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False
