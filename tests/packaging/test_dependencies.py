"""pyproject.toml declares every package that the code imports."""

from __future__ import annotations

import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import grimp
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

PROJECT = Path(__file__).parents[2]
PACKAGE = "resnet50_pipeline"
# `ppcls` is inside the wheel of paddleclas; the trainer adds its folder to the import path. Only the GPU lock file
# installs nvidia-ml-py.
PROVIDED_INSIDE = {"ppcls": ["paddleclas"], "pynvml": ["nvidia-ml-py"]}


def test_every_imported_package_is_declared() -> None:
    """Every third-party package imported anywhere in the code is a declared dependency."""
    pyproject = tomllib.loads((PROJECT / "pyproject.toml").read_text(encoding="utf-8"))
    project = pyproject["project"]
    extras = project["optional-dependencies"]
    texts = [
        *project["dependencies"],
        *(text for extra in ("cpu", "dask", "gpu", "onnx", "sweep") for text in extras[extra]),
    ]
    texts += pyproject["dependency-groups"]["paddleclas"]
    declared = {canonicalize_name(Requirement(text).name) for text in texts}
    graph = grimp.build_graph(PACKAGE, include_external_packages=True, cache_dir=None)
    imported = {module for module in graph.modules if graph.is_module_squashed(module)} - sys.stdlib_module_names
    providers = {**packages_distributions(), **PROVIDED_INSIDE}
    undeclared = {
        module: sorted(graph.find_modules_that_directly_import(module))
        for module in imported
        if not declared & {canonicalize_name(name) for name in providers.get(module, [module])}
    }
    assert undeclared == {}
