"""`dvc exp run --set-param` accepts every parameter file that a dvc.yaml names."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from dvc.utils.hydra import apply_overrides
from dvc.utils.serialize import load_path
from dvc_objects.fs import LocalFileSystem

PROJECT = Path(__file__).parents[2]
CHAINS = ("dvc.yaml", "conf/imagenet/dvc.yaml")
PARAMETER_FILES = sorted(path.relative_to(PROJECT).as_posix() for path in PROJECT.glob("conf/*/parameters*.yml"))


def files_of(chain: str) -> Iterator[str]:
    """Yield the files in `params` and `vars` of a dvc.yaml, relative to the project."""
    content = yaml.safe_load((PROJECT / chain).read_text(encoding="utf-8"))
    for name in content.get("vars", []):
        yield (Path(chain).parent / name).as_posix()
    for stage in content["stages"].values():
        for entry in stage.get("params", []):
            yield from entry


def leaves_of(values: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the path and the value of every parameter that is not a group."""
    for name, value in values.items():
        if isinstance(value, dict) and value:
            yield from leaves_of(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


@pytest.mark.parametrize("file", sorted({file for chain in CHAINS for file in files_of(chain)}))
def test_dvc_sets_every_parameter_of_a_file(file: str, tmp_path: Path) -> None:
    """For every key in a file, `--set-param file:key=value` changes only this key."""
    given = dict(leaves_of(load_path(PROJECT / file, LocalFileSystem())))
    copy = tmp_path / "parameters.yml"
    for key in given:
        shutil.copy(PROJECT / file, copy)
        apply_overrides(copy, [f"{key}=another"])
        assert dict(leaves_of(load_path(copy, LocalFileSystem()))) == {**given, key: "another"}


def test_dvc_can_add_the_folder_of_the_scan_cache(tmp_path: Path) -> None:
    """`file:+key=value` sets a parameter that is missing from the file because its default depends on the workspace."""
    copy = tmp_path / "parameters.yml"
    shutil.copy(PROJECT / "conf/base/parameters_data_validation.yml", copy)
    apply_overrides(copy, ["+data_validation.scan.cache_dir=/scans"])
    assert load_path(copy, LocalFileSystem())["data_validation"]["scan"]["cache_dir"] == "/scans"


@pytest.mark.parametrize("file", PARAMETER_FILES)
def test_a_parameter_file_contains_no_interpolation(file: str) -> None:
    """DVC does not support Kedro's resolvers, such as `globals`, so no parameter file uses `${…}`."""
    assert "${" not in (PROJECT / file).read_text(encoding="utf-8")
