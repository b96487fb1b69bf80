"""`kedro preflight` on the real project: its output and its lack of side effects."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from faulty_dataset import REPOSITORY
from resnet50_pipeline.paddleclas.launch.command import TRAINER_PROGRAM
from resnet50_pipeline.recipe.document import parse_training_config

KEDRO = str(Path(sys.executable).with_name("kedro"))


def preflight(project: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run `kedro preflight` on this project."""
    return subprocess.run(
        [KEDRO, "preflight", *arguments],
        check=False,
        cwd=project,
        capture_output=True,
        text=True,
        timeout=120,
        env={
            **os.environ,
            "PYTHONWARNINGS": "ignore",
            "PYTHONPATH": str(REPOSITORY / "src"),
            "COLUMNS": "80",
            **environment,
        },
    )


def snapshot(folder: Path) -> dict[Path, int]:
    """Return the modification times of all files and folders in a folder, except Python's caches."""
    paths = (path for path in folder.rglob("*") if "__pycache__" not in path.parts)
    return {path: 0 if path.is_dir() else path.lstat().st_mtime_ns for path in paths}


@pytest.mark.slow
def test_the_sample_passes_and_nothing_is_written(kedro_project, tmp_path):
    """Preflight exits with code 0 and writes nothing to the project, the home folder or the temporary folder."""
    home, temporary = tmp_path / "home", tmp_path / "tmp"
    home.mkdir()
    temporary.mkdir()
    before = snapshot(kedro_project)
    done = preflight(kedro_project, HOME=str(home), TMPDIR=str(temporary))
    assert done.returncode == 0, done.stdout + done.stderr
    assert snapshot(kedro_project) == before
    assert list(home.rglob("*")) == list(temporary.rglob("*")) == []


@pytest.mark.slow
def test_the_imagenet_command_matches_the_reference(kedro_project):
    """Preflight prints the launch command, flags and recipe YAML for four GPUs, even without a GPU."""
    done = preflight(kedro_project, "--env", "imagenet", "--json")
    assert done.returncode == 4
    report = json.loads(done.stdout)
    assert report["ok"] is False
    training_dir = "data/imagenet/06_models/training"
    assert report["command"] == [
        sys.executable,
        "-u",
        "-m",
        "paddle.distributed.launch",
        "--gpus=0,1,2,3",
        f"--log_dir={training_dir}/log",
        str(kedro_project / TRAINER_PROGRAM.relative_to(REPOSITORY)),
        "train",
        "--config",
        f"{training_dir}/training_config.yaml",
    ]
    environment = report["environment"]
    assert environment["CUDA_VISIBLE_DEVICES"] == "0,1,2,3"
    assert environment["FLAGS_cudnn_exhaustive_search"] == "True"
    assert environment["FLAGS_cudnn_batchnorm_spatial_persistent"] == "True"
    config = parse_training_config(yaml.safe_dump(report["config"]), "report")
    assert (config.Global.epochs, config.Global.device, config.DataLoader.Train.sampler.batch_size) == (120, "gpu", 64)
    refused = {one["check"]: one for one in report["findings"] if one["status"] == "blocking"}
    assert set(refused) == {"Paddle", "dataset"}
    assert "make setup GPU=1" in refused["Paddle"]["remedy"]


@pytest.mark.slow
def test_the_table_is_the_whole_output(kedro_project, tmp_path):
    """Only the table is printed, in 80 columns. --details writes the command to a file, on one line."""
    details = tmp_path / "details.txt"
    arguments = ("--env", "imagenet", "--params", "dataset.root=/nowhere", "--details", str(details))
    done = preflight(kedro_project, *arguments)
    assert done.returncode == 4
    assert max(map(len, done.stdout.splitlines())) <= 80
    assert "✗ dataset" in done.stdout
    assert "/nowhere" in done.stdout
    assert "CUDA_VISIBLE_DEVICES" not in done.stdout
    title, command, *rest = details.read_text(encoding="utf-8").splitlines()
    assert title == "Command"
    assert shlex.split(command)[:4] == [sys.executable, "-u", "-m", "paddle.distributed.launch"]
    assert "  CUDA_VISIBLE_DEVICES=0,1,2,3" in rest


@pytest.mark.slow
def test_verbose_output_begins_and_ends_with_the_table(kedro_project):
    """With --verbose, the table comes before and after the command, the environment and the YAML file."""
    done = preflight(kedro_project, "--verbose")
    before, _, rest = done.stdout.partition("\nCommand\n")
    assert done.returncode == 0
    assert before.count("✓ Python") == rest.count("✓ Python") == 1
    assert rest.index("Arch:") < rest.index("✓ Python")


@pytest.mark.slow
def test_no_secret_is_shown(kedro_project):
    """Secrets in the environment, in the tracking URI and in the ranks' variables are not printed."""
    parameters = "training.launch.environment.MY_TOKEN=canary,tracking.uri=http://me:canary@127.0.0.1:9"
    secrets = dict.fromkeys(("AWS_SECRET_ACCESS_KEY", "MLFLOW_TRACKING_TOKEN", "SOMETHING", "HTTPS_PROXY"), "canary")
    for form in (["--verbose"], ["--json"]):
        done = preflight(kedro_project, *form, "--params", parameters, **secrets)
        assert "me:…@127.0.0.1:9" in done.stdout
        assert "MY_TOKEN" in done.stdout
        assert "canary" not in done.stdout + done.stderr


def test_a_mistyped_parameter_is_one_message(kedro_project):
    """Like `kedro run`, preflight names the group and the field of an invalid parameter."""
    for parameters, names in (
        ("training.epoch=3", ("training.epoch", "epochs")),
        ("trainin.epochs=3", ("trainin", "training")),
        ("training.output_dir=/elsewhere", ("training.output_dir",)),
    ):
        done = preflight(kedro_project, "--params", parameters)
        assert done.returncode == 1
        assert done.stderr.startswith("error: ")
        assert [name for name in names if name not in done.stderr] == []
        assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_report_is_printed_without_unicode(kedro_project):
    """Without Unicode, ✓ and → are printed as question marks."""
    done = preflight(kedro_project, PYTHONIOENCODING="latin-1")
    assert done.returncode == 0, done.stderr
    assert "? Python" in done.stdout


@pytest.mark.slow
def test_an_opencv_that_cannot_be_imported_is_a_finding(kedro_project, tmp_path):
    """If `import cv2` fails, as it does for opencv-python without libGL, preflight shows the error."""
    (tmp_path / "cv2.py").write_text("raise ImportError('libGL.so.1: cannot open shared object file')\n")
    done = subprocess.run(
        [Path(sys.executable).with_name("kedro"), "preflight"],
        check=False,
        cwd=kedro_project,
        env={**os.environ, "PYTHONPATH": f"{tmp_path}:{kedro_project / 'src'}"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 4, done.stderr
    assert "libGL.so.1" in done.stdout
    assert "Traceback" not in done.stderr


def test_preflight_works_in_a_subfolder(kedro_project):
    """Preflight works in a subfolder, even though Kedro looks for conf/logging.yml only in the current folder."""
    code = (
        "import logging, sys\n"
        "sys.argv = ['kedro', 'preflight', '--params', 'trainin.epochs=3']\n"
        "from kedro.framework.cli import main\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        "print(logging.getLogger('great_expectations').level, logging.getLogger('kedro').level)\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        cwd=kedro_project / "src",
        env={**os.environ, "PYTHONPATH": str(REPOSITORY / "src")},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert done.stdout.splitlines()[-1] == "30 30"
