"""In the real project, commands report errors early, in one message, and `kedro run` runs the right stages."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from resnet50_pipeline.cli import run
from resnet50_pipeline.commands.errors import describe_error, find_expected_error
from resnet50_pipeline.exceptions import DatasetNotFoundError

REPOSITORY = Path(__file__).parents[2]
KEDRO = str(Path(sys.executable).with_name("kedro"))


def kedro(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [KEDRO, *arguments],
        check=False,
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "PYTHONWARNINGS": "ignore", **environment},
    )


def nodes(**environment: str) -> list[str]:
    """Return the nodes of the `__default__` pipeline."""
    lines = kedro("registry", "describe", **environment).stdout.splitlines()
    return [line.removeprefix("- ").split(" ")[0] for line in lines if line.startswith("- ")]


def test_a_missing_dataset_is_reported_before_large_imports():
    """Without ImageNet, the command prints one message and exits with 1, before it imports large libraries."""
    code = (
        "import atexit, sys\n"
        "heavy = ('mlflow', 'paddle', 'pandas', 'pyarrow', 'great_expectations', 'matplotlib', 'cv2')\n"
        "atexit.register(lambda: print([name for name in heavy if name in sys.modules]))\n"
        "from kedro.framework.cli import main\n"
        "sys.argv = ['kedro', 'run', '--env', 'imagenet', '--params', 'dataset.root=/nowhere']\n"
        "main()\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        check=False,
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 1
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("/nowhere") == 1
    assert "Traceback" not in done.stderr
    assert done.stdout.strip() == "[]"


def test_a_missing_dataset_is_reported_for_selected_nodes():
    """The dataset is also checked if options select nodes, which requires loading the pipeline."""
    done = kedro("run", "--env", "imagenet", "--from-nodes", "scan_dataset", "--params", "dataset.root=/nowhere")
    assert done.returncode == 1
    assert done.stderr.startswith("error: ")
    assert "/nowhere" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        (["--pipelines", "trainig"], ("trainig", "training")),
        (["--params", "trainin.epochs=3"], ("trainin", "training")),
        (["--params", "training.epoch=3"], ("training.epoch", "epochs")),
        (["--params", "dataset.root=/data/mine"], ("sample_data", "dataset.root")),
        (["--env", "imagnet"], ("imagnet",)),
        (
            ["--env", "imagenet", "--pipelines", "sample_data", "--nodes", "write_sample_dataset"],
            ("sample_data", "--env imagenet"),
        ),
    ],
)
def test_user_errors_are_one_message_and_exit_code_1(arguments, names):
    """A wrong name or value stops the run before the first node, with one message and no traceback."""
    done = kedro("run", *arguments)
    assert done.returncode == 1
    assert done.stderr.startswith("error: ")
    assert [name for name in names if name not in done.stderr] == []
    assert "Traceback" not in done.stderr
    assert done.stderr.count("error:") == 1


def test_verbose_adds_the_traceback():
    """With --verbose, the traceback is printed before the message."""
    done = kedro("run", "--verbose", "--env", "imagenet", "--params", "dataset.root=/nowhere")
    assert done.returncode == 1
    assert "Traceback" in done.stderr
    assert "\nerror: " in done.stderr


def test_only_environments_with_the_sample_create_it():
    """`__default__` begins with sample_data in base and test, and with data_validation elsewhere."""
    assert nodes()[0] == nodes(KEDRO_ENV="test")[0] == "write_sample_dataset"
    given = nodes(KEDRO_ENV="imagenet")
    assert given[0] == "scan_dataset"
    assert sorted([*given, "write_sample_dataset"]) == sorted(nodes())


def test_every_session_of_a_process_gets_its_own_chain():
    """Successive sessions in one process build `__default__` for their own environment."""
    code = (
        "from pathlib import Path\n"
        "from kedro.framework.session import KedroSession\n"
        "from kedro.framework.startup import bootstrap_project\n"
        "from kedro.framework.project import pipelines\n"
        f"bootstrap_project(Path({str(REPOSITORY)!r}))\n"
        "for env in (None, 'imagenet', 'test', 'base', 'imagenet'):\n"
        f"    with KedroSession.create(project_path={str(REPOSITORY)!r}, env=env) as session:\n"
        "        session.load_context()\n"
        "        print('first', pipelines['__default__'].nodes[0].name)\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code], cwd="/", capture_output=True, text=True, check=True, timeout=60
    )
    sample, given = "write_sample_dataset", "scan_dataset"
    first = [line.removeprefix("first ") for line in done.stdout.splitlines() if line.startswith("first ")]
    assert first == [sample, given, sample, sample, given]


def test_kedro_viz_shows_the_chain_of_its_environment():
    """Kedro-Viz, which runs without the project's hooks, shows the pipelines of its environment."""
    code = (
        "from pathlib import Path\n"
        "from kedro_viz.integrations.kedro.data_loader import load_data\n"
        f"pipelines = load_data(Path({str(REPOSITORY)!r}), env='imagenet', include_hooks=False)[1]\n"
        "print('first', pipelines['__default__'].nodes[0].name)\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )
    assert "first scan_dataset\n" in done.stdout


def test_run_has_all_options_of_kedro():
    """The project's `run` command has all options of Kedro's `run` command, plus --verbose and --quiet."""
    from kedro.framework.cli.project import run as kedro_run

    assert {option.name for option in run.params} == {option.name for option in kedro_run.params} | {"verbose", "quiet"}


def test_errors_wrapped_by_kedro_are_found():
    """If Kedro wraps a dataset's error, the original message is printed."""
    cause = DatasetNotFoundError("manifest.parquet does not exist")
    try:
        try:
            raise cause
        except DatasetNotFoundError as error:
            raise RuntimeError("Failed while loading data from dataset") from error
    except RuntimeError as wrapped:
        assert find_expected_error(wrapped) is cause
    assert find_expected_error(ValueError("a bug")) is None


def test_messages_contain_no_links():
    """Links added by pydantic are removed."""
    error = DatasetNotFoundError("epoch\n  Extra inputs are not permitted\n    For further information visit https://x")
    assert describe_error(error) == "epoch\n  Extra inputs are not permitted"


@pytest.mark.parametrize("module", ["hooks", "cli", "settings", "pipeline_registry"])
def test_commands_do_not_import_large_libraries(module):
    """What every Kedro command imports does not include MLflow, Paddle or pandas."""
    code = (
        f"import sys, resnet50_pipeline.{module}\n"
        "print([name for name in ('mlflow', 'paddle', 'pandas', 'pyarrow', 'great_expectations', 'matplotlib', 'cv2')"
        " if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_installed_program_is_kedro_run():
    """`python -m resnet50_pipeline` has the same options and errors."""
    command = [sys.executable, "-W", "ignore", "-m", "resnet50_pipeline"]
    command += ["--env", "imagenet", "--params", "dataset.root=/nowhere"]
    done = subprocess.run(command, check=False, cwd=REPOSITORY, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert done.stderr.startswith("error: ")
    assert "/nowhere" in done.stderr
