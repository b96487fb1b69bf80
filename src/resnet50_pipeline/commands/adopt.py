"""Implements `kedro adopt`, which writes an environment for training on a folder of images."""

from __future__ import annotations

import contextlib
import functools
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from kedro.framework.project import settings

from resnet50_pipeline.commands.errors import reporting_errors
from resnet50_pipeline.commands.project import enter_project, load_configuration
from resnet50_pipeline.exceptions import DatasetError, ParameterError, PipelineError
from resnet50_pipeline.files import shorten_path
from resnet50_pipeline.parameters import TrainingParameters, is_registered_reference, read_group
from resnet50_pipeline.text import format_duration, pluralize

if TYPE_CHECKING:
    from resnet50_pipeline.adoption.found import FoundDataset, LabeledImage
    from resnet50_pipeline.adoption.near_identical import NearIdentical
    from resnet50_pipeline.imagenet.lists.files import Split

_DEFAULT_VAL_FRACTION = 0.2
# Up to this size, images are trained with the settings of the sample, whose crops are 32 x 32 pixels.
_SMALL_SIDE = 64
_RECIPE_FROM_SCRATCH, _RECIPE_WITH_WEIGHTS = "from-scratch-small", "finetune"
_CPU_RANKS = 2  # as in conf/base
_FRACTION = click.FloatRange(0, 1, min_open=True, max_open=True)


@click.command("adopt")
@click.argument("folder", metavar="PATH", type=click.Path(path_type=Path))
@click.option("--name", help="Name of the environment; defaults to the folder's name.")
@click.option("--recipe", help="Recipe in conf/recipes to train with.")
@click.option(
    "--pretrained",
    help="Weights to start from: a .pdparams or .safetensors file, or models:/NAME@champion. The recipe then defaults "
    "to finetune.",
)
@click.option("--device", default="cpu", show_default=True, help="cpu, gpu, or the name of a Paddle custom device.")
@click.option(
    "--val-fraction",
    type=_FRACTION,
    help=f"Fraction of the images to hold out for val if there is no val split (default: {_DEFAULT_VAL_FRACTION}).",
)
@click.option("--test-fraction", type=_FRACTION, help="Fraction of the training images to hold out for a test split.")
@click.option(
    "--folds",
    type=click.IntRange(min=2),
    help="Number of folds for cross-validation with `kedro folds`. If val does not exist, the first fold becomes val.",
)
@click.option(
    "--group-by",
    help="Column of a table, or regular expression for paths, such as 'patient[0-9]+'. Images with the same value "
    "stay in one split.",
)
@click.option(
    "--ignore-similar",
    is_flag=True,
    help="Skip the search for near-identical images, which decodes every image a second time.",
)
@click.option("--no-probe", is_flag=True, help="Do not run training steps to estimate the time per epoch.")
@click.option("--label-column", help="Label column of a CSV or TSV file.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Seed of the split.")
@click.pass_context
def adopt(context: click.Context, /, folder: Path, **options: Any) -> None:
    """Write the environment conf/NAME for the images in the folder PATH.

    The command detects the layout, splits the images if there is no val split, and prints a summary, the time per epoch
    on this machine, and the command that starts training. It reads every image, but does not start a run and never
    writes to the folder.
    """
    root = _make_absolute(folder)
    if options["pretrained"] is not None and not is_registered_reference(options["pretrained"]):
        options["pretrained"] = str(_make_absolute(Path(options["pretrained"])))
    with reporting_errors(context):
        project = enter_project()
        try:
            _adopt(root, project, options)
        except OSError as error:
            raise PipelineError(
                f"{error.filename or f'{root} cannot be adopted'}: {error.strerror or error} → check the path, its "
                "permissions and the free disk space"
            ) from error


def _make_absolute(path: Path) -> Path:
    with contextlib.suppress(RuntimeError):  # a folder can be named ~x even if there is no user x
        path = path.expanduser()
    return path.resolve() if ".." in path.parts else path.absolute()


def _require_usable(root: Path, conf: Path, options: dict[str, Any]) -> None:
    """Check the arguments before reading the images, which can take a long time.

    Raises:
        DatasetError: if `root` is not a folder, or if its path is not UTF-8.
        ParameterError: if an option is invalid, or if conf/ is not writable.
    """
    from resnet50_pipeline.adoption.layouts import require_folder
    from resnet50_pipeline.recipes import read_recipe

    if not os.access(conf, os.W_OK):
        raise ParameterError(f"{conf} is not writable → make the folder writable to add the environment")
    try:
        f"{root}{options['pretrained']}".encode()
    except UnicodeEncodeError as error:
        raise DatasetError(f"{str(root)!r}: the path is not UTF-8 → rename the folder") from error
    require_folder(root)
    for split in ("val", "test"):
        fraction = options[f"{split}_fraction"]
        if fraction is not None and not 0 < fraction < 1:  # click accepts nan
            raise ParameterError(f"--{split}-fraction {fraction} is not between 0 and 1 → use a fraction such as 0.2")
    if not re.fullmatch(r"[a-z][a-z0-9_]*", options["device"]):
        raise ParameterError(
            f"--device {options['device']} is not a device name → use cpu, gpu or a Paddle custom device such as "
            "iluvatar_gpu, without a number"
        )
    weights = options["pretrained"]
    if weights is not None and is_registered_reference(weights):
        if not re.fullmatch(r"models:/[^/@]+(@[^/@]+|/[0-9]+)", weights):
            raise ParameterError(f"--pretrained {weights}: write models:/NAME@ALIAS or models:/NAME/VERSION")
    elif weights is not None and not Path(weights).is_file():
        raise ParameterError(f"--pretrained {weights} is not a file → correct the path")
    if options["recipe"] is not None:
        read_recipe(conf / "recipes", options["recipe"])


def _adopt(root: Path, project: Path, options: dict[str, Any]) -> None:
    from resnet50_pipeline.adoption import environment, summary
    from resnet50_pipeline.adoption.labels_in_files import Choices
    from resnet50_pipeline.adoption.layouts import recognize
    from resnet50_pipeline.imagenet.scan.scan import scan_dataset
    from resnet50_pipeline.recipes import escape_value

    conf = project / settings.CONF_SOURCE
    if not conf.is_dir():
        raise ParameterError(f"{project} has no {settings.CONF_SOURCE} folder → change to the project folder")
    _require_usable(root, conf, options)
    name = environment.name_environment(root, options["name"], conf)
    workspace = project / "data" / name
    lists, cache = workspace / "01_raw" / "lists", workspace / "02_intermediate" / "scan_cache"
    environment.require_outside(root, conf / name, lists, cache)
    found = recognize(root, Choices(options["label_column"], options["group_by"]))
    fractions = _choose_fractions(found, options)
    is_split_here = bool(fractions) or options["folds"] is not None
    images = [image for part in found.splits.values() for image in part]
    manifest = scan_dataset(
        root,
        {"train": environment.make_entries(images, str(root))},
        # Digests identify duplicates, which matter only when images are split.
        level="full" if is_split_here else "header",
        cache_dir=cache,
        class_keys=[one.key for one in found.classes],
    )
    digests = dict(zip(manifest["path"].tolist(), manifest["sha256"].tolist(), strict=True))
    near = _find_near_identical(root, found, digests, options) if is_split_here else None
    if near is not None:
        digests |= near.contents
    splits, folds = _split(found, fractions, options["folds"], options["seed"], digests)
    gate = _load_base(project)["model_registration"]["gate"]
    doubts = [
        *summary.find_doubts(found, splits, manifest),
        *summary.find_weak_gate(found, splits.get("test", splits["val"]), gate["metric"], gate["min_accuracy"]),
        *summary.describe_near_identical(near, images, manifest),
    ]
    recipe = _choose_recipe(options, summary.measure_short_side(manifest))
    needs_lists = found.parameters is None or is_split_here
    shown_lists = str(shorten_path(lists)) if needs_lists else None
    parameters: dict[str, Any] = {
        "recipe": recipe,
        "dataset": {
            "root": escape_value(str(shorten_path(root))),
            **({"lists": shown_lists} if needs_lists else found.parameters or {}),
        },
        "training": _make_training(conf, recipe, len(splits["train"]), options),
        "evaluation": {"split": "test"} if "test" in splits else {},
    }
    # An empty `training` group shows where to add values, and lets the stages in dvc.yaml depend on it from the start.
    parameters = {group: values for group, values in parameters.items() if values or group == "training"}
    comment = [
        f"Written by `kedro adopt`: {found.layout}, {len(found.classes):,} classes, {len(images):,} images.",
        *([f"Split off with seed {options['seed']}: {_describe_fractions(fractions)}."] if fractions else []),
        *([f"Divided into {len(folds)} folds with seed {options['seed']}."] if folds else []),
        f"All other values come from conf/base or follow from the name {name}; see docs/own-data-set.md.",
    ]
    files = {environment.PARAMETER_FILE: environment.render_parameters(comment, parameters)}
    template = conf / "imagenet" / "dvc.yaml"
    if template.is_file():
        text = template.read_text(encoding="utf-8")
        files["dvc.yaml"] = environment.render_dvc(text, name, list(parameters), shown_lists)
    environment.write_environment(
        conf / name,
        files,
        lists if needs_lists else None,
        functools.partial(environment.fill_lists, classes=found.classes, splits=splits, folds=folds),
    )
    table = [str(root), *summary.describe(found, splits, manifest, folds)]
    total_seconds = None
    if not options["no_probe"]:
        unread = set(manifest.loc[manifest["status"] != "ok", "path"])
        readable = [image.path for image in splits["train"] if image.path not in unread]
        line, total_seconds = _estimate_time(project, name, root, readable, len(found.classes))
        table.append(line)
    # Without a recipe, the settings of the sample apply, which are fast unless the estimate shows otherwise.
    if options["device"] == "cpu" and (total_seconds is not None or recipe is not None):
        doubts += summary.describe_long_training(
            total_seconds,
            shorten_path(conf / name / environment.PARAMETER_FILE),
            has_weights=recipe == _RECIPE_WITH_WEIGHTS,
        )
    _show(
        table,
        doubts,
        written=[conf / name, *([lists] if needs_lists else [])],
    )
    click.echo(f"\nkedro run --env {name}")
    if folds:
        click.echo(f"kedro folds --env {name}")


def _find_near_identical(
    root: Path, found: FoundDataset, digests: dict[str, str], options: dict[str, Any]
) -> NearIdentical | None:
    """Return the near-identical images among the images to split, or None with --ignore-similar."""
    from resnet50_pipeline.adoption.near_identical import find_near_identical

    if options["ignore_similar"]:
        return None
    divided = [*found.splits["train"], *(found.splits.get("val", ()) if options["folds"] else ())]
    return find_near_identical(root, {image.path: digests[image.path] for image in divided})


def _estimate_time(project: Path, name: str, root: Path, paths: list[str], class_num: int) -> tuple[str, float | None]:
    """Return the table line with the time per epoch, and the time for all epochs in seconds, or None if unknown.

    Args:
        project: project folder.
        name: name of the new environment.
        root: dataset folder.
        paths: readable training images.
        class_num: number of classes.
    """
    from resnet50_pipeline.paddleclas.epoch_time import estimate_epoch_seconds, measure_steps

    configuration = load_configuration({"env": name, "conf_source": None, "params": {}}, project)
    try:
        training = read_group(configuration["parameters"], "training", TrainingParameters)
        measured = measure_steps(training, class_num, root, paths)
    except PipelineError as error:
        measured = str(error).splitlines()[0]
    if isinstance(measured, str):
        return f"  epoch     not measured: {measured}", None
    seconds = estimate_epoch_seconds(training, measured, len(paths), class_num)
    total = seconds * training.epochs
    # With batches of a single image, the estimate is too high; see `probes.step_time.extrapolate`.
    degree = "at most" if measured.batch_size == 1 < training.batch_size_per_rank else "about"
    return (
        f"  epoch     {degree} {format_duration(seconds)}, so {format_duration(total)} for "
        f"{pluralize(training.epochs, 'epoch')}, without evaluation (measured: "
        f"{pluralize(measured.batches, 'batch', 'batches')} of {measured.batch_size} on {training.launch.device})",
        total,
    )


def _choose_recipe(options: dict[str, Any], short_side: int) -> str | None:
    """Return the recipe to train with, or None to use the sample's settings."""
    if options["recipe"] is not None or options["pretrained"] is not None:
        return str(options["recipe"] or _RECIPE_WITH_WEIGHTS)
    return _RECIPE_FROM_SCRATCH if short_side > _SMALL_SIDE else None


def _make_training(conf: Path, recipe: str | None, images: int, options: dict[str, Any]) -> dict[str, Any]:
    """Return the `training` parameters that follow from the number of images, the device and the weights."""
    from resnet50_pipeline.adoption.environment import lengthen
    from resnet50_pipeline.recipes import escape_value, read_recipe

    device = options["device"]
    training: dict[str, Any] = {}
    if recipe in (None, _RECIPE_FROM_SCRATCH, _RECIPE_WITH_WEIGHTS):
        values = read_recipe(conf / "recipes", recipe) if recipe else _load_base(conf.parent)["training"]
        training |= lengthen(values, images, _CPU_RANKS if device == "cpu" else 1)
    if options["pretrained"] is not None:
        training["pretrained_model"] = escape_value(options["pretrained"])
    if device != "cpu":
        training |= {"launch": {"device": device, "devices": [0]}, "loader": {"num_workers": 4}}
    return training


def _load_base(project: Path) -> dict[str, Any]:
    """Return the parameters in conf/base, which apply if an environment does not set them."""
    configuration = load_configuration({"env": "base", "conf_source": None, "params": {}}, project)
    return dict(configuration["parameters"])


def _choose_fractions(found: FoundDataset, options: dict[str, Any]) -> dict[Split, float]:
    """Return the fraction of images to hold out for each split to create, test first."""
    if options["folds"] is not None and options["val_fraction"] is not None:
        raise ParameterError(
            f"--val-fraction {options['val_fraction']:g}: --folds {options['folds']} already determines the size of "
            "val → use only one of the two options"
        )
    val_default = _DEFAULT_VAL_FRACTION if options["folds"] is None else None
    defaults: dict[Split, float | None] = {"test": None, "val": val_default}
    fractions: dict[Split, float] = {}
    for split, default in defaults.items():
        given: float | None = options[f"{split}_fraction"]
        fraction = given or default
        if split in found.splits:
            if given is not None:
                raise ParameterError(
                    f"--{split}-fraction {given:g}: the dataset already has a {split} split with "
                    f"{len(found.splits[split]):,} images → omit the option"
                )
        elif fraction is not None:
            fractions[split] = fraction
    if sum(fractions.values()) >= 1:
        raise ParameterError("--val-fraction and --test-fraction leave no images for training → use smaller fractions")
    return fractions


def _describe_fractions(fractions: dict[Split, float]) -> str:
    return ", ".join(f"{fraction:g} of train for {split}" for split, fraction in fractions.items())


def _split(
    found: FoundDataset, fractions: dict[Split, float], folds: int | None, seed: int, digests: dict[str, str]
) -> tuple[dict[Split, list[LabeledImage]], list[dict[Split, list[LabeledImage]]]]:
    """Return the images of each split, and the folds, if any, into which the train and val images are divided."""
    from resnet50_pipeline.adoption.folds import make_folds
    from resnet50_pipeline.adoption.split import split_images

    splits: dict[Split, list[LabeledImage]] = {split: list(part) for split, part in found.splits.items()}
    if fractions:
        splits |= split_images(splits["train"], fractions, seed, digests)
        for split in fractions:
            if not splits[split]:
                raise DatasetError(
                    f"no images can be split off for {split}: train needs at least one image of each class, and "
                    "duplicates, near-identical images and groups stay together → add images or a "
                    f"{split} split, choose smaller groups with --group-by, or use --ignore-similar"
                )
    made: list[dict[Split, list[LabeledImage]]] = []
    if folds is not None:
        names = [one.name for one in found.classes]
        made = make_folds([*splits["train"], *splits.get("val", ())], folds, seed, digests, names)
        if "val" not in splits:
            splits |= made[0]
        if "test" in splits:
            made = [{**fold, "test": splits["test"]} for fold in made]
    return {split: splits[split] for split in ("train", "val", "test") if split in splits}, made


def _show(table: list[str], doubts: list[str], written: list[Path]) -> None:
    click.echo("\n".join(table))
    for doubt in doubts:
        click.echo(f"  {click.style('note', fg='yellow')}      {doubt}")
    click.echo("  wrote     " + ", ".join(str(shorten_path(path)) for path in written))
