"""The project as a reader of its pages has it: a clone in which documented commands run as they are written."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import yaml

from dvc_clone import PROJECT, Clone

_START_SECONDS = 120
# What stands in the pages for places of the reader's own.
DATA_SET = "/data/imagenet"


class DocumentedProject:
    """A clone with an environment that `make setup` finds installed; sizes are those of conf/test.

    What is written runs, but for three things: `/data/imagenet` is a folder of the clone (see `imagenet`), servers
    listen on a free port, and a server is asked over HTTP and then stopped.
    """

    def __init__(self, root: Path) -> None:
        self.clone = Clone.of_working_tree(root)
        self.root = root
        self.home = root.parent / "home"
        self.home.mkdir()
        self.imagenet = root.parent / "imagenet"
        self._take_environment_for_installed()
        # Of conf/test everything but the names, which the pages have as conf/base says.
        names = {"parameters_model_registration.yml": {"model_registration": {"model_name": "resnet50-digits"}}}
        names["parameters_evaluation.yml"] = {"evaluation": {"compare_with": "models:/resnet50-digits@champion"}}
        for file, content in names.items():
            self.clone.edit_parameters(file, content)
        self._shrink_imagenet()
        self.clone.commit("test sizes")

    def run(self, command: str) -> str:
        """Run a block of a page with `sh -eu` in the clone, and return what it prints; an exit code but 0 fails."""
        done = subprocess.run(
            ["sh", "-eu", "-c", self._substitute(command)],
            cwd=self.root, env=self._environment(), stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, timeout=300,
        )  # fmt: skip
        assert done.returncode == 0, f"{command}\nended with {done.returncode}:\n{done.stdout}"
        return done.stdout

    def run_chain_once(self) -> None:
        """Have the chain run on the sample, unless a page has done so."""
        if not (self.root / "data/sample/08_reporting/registered_model.json").exists():
            self.run("make run")

    def run_python(self, program: str) -> str:
        """Run a Python block of a page in the clone, and return what it prints."""
        path = self.root / ".block.py"
        path.write_text(self._substitute(program), encoding="utf-8")
        try:
            return self.run("python -W error::UserWarning:resnet50_pipeline .block.py")
        finally:
            path.unlink()

    def serve(self, command: str, page: str, then: str = "") -> str:
        """Start a server by a block of a page, wait until `page` of it answers, run `then`, and stop it as Ctrl-C does.

        Args:
            command: the block; it ends with the server.
            page: path of the address that must answer with 200.
            then: a block to run while the server is up; 5000 in it is the server's port.

        Returns:
            What `then` prints.
        """
        port = _free_port()
        ports = dict.fromkeys(("UI_PORT", "VIZ_PORT", "DOCS_PORT", "MLFLOW_PORT"), str(port))
        log = self.root.parent / "server.log"
        with log.open("w+") as words:
            process = subprocess.Popen(
                ["sh", "-eu", "-c", self._substitute(command)],
                cwd=self.root, env={**self._environment(), **ports}, stdin=subprocess.DEVNULL,
                stdout=words, stderr=words, start_new_session=True,
            )  # fmt: skip
        try:
            deadline = time.monotonic() + _START_SECONDS
            while not _answers(f"http://127.0.0.1:{port}{page}"):
                assert process.poll() is None, f"{command}\nended:\n{log.read_text()}"
                assert time.monotonic() < deadline, f"{command}\ndoes not answer:\n{log.read_text()}"
                time.sleep(0.2)
            return self.run(then.replace("5000", str(port))) if then else ""
        finally:
            os.killpg(process.pid, signal.SIGINT)
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait(20)

    def make_imagenet(self) -> None:
        """Put the sample's images where the pages have ImageNet: lists as it has them, without train/ and val/."""
        if not self.imagenet.exists():
            shutil.copytree(self.root / "data/sample/01_raw/digits", self.imagenet)

    def make_flowers(self) -> None:
        """Put five classes of the sample in the folder `flowers`: class folders, no lists."""
        for split in ("train", "val"):
            for synset in sorted((self.root / "data/sample/01_raw/digits" / split).iterdir())[:5]:
                shutil.copytree(synset, self.root / "flowers" / split / synset.name, dirs_exist_ok=True)

    def _environment(self) -> dict[str, str]:
        return {
            **self.clone.environment,
            "HOME": str(self.home),
            "PATH": f"{self.root}/.venv/bin:{self.clone.environment['PATH']}",
            "COLUMNS": "120",
        }

    def _substitute(self, text: str) -> str:
        return text.replace(DATA_SET, str(self.imagenet))

    def _take_environment_for_installed(self) -> None:
        """Let .venv be that of this process, with the state in which tools/setup.sh leaves one."""
        state = self.root / ".venv" / "installed"
        state.mkdir(parents=True)
        for part in Path(sys.prefix).iterdir():
            if part.name != state.name:
                (state.parent / part.name).symlink_to(part)
        (state / "root").write_text(f"{self.root}\n")
        (state / "name").write_text("requirements.lock\n")
        shutil.copy(PROJECT / "requirements.lock", state / "lock")
        shutil.copy(PROJECT / "pyproject.toml", state / "pyproject.toml")

    def _shrink_imagenet(self) -> None:
        """Give conf/imagenet the sample's suite and the size of conf/test, on CPU ranks."""
        small = yaml.safe_load((PROJECT / "conf/test/parameters_training.yml").read_text(encoding="utf-8"))["training"]
        base = yaml.safe_load((PROJECT / "conf/base/parameters_training.yml").read_text(encoding="utf-8"))["training"]
        blocking = yaml.safe_load((PROJECT / "conf/base/parameters_data_validation.yml").read_text(encoding="utf-8"))
        changes = {
            "dataset": {"class_num": 10},
            "data_validation": {"suite": "imagenet_layout", "blocking": blocking["data_validation"]["blocking"]},
            "model_registration": {"gate": {"min_top1": 0.0, "max_top1_drop": 1.0}, "export_check_images": 4},
            "evaluation": {"batch_size_per_rank": 16},
            "training": {
                **{name: small[name] for name in small if name != "output_dir"},
                **{name: base[name] for name in ("arch", "train_transform", "eval_transform", "loader")},
                "lr": {**base["lr"], "decay_epochs": [], "values": []},  # the recipe's are of another schedule
                "images_per_step": None,
            },
        }
        for group, change in changes.items():
            self.clone.edit_parameters(f"parameters_{group}.yml", {group: change}, "imagenet")


def _free_port() -> int:
    """Return a port that nobody listens on; Kedro-Viz takes none of those that systems give by themselves."""
    while True:
        port = random.randrange(20_000, 32_000)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


def _answers(address: str) -> bool:
    try:
        with urllib.request.urlopen(address, timeout=2) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False
