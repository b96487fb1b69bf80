"""Loads the configuration, including the training recipe that the `recipe` parameter selects in `conf/recipes/`.

    kedro run --env imagenet --params recipe=fast-40

A recipe replaces conf/base's entire `training` group except the run settings, such as devices and checkpoint intervals,
so a recipe has the same effect in every environment. The environment and `--params` can override individual values:

    conf/base  <  conf/recipes/<recipe>.yml  <  conf/<environment>  <  --params

Unless an environment sets a workspace, names and folders such as data/<environment> are derived from the name of the
environment (see `derive_parameters`). An environment can be as short as this:

    dataset:
      root: /data/flowers
"""

from __future__ import annotations

import os
import re
import tarfile
import zipfile
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import yaml
from fsspec import AbstractFileSystem
from fsspec.implementations.local import LocalFileSystem
from kedro.config import OmegaConfigLoader
from omegaconf import OmegaConf
from omegaconf.errors import InterpolationResolutionError, UnsupportedInterpolationType

from resnet50_pipeline.exceptions import ParameterError
from resnet50_pipeline.files import shorten_path
from resnet50_pipeline.parameters import RUN_SETTINGS
from resnet50_pipeline.parameters.yaml_files import find_yaml_problem
from resnet50_pipeline.text import suggest_name

RECIPE = "recipe"
FOLDER = "recipes"
_GROUP = "training"
# `training.loader` mixes both kinds of settings: sampling, for example, belongs to the recipe, and the number of
# workers to the run.
_SHARED_SECTIONS = frozenset({"loader"})
# Default folders in the workspace. `${globals:workspace}` in the configuration files would be shorter, but DVC reads
# these files without Kedro, and `dvc exp run --set-param` fails on unknown resolvers.
_WORKSPACE_FOLDERS = (
    (("dataset",), "patches", "01_raw/patches"),
    (("data_validation", "scan"), "cache_dir", "02_intermediate/scan_cache"),
    (("logs",), "directory", "09_logs"),
    (("sweep",), "output_dir", "09_sweeps"),
)


class RecipeConfigLoader(OmegaConfigLoader):
    """Kedro's configuration loader, extended to merge the recipe, and to derive names and folders that are not set."""

    # Set while the globals are loaded, before the parameters.
    _is_named_after_dataset = False

    def __init__(self, conf_source: str | Path, *args: Any, **kwargs: Any) -> None:
        """Open the configuration, which is a folder or an archive.

        Raises:
            ParameterError: if the archive cannot be read.
        """
        try:
            super().__init__(str(conf_source), *args, **kwargs)
        except (tarfile.TarError, zipfile.BadZipFile, zlib.error, EOFError, OSError) as error:
            raise ParameterError(
                f"--conf-source {conf_source} is not a readable archive ({error}) → run `kedro package` in the project "
                "folder to write the archive again"
            ) from error

    def __getitem__(self, key: str) -> dict[str, Any]:
        """Return the merged configuration for `key`, such as `parameters` or `catalog`.

        Raises:
            ParameterError: if the environment or the recipe does not exist, if a recipe is set in the base
                environment, if a value contains an invalid reference, or if a file is not valid YAML.
        """
        self._require_environment()
        try:
            content: dict[str, Any] = super().__getitem__(key)
        except (InterpolationResolutionError, UnsupportedInterpolationType) as error:
            reason, *_ = str(error).splitlines()
            raise ParameterError(
                f"conf/, environment {self.env or self.default_run_env}: {error.full_key} in {key} has an "
                f"unresolvable reference ({reason}) → write environment variables as ${{oc.env:NAME}}"
            ) from error
        if key == "globals":
            return {name: _expand_home(value) for name, value in content.items()}
        if key == "parameters" and (self.env or self.default_run_env) == self.base_env and content.get(RECIPE):
            raise ParameterError(
                f"recipe {content[RECIPE]}: the {self.base_env} environment does not accept a recipe → remove --env "
                f"{self.base_env}"
            )
        return self._with_folders(self._without_paths(content)) if key == "parameters" else content

    def _read_dir_configs(self, conf_path: str, patterns: Iterable[str], *args: Any, **kwargs: Any) -> dict[Path, Any]:
        patterns = list(patterns)
        try:
            content: dict[Path, Any] = super()._read_dir_configs(conf_path, patterns, *args, **kwargs)
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            # Some of Kedro's errors name neither the file nor the line.
            files = sorted({file for pattern in patterns for file in self._fs.glob(f"{conf_path}/{pattern}")})
            raise ParameterError("\n".join(_find_problems(files, self._fs)) or str(error)) from error
        return content

    def _require_environment(self) -> None:
        if self.env is None or self._fs.isdir(self._get_conf_env_path(self.env)):
            return
        root = self._get_conf_env_path("")
        known = sorted(PurePosixPath(path).name for path in self._fs.ls(root, detail=False) if self._fs.isdir(path))
        known = [name for name in known if name != FOLDER]
        hint = suggest_name(self.env, known) or f"known: {', '.join(known)}"
        raise ParameterError(f"there is no environment {self.env!r} in {self.conf_source} → {hint}")

    def _with_folders(self, parameters: dict[str, Any]) -> dict[str, Any]:
        """Set missing folders from `_WORKSPACE_FOLDERS`. Null values are kept, because they disable a feature."""
        workspace = super().__getitem__("globals").get("workspace")
        for groups, name, folder in _WORKSPACE_FOLDERS if workspace else ():
            section: Any = parameters
            for group in groups:
                section = section.get(group) if isinstance(section, dict) else None
            if isinstance(section, dict):  # the group's model rejects anything else
                section.setdefault(name, f"{workspace}/{folder}")
        return parameters

    def _without_paths(self, parameters: dict[str, Any]) -> dict[str, Any]:
        """Remove `dataset.root`, which is a catalog path, unless it is in conf/base, where it has no effect."""
        dataset = (self.runtime_params or {}).get("dataset")
        is_given = isinstance(dataset, Mapping) and "root" in dataset
        if not is_given and self._find_dataset_root() is None:
            return parameters
        return {**parameters, "dataset": {name: v for name, v in parameters["dataset"].items() if name != "root"}}

    def _find_dataset_root(self) -> str | None:
        """Return `dataset.root` from the parameter files of the environment, or None if these files do not set it."""
        environment = self.env or self.default_run_env
        if environment == self.base_env:
            return None
        files = self._read_dir_configs(
            self._get_conf_env_path(environment), self.config_patterns["parameters"], "parameters", set()
        )
        # Resolve only this value: others may refer to the globals, which are being loaded.
        roots = [OmegaConf.select(content, "dataset.root") for content in files.values()]
        return next((str(root) for root in roots if root is not None), None)

    def read_logging(self) -> dict[str, Any] | None:
        """Return the content of `logging.yml`, or None if the configuration has no such file."""
        path = self._get_conf_env_path("logging.yml")
        if not self._fs.isfile(path):
            return None
        _require_yaml(path, self._fs)
        content: dict[str, Any] = yaml.safe_load(self._fs.read_text(path, encoding="utf-8"))
        return content

    def _merge_configs(
        self, config: dict[str, Any], env_config: dict[str, Any], key: str, env_path: str
    ) -> dict[str, Any]:
        environment = self.env or self.default_run_env
        if key == "globals":
            self._is_named_after_dataset = "workspace" not in env_config and environment != self.default_run_env
            root = self._find_dataset_root()
            env_config = {
                # For commands in messages and pages. In the default environment, they need no --env.
                **({} if environment == self.default_run_env else {"environment": environment}),
                **({"workspace": f"data/{environment}"} if self._is_named_after_dataset else {}),
                **env_config,
                # The value has already been resolved, so any `${` in it is part of the path.
                **({} if root is None else {"dataset_root": escape_value(root)}),
            }
        if key == "parameters" and self._is_named_after_dataset:
            env_config = derive_parameters(env_config, environment)
        # Kedro has already merged --params into both sides.
        name = env_config.get(RECIPE, config.get(RECIPE)) if key == "parameters" else None
        if name is not None:
            recipe = read_recipe(self._get_conf_env_path(FOLDER), name, self._fs)
            config = apply_recipe(config, recipe)
            # Kedro skips this step for environments without parameter files, such as a new conf/local.
            env_config = env_config or dict(self.runtime_params or {})
        merged: dict[str, Any] = super()._merge_configs(config, env_config, key, env_path)
        return merged


def derive_parameters(parameters: Mapping[str, Any], environment: str) -> dict[str, Any]:
    """Return the parameters of an environment, with missing values derived from its name.

    The model and the experiment are named `resnet50-<environment>`, the model is compared with its own champion, the
    sweep's study is named after the environment, and the number of classes comes from the dataset.
    """
    registration = parameters.get("model_registration")
    name = registration.get("model_name") if isinstance(registration, Mapping) else None
    name = name or f"resnet50-{environment}"
    derived: dict[str, dict[str, Any]] = {
        "dataset": {"class_num": None},
        "model_registration": {"model_name": name},
        "evaluation": {"compare_with": f"models:/{name}@champion"},
        "tracking": {"experiment": f"resnet50-{environment}"},
        "sweep": {"study": environment},
    }
    merged = dict(parameters)
    for group, values in derived.items():
        own = parameters.get(group, {})
        if isinstance(own, Mapping):  # the group's model rejects anything else
            merged[group] = {**values, **own}
    return merged


def _expand_home(value: Any) -> Any:
    return os.path.expanduser(value) if isinstance(value, str) and value.startswith("~/") else value  # noqa: PTH111


def escape_value(text: str) -> str:
    """Escape a string for the configuration, which then leaves each `${…}`, and any backslash before it, unchanged."""
    return re.sub(r"(\\*)\$\{", lambda match: 2 * match[1] + "\\${", text)


def read_recipe(folder: str | Path, name: object, files: AbstractFileSystem | None = None) -> dict[str, Any]:
    """Read a recipe and return its values for `training`.

    Args:
        folder: folder of the recipes.
        name: name of the recipe: its file name without `.yml`.
        files: file system of `folder`, such as the archive of a packaged project. Defaults to the local file system.

    Raises:
        ParameterError: if the recipe does not exist or is not valid YAML, or if it contains another group or a run
            setting.
    """
    files = files or LocalFileSystem()
    known = sorted(PurePosixPath(path).stem for path in files.glob(f"{folder}/*.yml"))
    if name not in known:
        hint = f"{suggest_name(str(name), known)} known: {', '.join(known) or 'none'} ({folder})".lstrip()
        raise ParameterError(f"recipe {name!r} does not exist → {hint}")
    path = f"{folder}/{name}.yml"
    _require_yaml(path, files)
    content = yaml.safe_load(files.read_text(path, encoding="utf-8"))
    if not isinstance(content, dict) or set(content) != {_GROUP}:
        found = ", ".join(map(str, content)) if isinstance(content, dict) else repr(content)
        raise ParameterError(f"{path}: a recipe may set only the {_GROUP} group, but this file contains {found}")
    recipe = content[_GROUP]
    if not isinstance(recipe, dict):
        raise ParameterError(
            f"{path}: {_GROUP} must be a mapping of settings, but it is {recipe!r} → add the recipe's settings"
        )
    if settings := sorted(set(recipe) & RUN_SETTINGS - _SHARED_SECTIONS):
        raise ParameterError(
            f"{path}: a recipe cannot contain run settings, but it sets {', '.join(settings)}; set them in "
            f"conf/<environment>/parameters_training.yml"
        )
    return recipe


def _find_problems(paths: Iterable[str], files: AbstractFileSystem) -> list[str]:
    contents = ((path, files.read_bytes(path)) for path in paths if files.isfile(path))
    problems = (find_yaml_problem(content, str(shorten_path(Path(path)))) for path, content in contents)
    return [problem for problem in problems if problem is not None]


def _require_yaml(path: str, files: AbstractFileSystem) -> None:
    if problems := _find_problems([path], files):
        raise ParameterError("\n".join(problems))


def apply_recipe(parameters: Mapping[str, Any], recipe: Mapping[str, Any]) -> dict[str, Any]:
    """Return `parameters` with the recipe as the `training` group. The run settings are kept.

    Sections that are not in the recipe are removed, so that their models' defaults apply instead of conf/base's values
    for the sample. `training.loader` is merged, because it contains both kinds of settings.
    """
    run = {name: value for name, value in parameters.get(_GROUP, {}).items() if name in RUN_SETTINGS}
    shared = {
        name: {**run.get(name, {}), **recipe.get(name, {})} for name in _SHARED_SECTIONS & (set(run) | set(recipe))
    }
    return {**parameters, _GROUP: {**run, **recipe, **shared}}
