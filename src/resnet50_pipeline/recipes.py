"""Recipes: what a training is made of, in short files under `conf/recipes/`, of which a run takes one by its name.

    kedro run --env imagenet --params recipe=fast-40

A recipe takes the place of all that conf/base says of `training` but for where and how it runs, so it is the same in
every environment and reads on its own. What the environment's own files and `--params` say of a value comes after it:

    conf/base  <  conf/recipes/<recipe>.yml  <  conf/<environment>  <  --params
"""

from __future__ import annotations

import difflib
import tarfile
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import yaml
from fsspec import AbstractFileSystem
from fsspec.implementations.local import LocalFileSystem
from kedro.config import OmegaConfigLoader

from resnet50_pipeline.exceptions import ParameterError
from resnet50_pipeline.parameters import RUN_SETTINGS

RECIPE = "recipe"
FOLDER = "recipes"
_GROUP = "training"
# How batches are made of the list is the recipe's, by how many processes is the run's.
_OF_BOTH = frozenset({"loader"})


class RecipeConfigLoader(OmegaConfigLoader):
    """Kedro's loader, which lays the recipe that the parameter `recipe` names between base and environment."""

    def __init__(self, conf_source: str | Path, *args: Any, **kwargs: Any) -> None:
        """Open the folder or the archive of the configuration.

        Raises:
            ParameterError: it is an archive, and cannot be read.
        """
        try:
            super().__init__(str(conf_source), *args, **kwargs)
        except (tarfile.TarError, zipfile.BadZipFile, zlib.error, EOFError, OSError) as error:
            raise ParameterError(
                f"--conf-source {conf_source}: it cannot be read as an archive ({error}); "
                "write it anew: `kedro package`, in the project's folder"
            ) from error

    def __getitem__(self, key: str) -> dict[str, Any]:
        """Return the configuration of a kind.

        Raises:
            ParameterError: a recipe is not known, or is asked for in the base environment, which has none.
        """
        content: dict[str, Any] = super().__getitem__(key)
        if key == "parameters" and (self.env or self.default_run_env) == self.base_env and content.get(RECIPE):
            raise ParameterError(f"recipe {content[RECIPE]}: leave --env {self.base_env} out; base takes no recipe")
        return content

    def read_logging(self) -> dict[str, Any] | None:
        """Return what `logging.yml` says; None where the configuration has none."""
        path = self._get_conf_env_path("logging.yml")
        if not self._fs.isfile(path):
            return None
        content: dict[str, Any] = yaml.safe_load(self._fs.read_text(path, encoding="utf-8"))
        return content

    def _merge_configs(
        self, config: dict[str, Any], env_config: dict[str, Any], key: str, env_path: str
    ) -> dict[str, Any]:
        # Kedro merges --params into both sides beforehand.
        name = env_config.get(RECIPE, config.get(RECIPE)) if key == "parameters" else None
        if name is not None:
            recipe = read_recipe(self._get_conf_env_path(FOLDER), name, self._fs)
            config = apply_recipe(config, recipe)
            # Not into that of an environment without a file of parameters, though, as conf/local mostly is.
            env_config = env_config or dict(self.runtime_params or {})
        merged: dict[str, Any] = super()._merge_configs(config, env_config, key, env_path)
        return merged


def read_recipe(folder: str | Path, name: object, files: AbstractFileSystem | None = None) -> dict[str, Any]:
    """Return what a recipe says of `training`.

    Args:
        folder: that of the recipes.
        name: the recipe's, which is its file's.
        files: what `folder` lies in, as the archive of a packaged project; this machine's files where not given.

    Raises:
        ParameterError: there is no such recipe, or it says something of another group.
    """
    files = files or LocalFileSystem()
    known = sorted(PurePosixPath(path).stem for path in files.glob(f"{folder}/*.yml"))
    if name not in known:
        nearest = difflib.get_close_matches(str(name), known, n=1)
        hint = f"did you mean {nearest[0]}? " if nearest else ""
        raise ParameterError(f"recipe {name!r} is not known; {hint}known: {', '.join(known) or 'none'} ({folder})")
    path = f"{folder}/{name}.yml"
    content = yaml.safe_load(files.read_text(path, encoding="utf-8"))
    if not isinstance(content, dict) or set(content) != {_GROUP}:
        raise ParameterError(f"{path}: a recipe has one group, {_GROUP}")
    recipe: dict[str, Any] = content[_GROUP]
    if strange := sorted(set(recipe) & RUN_SETTINGS - _OF_BOTH):
        raise ParameterError(
            f"{path}: {', '.join(strange)} says where or how a training runs, and no recipe decides that; "
            f"set it in conf/<environment>/parameters_training.yml"
        )
    return recipe


def apply_recipe(parameters: Mapping[str, Any], recipe: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parameters with the recipe in the place of everything in `training` that is no setting of the run.

    So a section that the recipe does not name has the values of its model, and not those that conf/base has for the
    sample; `training.loader`, which is of both, is merged.
    """
    run = {name: value for name, value in parameters.get(_GROUP, {}).items() if name in RUN_SETTINGS}
    both = {name: {**run.get(name, {}), **recipe.get(name, {})} for name in _OF_BOTH & (set(run) | set(recipe))}
    return {**parameters, _GROUP: {**run, **recipe, **both}}
