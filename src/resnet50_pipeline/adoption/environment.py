"""Writes what `kedro run --env NAME` needs: the lists in the workspace, and the environment's configuration."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from resnet50_pipeline.adoption.found import LabeledImage
from resnet50_pipeline.exceptions import DatasetError, ParameterError
from resnet50_pipeline.files import replace_directory, staging_directory
from resnet50_pipeline.imagenet.layout import CLASS_FILE, DEFAULT_LISTS, TEST_LIST, fold_folder
from resnet50_pipeline.imagenet.lists.class_file import ListedClass, render_class_file
from resnet50_pipeline.imagenet.lists.files import ListEntries, Split, choose_delimiter, parse_list
from resnet50_pipeline.text import pluralize

PARAMETER_FILE = "parameters.yml"
_FEWEST_STEPS = 500
_LIST_FILES: Mapping[Split, str] = {**DEFAULT_LISTS, "test": TEST_LIST}
_RESERVED = frozenset({"base", "local", "recipes", "sample"})
_TEMPLATE = "imagenet"
_ODD_CHARACTER = re.compile(r"[\\\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


def name_environment(root: Path, name: str | None, conf: Path) -> str:
    """Return `name`, or derive a lower-case name with only a-z, 0-9 and - from the folder's name if none is given.

    Raises:
        ParameterError: if the name is already taken or is not valid.
    """
    plain = unicodedata.normalize("NFKD", root.name).encode("ascii", "ignore").decode().lower()
    chosen = name or re.sub(r"[^a-z0-9]+", "-", plain).strip("-")[:64] or "images"
    if not re.fullmatch(r"[a-z0-9][a-z0-9_-]{0,63}", chosen):
        raise ParameterError(
            f"--name {chosen}: use up to 64 characters from a-z, 0-9, - and _, starting with a letter or digit"
        )
    if chosen in _RESERVED or os.path.lexists(conf / chosen):
        raise ParameterError(
            f"the environment {chosen} already exists (conf/{chosen}) → choose another name with --name, or move "
            f"conf/{chosen} elsewhere to adopt the folder again"
            if chosen not in _RESERVED
            else f"the name {chosen} is reserved by the project → choose another name with --name"
        )
    return chosen


def require_outside(root: Path, *folders: Path) -> None:
    """Raise an error if a folder to be written overlaps with the data folder.

    Raises:
        ParameterError: if the folders overlap.
    """
    for folder in folders:
        if root.resolve().is_relative_to(folder.resolve()):
            raise ParameterError(
                f"{root} is inside {folder}, which would be replaced → choose another name with --name"
            )
        if folder.resolve().is_relative_to(root.resolve()):
            raise ParameterError(
                f"{folder} would be inside the data folder {root}, which must stay unchanged → choose another name "
                "with --name, or adopt a subfolder"
            )


def make_entries(images: Sequence[LabeledImage], source: str) -> ListEntries:
    """Return the images as list entries, which are checked in the same way as a user's list.

    Raises:
        DatasetError: if a path contains characters that a list cannot contain.
        ListFileError: if there are no images, or if other paths cannot be written to a list; the message names them.
    """
    delimiter = choose_delimiter(image.path for image in images)
    # parse_list would refer to lines of a list that does not exist.
    if odd := [image.path for image in images if _ODD_CHARACTER.search(image.path)]:
        raise DatasetError(
            f"{source}: {pluralize(len(odd), 'path')} with backslashes, tabs, line breaks, other control characters "
            f"or invalid UTF-8, such as {odd[0]!r} → rename the files or folders"
        )
    text = "".join(f"{image.path}{delimiter}{image.label}\n" for image in images)
    return parse_list(text.encode(), None, source=source)


def fill_lists(
    folder: Path,
    classes: Sequence[ListedClass],
    splits: Mapping[Split, Sequence[LabeledImage]],
    folds: Sequence[Mapping[Split, Sequence[LabeledImage]]] = (),
) -> None:
    """Write the lists and classes.txt to `folder`, and the same files for each fold to a subfolder."""
    for split, images in splits.items():
        delimiter = choose_delimiter(image.path for image in images)
        lines = [f"{image.path}{delimiter}{image.label}\n" for image in images]
        (folder / _LIST_FILES[split]).write_text("".join(lines), encoding="utf-8", newline="\n")
    (folder / CLASS_FILE).write_text(render_class_file(classes), encoding="utf-8", newline="\n")
    for number, fold in enumerate(folds, start=1):
        fold_folder(folder, number).mkdir()
        fill_lists(fold_folder(folder, number), classes, fold)


def lengthen(recipe: Mapping[str, Any], images: int, ranks: int) -> dict[str, Any]:
    """Return the `epochs` and `patience` for which training takes at least 500 steps, or {} if no change is needed.

    Kolesnikov et al. 2020, "Big Transfer" (arXiv:1912.11370), section 3.3, fine-tunes for 500 steps on datasets with
    fewer than 20,000 images. Training from scratch needs at least as many steps.

    Args:
        recipe: `training` values from the recipe or from conf/base.
        images: number of training images.
        ranks: number of ranks.
    """
    steps_per_epoch = max(-(-images // (ranks * recipe["batch_size_per_rank"])), 1)
    epochs = -(-_FEWEST_STEPS // steps_per_epoch)
    if epochs <= recipe["epochs"]:
        return {}
    patience = recipe.get("patience")
    return {"epochs": epochs} | ({} if patience is None else {"patience": epochs * patience // recipe["epochs"]})


def render_parameters(comment: Sequence[str], parameters: Mapping[str, Any]) -> str:
    """Return the text of the environment's only parameter file."""
    # Comments can contain file names. A line break would end the comment, and YAML rejects control characters.
    text = "".join(f"# {''.join(char if char.isprintable() else '?' for char in line)}\n" for line in comment)
    for group, values in parameters.items():
        text += yaml.safe_dump({group: values}, sort_keys=False, allow_unicode=True, width=1000)
    return text


def render_dvc(template: str, name: str, groups: Sequence[str], lists: str | None) -> str:
    """Return an environment's dvc.yaml, which has the same stages as conf/imagenet.

    Args:
        template: text of conf/imagenet/dvc.yaml.
        name: name of the environment.
        groups: parameter groups that the environment sets, and `recipe` if it selects one.
        lists: folder of the lists, a dependency of the stages that read them; None if there are no lists.
    """
    document = yaml.safe_load(
        template.replace(f"data/{_TEMPLATE}", f"data/{name}").replace(f"--env {_TEMPLATE}", f"--env {name}")
    )
    has_recipe = "recipe" in groups
    own = f"conf/{name}/{PARAMETER_FILE}"
    document["vars"] = [f"{PARAMETER_FILE}:recipe"]
    if not has_recipe:
        del document["vars"]
    for stage, content in document["stages"].items():
        params: list[dict[str, list[str]]] = []
        used: list[str] = []
        for entry in content.pop("params", []):
            for file, keys in entry.items():
                if file.startswith(f"conf/{_TEMPLATE}/"):
                    continue
                params.append({file: keys})
                used += [key for key in keys if key in groups]
        if used:
            params.append({own: used})
        if params:
            content["params"] = params
        deps = [path for path in content.get("deps", []) if has_recipe or not path.startswith("conf/recipes/")]
        if lists is not None and stage in ("data_validation", "data_preparation", "evaluation"):
            deps.insert(0, lists)
        if deps:
            content["deps"] = deps
    header = (
        f"# The stages of ../../dvc.yaml for the environment {name}, written by `kedro adopt`. Run `dvc repro "
        f"conf/{name}/dvc.yaml`\n"
        "# in the project folder. If you add a parameter group to parameters.yml, also list it under `params` in "
        "every\n# stage that uses it.\n"
    )
    return header + yaml.safe_dump(document, sort_keys=False, allow_unicode=True, width=120)


def write_environment(folder: Path, files: Mapping[str, str], lists: Path | None, fill: Callable[[Path], None]) -> None:
    """Write an environment's files and its lists. If an error occurs, no files are left behind.

    Args:
        folder: environment's folder, which must not exist. If another process creates the folder first, the folder is
            left unchanged.
        files: contents of the files, keyed by name.
        lists: folder for the lists, which is replaced; None if the environment needs no lists.
        fill: writes the lists to the folder passed to it.

    Raises:
        ParameterError: if the folder exists.
    """
    with contextlib.ExitStack() as stack:
        staged = stack.enter_context(staging_directory(folder.parent))
        for name, text in files.items():
            (staged / name).write_text(text, encoding="utf-8", newline="\n")
        if lists is not None:
            lists.parent.mkdir(parents=True, exist_ok=True)
            staged_lists = stack.enter_context(staging_directory(lists.parent))
            fill(staged_lists)
        try:
            staged.rename(folder)  # unlike replace_directory, fails if another process has already filled the folder
        except OSError as error:
            if not os.path.lexists(folder):
                raise
            raise ParameterError(
                f"{folder}: another process has created it in the meantime → choose another name with --name"
            ) from error
        if lists is not None:
            try:
                replace_directory(staged_lists, lists)
            except BaseException:
                shutil.rmtree(folder, ignore_errors=True)
                raise
