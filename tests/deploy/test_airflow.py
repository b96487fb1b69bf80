"""The committed DAGs match what kedro-airflow generates, and Airflow imports and runs them."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from mlflow import MlflowClient

from resnet50_pipeline.pipeline_registry import STAGES

PROJECT = Path(__file__).parents[2]
AIRFLOW = PROJECT / "deploy" / "airflow"
# {DAG: (environment, stages)}.
DAGS = {"local": ("resnet50_pipeline", STAGES), "imagenet": ("resnet50_pipeline_imagenet", STAGES[1:])}
PROGRAMS = Path(sys.executable).parent


def environment(**variables: str) -> dict[str, str]:
    """Return this process's environment without its import path, which Airflow must not use."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW_", "PYTHONPATH"))}
    return inherited | variables


@pytest.mark.slow
@pytest.mark.parametrize(("env", "name"), [(env, name) for env, (name, _) in DAGS.items()])
def test_the_dag_is_what_make_airflow_dag_writes(tmp_path: Path, env: str, name: str) -> None:
    """Generating the DAG again produces the committed file, byte for byte."""
    command = ["airflow", "create", "--env", env, "--target-dir", str(tmp_path)]
    command += ["--jinja-file", str(AIRFLOW / "dag.py.j2")]
    source = {"PYTHONPATH": str(PROJECT / "src")}
    done = subprocess.run(
        [PROGRAMS / "kedro", *command],
        cwd=PROJECT,
        env=os.environ | source,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    file = f"{name}_dag.py"
    assert (tmp_path / file).read_text() == (AIRFLOW / "dags" / file).read_text(), "run: make airflow-dag"


def test_the_lock_pins_everything_by_hash() -> None:
    """Airflow's lock file contains all requirements and a hash for every package, but no index."""
    text = (AIRFLOW / "requirements.lock").read_text()
    assert "://" not in text
    packages = re.findall(r"^([\w.-]+)==(\S+) \\\n    --hash=sha256:[0-9a-f]{64}", text, flags=re.MULTILINE)
    assert len(packages) == len(re.findall(r"^\w", text, flags=re.MULTILINE)) > 100
    wanted = re.findall(r"^apache-airflow==(\S+)$", (AIRFLOW / "requirements.in").read_text(), flags=re.MULTILINE)
    assert dict(packages)["apache-airflow"] == wanted[0]
    assert "apache-airflow-providers-standard" in dict(packages)


@pytest.fixture(scope="module")
def airflow(tmp_path_factory):
    """A function that runs a program in a separate Airflow environment with its own database."""
    root = tmp_path_factory.mktemp("airflow")
    venv = root / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", venv], check=True)
    # Like `make setup`, use uv with pip's configuration, but without this environment's variables.
    install = (
        'eval "$("$0" -m pip config list | "$0" tools/uv_settings.py)"\n'
        'exec "$(dirname "$0")/uv" pip install --quiet --python "$1" --require-hashes --no-deps -r "$2"'
    )
    arguments = [sys.executable, venv / "bin" / "python", AIRFLOW / "requirements.lock"]
    done = subprocess.run(
        ["sh", "-c", install, *arguments], cwd=PROJECT, env=environment(), capture_output=True, text=True, check=False
    )
    if done.returncode and "CI" not in os.environ:
        pytest.skip(f"Airflow cannot be installed here: {done.stderr[-300:]}")
    assert done.returncode == 0, done.stderr
    project = root / "project"
    shutil.copytree(PROJECT / "conf", project / "conf", ignore=shutil.ignore_patterns("local"))
    (project / "conf" / "local").mkdir()
    program = root / "resnet50-pipeline"
    program.write_text(f'#!/bin/sh\nPYTHONPATH="{PROJECT / "src"}" exec {sys.executable} -m resnet50_pipeline "$@"\n')
    program.chmod(0o755)
    settings = environment(
        PATH=f"{venv / 'bin'}:{os.environ['PATH']}",
        AIRFLOW_HOME=str(root / "home"),
        AIRFLOW__CORE__DAGS_FOLDER=str(AIRFLOW / "dags"),
        AIRFLOW__CORE__LOAD_EXAMPLES="False",
        RESNET50_PROJECT=str(project),
        RESNET50_PROGRAM=str(program),
    )

    def run(*command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(command, cwd=root, env=settings, capture_output=True, text=True, check=False)

    migrated = run("airflow", "db", "migrate")
    assert migrated.returncode == 0, migrated.stdout + migrated.stderr
    run.project = project
    return run


LOOK = """
from airflow.dag_processing.dagbag import DagBag

bag = DagBag()
assert not bag.import_errors, bag.import_errors
for name, dag in sorted(bag.dags.items()):
    for task in dag.topological_sort():
        print(name, task.task_id, task.retries, task.execution_timeout)
"""


@pytest.mark.slow
def test_airflow_imports_the_dags(airflow) -> None:
    """Airflow imports both DAGs without errors; the stages are in order, and only training is retried."""
    done = airflow("python", "-c", LOOK)
    assert done.returncode == 0, done.stderr
    found = [line.split() for line in done.stdout.splitlines() if line.startswith("resnet50_pipeline")]
    for name, stages in DAGS.values():
        tasks = [(task, retries, timeout) for dag, task, retries, timeout in found if dag == name]
        assert tasks == [(stage, "3" if stage == "training" else "0", "None") for stage in stages]


@pytest.mark.exhaustive
@pytest.mark.slow
def test_airflow_runs_stages(airflow) -> None:
    """`airflow dags test` runs the data stages in the given environment as child runs of one MLflow run."""
    skipped = "training|evaluation|model_registration"
    given = ["--conf", '{"environment": "test", "parameters": "sample_data.seed=3"}']
    done = airflow("airflow", "dags", "test", "resnet50_pipeline", *given, "--mark-success-pattern", skipped)
    assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]
    data = airflow.project / "data" / "test"
    assert len((data / "05_model_input" / "train_list.txt").read_text().splitlines()) == 60
    client = MlflowClient(tracking_uri=f"sqlite:///{data / 'mlflow.db'}")
    runs = client.search_runs([client.get_experiment_by_name("resnet50-test").experiment_id])
    (parent,) = (run for run in runs if run.data.tags.get("parent.kind") == "program")
    children = [run for run in runs if run.data.tags.get("mlflow.parentRunId") == parent.info.run_id]
    assert {run.data.tags["kedro.pipelines"] for run in children} == set(STAGES[:3])
    assert {run.info.status for run in runs} == {"FINISHED"}
    assert parent.info.run_name.startswith("ResNet50 test airflow manual__")
    (sample,) = (run for run in children if run.data.tags["kedro.pipelines"] == "sample_data")
    assert sample.data.params["sample_data.seed"] == "3"
