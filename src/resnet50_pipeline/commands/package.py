"""Implements `kedro package`, which builds a wheel of the code and an archive of the configuration."""

from __future__ import annotations

import gzip
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

import click
from kedro.framework.project import PACKAGE_NAME, settings

from resnet50_pipeline.commands.errors import reporting_errors
from resnet50_pipeline.commands.project import enter_project
from resnet50_pipeline.exceptions import ParameterError
from resnet50_pipeline.files import replacing_file
from resnet50_pipeline.git import COMMIT_VARIABLE, describe_git

_SOURCES = ("pyproject.toml", "setup.py", "README.md", "src")
_LOCAL = "local"


@click.command("package")
@click.pass_context
def package(context: click.Context, /) -> None:
    """Build a wheel and a configuration archive.

    Both files are written to dist/. The archive, conf-resnet50_pipeline.tar.gz, does not include the files in
    conf/local.

    Replaces Kedro's own command, which downloads the newest setuptools for the build and adds subfolders of conf/local
    to the archive.
    """
    with reporting_errors(context):
        project = enter_project()
        if not (project / "pyproject.toml").is_file():
            raise ParameterError(f"{project} has no pyproject.toml → change to the project folder")
        dist = project / "dist"
        archive = dist / f"conf-{PACKAGE_NAME}.tar.gz"
        wheel = build_wheel(project, dist)
        write_configuration_archive(project / settings.CONF_SOURCE, archive)
        for path in (wheel, archive):
            click.echo(path.relative_to(project))


def build_wheel(project: Path, folder: Path) -> Path:
    """Build the project's wheel in `folder` with the installed setuptools, and return its path.

    Raises:
        ParameterError: if the build fails; the message ends with its output.
    """
    state = describe_git(project)
    # Build from a copy. Otherwise, the wheel would also contain deleted modules that are still in the project's
    # build/lib.
    with tempfile.TemporaryDirectory(prefix="package-") as staged:
        for name in _SOURCES:
            source, copy = project / name, Path(staged) / name
            if source.is_dir():
                shutil.copytree(source, copy, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
            else:
                shutil.copy(source, copy)
        wheels = Path(staged) / "wheels"
        done = subprocess.run(
            [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(wheels), staged],
            env={**os.environ, COMMIT_VARIABLE: str(state)},
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise ParameterError(
                f"building the wheel failed → fix the error in the build's "
                f"output:\n{(done.stdout + done.stderr).strip()[-2000:]}"
            )
        (built,) = wheels.glob("*.whl")
        folder.mkdir(exist_ok=True)
        with replacing_file(folder / built.name) as temporary:
            shutil.copy(built, temporary)
    return folder / built.name


def write_configuration_archive(conf: Path, archive: Path) -> None:
    """Write a configuration folder to a tar file. The same files always produce the same bytes.

    conf/local is included as an empty folder, because `local` is the default environment of a run.
    """
    local = conf / _LOCAL
    members = [path for path in sorted(conf.rglob("*")) if not path.is_relative_to(local) and not _is_hidden(path)]
    with (
        replacing_file(archive) as temporary,
        temporary.open("wb") as file,
        gzip.GzipFile("", "wb", fileobj=file, mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w") as tar,
    ):
        for path in [conf, *members]:
            tar.add(path, Path(conf.name) / path.relative_to(conf), recursive=False, filter=_anonymize)
        empty = tarfile.TarInfo(f"{conf.name}/{_LOCAL}")
        empty.type, empty.mode = tarfile.DIRTYPE, 0o755
        tar.addfile(empty)


def _anonymize(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.mtime = member.uid = member.gid = 0
    member.uname = member.gname = ""
    member.mode = 0o755 if member.isdir() else 0o644
    return member


def _is_hidden(path: Path) -> bool:
    return path.name.startswith(".")
