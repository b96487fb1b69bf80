"""`kedro package`: a wheel of the code and an archive of the configuration, to run elsewhere."""

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

from resnet50_pipeline.commands.errors import ending_clearly
from resnet50_pipeline.commands.project import enter_project, log_plain_lines_unless_in_a_terminal
from resnet50_pipeline.exceptions import ParameterError
from resnet50_pipeline.files import replacing_file
from resnet50_pipeline.git import COMMIT_VARIABLE, describe_git

_SOURCES = ("pyproject.toml", "setup.py", "README.md", "src")
_LOCAL = "local"


@click.command("package")
@click.pass_context
def package(context: click.Context, /) -> None:
    """Write a wheel, and conf-resnet50_pipeline.tar.gz without what is in conf/local, into dist/.

    In the place of Kedro's own, which has the newest setuptools downloaded to build with, and archives what lies in
    folders below conf/local.
    """
    with ending_clearly(context):
        project = enter_project()
        log_plain_lines_unless_in_a_terminal()
        if not (project / "pyproject.toml").is_file():
            raise ParameterError(f"{project} has no pyproject.toml to build from; go to the project's folder")
        dist = project / "dist"
        archive = dist / f"conf-{PACKAGE_NAME}.tar.gz"
        wheel = build_wheel(project, dist)
        write_configuration_archive(project / settings.CONF_SOURCE, archive)
        for path in (wheel, archive):
            click.echo(path.relative_to(project))


def build_wheel(project: Path, folder: Path) -> Path:
    """Build the project's wheel with the setuptools that is installed here, into `folder`, and return it.

    Raises:
        ParameterError: the build failed; with its last words.
    """
    state = describe_git(project)
    # In a copy: what earlier builds left in build/lib, modules deleted since among it, would be in the wheel too.
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
            raise ParameterError(f"the wheel could not be built:\n{(done.stdout + done.stderr).strip()[-2000:]}")
        (built,) = wheels.glob("*.whl")
        folder.mkdir(exist_ok=True)
        with replacing_file(folder / built.name) as temporary:
            shutil.copy(built, temporary)
    return folder / built.name


def write_configuration_archive(conf: Path, archive: Path) -> None:
    """Write a folder of configuration as a tar file, byte for byte the same for the same files.

    conf/local is in it as an empty folder, for it is the environment that a run has which names none.
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
            tar.add(path, Path(conf.name) / path.relative_to(conf), recursive=False, filter=_without_origin)
        empty = tarfile.TarInfo(f"{conf.name}/{_LOCAL}")
        empty.type, empty.mode = tarfile.DIRTYPE, 0o755
        tar.addfile(empty)


def _without_origin(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.mtime = member.uid = member.gid = 0
    member.uname = member.gname = ""
    member.mode = 0o755 if member.isdir() else 0o644
    return member


def _is_hidden(path: Path) -> bool:
    return path.name.startswith(".")
