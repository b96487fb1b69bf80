"""The commands in messages run as printed, regardless of how the run was started."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from resnet50_pipeline.commands.params_option import add_params_of_file
from resnet50_pipeline.commands.run import run
from resnet50_pipeline.processes.command_line import other_command, repeat_command, resume_command

PYTHON, FOLDER = sys.executable, Path(sys.executable).parent
RUN = ["run", "--env", "test", "--pipelines", "training", "--params", "training.epochs=3"]


def print_command(start: list[str], given: list[str], *added: str, **environment: str) -> str:
    """Return the command that a process prints if its command line consists of `start` and `given`."""
    added = added or ("--params", "training.resume=true")
    program = [start[-1], *given]
    return repeat_command(*added, arguments=program, original=[*start, *given], environment=environment)


def read_options(arguments: list[str]) -> dict[str, Any]:
    """Return the options that `kedro run` gets from these arguments."""
    with run.make_context("run", list(arguments)) as context:
        options = {name: value for name, value in context.params.items() if name != "config"}
        return {**options, "params": add_params_of_file(context, options["params"])}


@pytest.fixture
def run_file(tmp_path) -> Path:
    """A file for `--config` with an environment, a pipeline and a parameter."""
    path = tmp_path / "run.yml"
    path.write_text("run: {env: test, pipelines: training, params: {training: {epochs: 3}}}\n")
    return path


@pytest.mark.parametrize(
    ("start", "program"),
    [
        ([PYTHON, str(FOLDER / "kedro")], ["kedro"]),
        ([PYTHON, "elsewhere/bin/kedro"], ["elsewhere/bin/kedro"]),
        ([PYTHON, str(FOLDER / "resnet50-pipeline")], ["resnet50-pipeline"]),
        (["python", "-m", "kedro"], ["python", "-m", "kedro"]),
        (["python", "-W", "ignore", "-m", "resnet50_pipeline"], ["python", "-W", "ignore", "-m", "resnet50_pipeline"]),
    ],
)
def test_the_program_is_the_one_that_was_typed(monkeypatch, start, program):
    """A printed command starts as typed, or with just the program's name if it is on PATH."""
    monkeypatch.setenv("PATH", str(FOLDER))
    assert shlex.split(print_command(start, RUN)) == [*program, *RUN, "--params", "training.resume=true"]


@pytest.mark.parametrize("given", [RUN, ["run", "--params=training.resume=false,training.epochs=3"], ["run"]])
def test_the_printed_command_has_the_options_of_the_run(given):
    """Except for training.resume, the printed command has the options of the run."""
    expected, printed = (
        read_options(given[1:]),
        read_options(shlex.split(print_command(["python", "-m", "kedro"], given))[4:]),
    )
    expected["params"] = {**expected["params"], "training": {**expected["params"].get("training", {}), "resume": True}}
    assert printed == expected


def test_the_config_file_keeps_its_parameters(run_file):
    """An added parameter does not replace the parameters in the --config file."""
    printed = print_command(["python", "-m", "kedro"], ["run", "--config", str(run_file)])
    options = read_options(shlex.split(printed)[4:])
    assert (options["env"], options["params"]) == ("test", {"training": {"epochs": 3, "resume": True}})


def test_kedro_env_is_part_of_the_command():
    """The printed command includes KEDRO_ENV, even if it was set for one command only, unless --env overrides it."""
    start = ["python", "-m", "kedro"]
    assert print_command(start, ["run"], KEDRO_ENV="test").startswith("KEDRO_ENV=test python -m kedro run ")
    assert print_command(start, RUN, KEDRO_ENV="imagenet").startswith("python -m kedro run ")


def test_a_resumed_run_prints_the_same_command():
    """A resumed training run prints the same command again."""
    once = print_command(["python", "-m", "kedro"], RUN)
    words = shlex.split(once)
    assert print_command(words[:3], words[3:]) == once


@pytest.mark.parametrize(
    ("start", "given", "expected"),
    [
        (["python", "-m", "ipykernel_launcher"], ["-f", "kernel.json"], "kedro run --pipelines training"),
        (["python", "train.py"], [], "kedro run --pipelines training"),
        (
            ["python", "-m", "kedro"],
            ["promote", "3", "--env", "test"],
            "python -m kedro run --env test --pipelines training",
        ),
        (
            ["python", "-m", "kedro"],
            ["run", "-p", "evaluation", "--tags", "training"],
            "python -m kedro run --tags training --pipelines training",
        ),
        (
            ["python", "-m", "resnet50_pipeline"],
            ["--env", "x"],
            "python -m resnet50_pipeline --env x --pipelines training",
        ),
    ],
)
def test_another_command_or_program_prints_a_new_run(start, given, expected):
    """A message in a notebook, or in a command other than `run`, suggests a new run in the same environment."""
    assert print_command(start, given, "--pipelines", "training") == expected


@pytest.mark.parametrize(
    ("given", "variables", "expected"),
    [
        (["--env", "photos"], {}, "python -m kedro data-fix a.csv --env photos"),
        (["-e", "photos", "--port=80"], {}, "python -m kedro data-fix a.csv -e photos"),
        (["--params", "dataset.root=/x"], {}, "python -m kedro data-fix a.csv --params dataset.root=/x"),
        ([], {"KEDRO_ENV": "photos"}, "KEDRO_ENV=photos python -m kedro data-fix a.csv"),
        (["--env=photos"], {"KEDRO_ENV": "other"}, "python -m kedro data-fix a.csv --env=photos"),
        (["--conf-source", "c.tar.gz"], {}, "python -m kedro data-fix a.csv --conf-source c.tar.gz"),
    ],
)
def test_the_next_command_has_the_configuration_of_this_one(given, variables, expected):
    """A suggested command has the environment, the configuration folder and the parameters of the current one."""
    start = ["python", "-m", "kedro"]
    arguments = ["kedro", "review", "issues.csv", *given]
    original = [*start, *arguments[1:]]
    assert other_command("data-fix", "a.csv", arguments=arguments, original=original, environment=variables) == expected


def test_another_program_suggests_kedro_run():
    """In another program, such as the test runner, the printed command is a new `kedro run`."""
    assert resume_command() == "kedro run --params training.resume=true"


@pytest.mark.slow
@pytest.mark.parametrize(
    "way", ["kedro", "module", *(pytest.param(way, marks=pytest.mark.exhaustive) for way in ("variable", "config"))]
)
def test_the_printed_command_resumes(probe_project, run_file, way):
    """A shell runs the printed command, and training resumes from its checkpoint set."""
    run_file.write_text("run: {params: {training: {seed: 7}}}\n")
    variables = {"KEDRO_ENV": "base"} if way == "variable" else {}
    start = [PYTHON, str(FOLDER / "kedro")] if way == "kedro" else [PYTHON, "-m", "kedro"]
    given = ["run", "--config", str(run_file)] if way == "config" else ["run", "--params", "training.seed=7"]
    probe_project.behave("fail")
    words = start[1:] if way == "kedro" else start
    failed = subprocess.run(
        [*words, *given], check=False, cwd=probe_project.path, env={**os.environ, **variables}, capture_output=True
    )
    assert failed.returncode == 1
    probe_project.behave("finish")
    command = print_command(start, given, **variables)
    shell = ["/bin/sh", "-c", command]
    done = subprocess.run(shell, check=False, cwd=probe_project.path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert len((probe_project.path / "data/sample/06_models/training/events.jsonl").read_text().splitlines()) == 6
