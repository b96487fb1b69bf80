"""Implements the `--params` option of all commands, a list of `key=value` pairs. Later values override earlier ones.

    --params training.epochs=3,training.launch.devices=[0,1] --params 'dataset.root="/data/a, b"'

Kedro's own option splits at every comma, keeps only the last `--params`, and reads every value as YAML, so that a
folder named `2024`, `1e3` or `null` becomes a number or None. Here, values in brackets or quotes may contain commas,
and text parameters get the text exactly as typed.
"""

from __future__ import annotations

import re
import types
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Union, get_args, get_origin

import click
import yaml
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import BaseModel

from resnet50_pipeline import parameters
from resnet50_pipeline.child_runs.run_file import merge
from resnet50_pipeline.frozen_model import models_of, refuse_url
from resnet50_pipeline.training_dir import DATA_DIR, RUN_DIR

_MODELS: dict[str, type[BaseModel]] = {
    "dataset": parameters.DatasetParameters,
    "data_preparation": parameters.DataPreparationParameters,
    "data_validation": parameters.DataValidationParameters,
    "evaluation": parameters.EvaluationParameters,
    "logs": parameters.LogParameters,
    "model_registration": parameters.ModelRegistrationParameters,
    "sample_data": parameters.SampleDataParameters,
    "sweep": parameters.SweepParameters,
    "tracking": parameters.TrackingParameters,
    "training": parameters.TrainingParameters,
}
# Folders that are used only in the catalog, so no parameter model contains them.
_FOLDERS = ("dataset.root", RUN_DIR, DATA_DIR)
_CLOSING = {"[": "]", "{": "}", '"': '"', "'": "'"}
# OmegaConf would replace `${…}` with the value of another key.
_INTERPOLATION = re.compile(r"(\\*)\$\{")
_HELP = (
    "Parameters that override the parameters in conf/, as comma-separated key=value pairs, such as "
    "training.epochs=3,training.launch.devices=[0,1]. Quote values that contain commas: --params "
    "'dataset.root=\"/data/a, b\"'. If the option is repeated, later values win."
)


class ParamsOption(click.Option):
    """The `--params` option. The option can be repeated, and its value is a nested dictionary."""

    def __init__(self) -> None:
        super().__init__(["--params"], multiple=True, type=click.UNPROCESSED, callback=_read, help=_HELP)

    def type_cast_value(self, ctx: click.Context, value: Any) -> Any:
        """Return a mapping from the `--config` file unchanged."""
        return value if isinstance(value, Mapping) else super().type_cast_value(ctx, value)


def parse_params(texts: Iterable[str]) -> dict[str, Any]:
    """Parse lists of `key=value` pairs and merge them into one nested dictionary.

    Raises:
        ValueError: if a string is not a list of key=value pairs.
    """
    params: dict[str, Any] = {}
    for text in texts:
        for item in _split(text):
            key, _, value = (part.strip() for part in item.partition("="))
            nested: Any = _parse_value(key, value)
            for name in reversed(key.split(".")):
                nested = {name: nested}
            params = merge(params, nested)
    return params


def add_params_of_file(context: click.Context, params: dict[str, Any]) -> dict[str, Any]:
    """Merge the parameters in the `--config` file with `params`, which override them."""
    in_file = (context.default_map or {}).get("params")
    return merge(in_file, params) if isinstance(in_file, Mapping) else params


def _read(context: click.Context, _option: click.Parameter, value: Any) -> dict[str, Any]:
    if isinstance(value, Mapping):
        return dict(value)
    try:
        return parse_params(value or ())
    except ValueError as error:
        context.fail(f"--params: {error}")


def _split(text: str) -> Iterator[str]:
    """Yield the `key=value` items of a string. A value in brackets or quotes may contain commas."""
    position = 0
    while position < len(text):
        equals, comma = text.find("=", position), text.find(",", position)
        end = comma if comma >= 0 else len(text)
        if 0 <= equals < end:
            start = equals + 1
            while text[start : start + 1].isspace():
                start += 1
            end = text.find(",", _end_of_value(text, start))
            end = end if end >= 0 else len(text)
        item = text[position:end].strip()
        position = end + 1
        if not item:
            continue
        if "=" not in item or item.startswith("="):
            raise ValueError(
                f"{item!r} is not a key=value pair → if this is part of a value that contains a comma, quote the "
                "value, as in --params 'dataset.root=\"/data/a,b\"'"
            )
        yield item


def _end_of_value(text: str, start: int) -> int:
    """Return the position after the brackets or quotes that begin at `start`, or `start` if there are none."""
    if text[start : start + 1] not in _CLOSING:
        return start
    open_ones: list[str] = []
    for position in range(start, len(text)):
        character = text[position]
        in_quotes = bool(open_ones) and open_ones[-1] in ('"', "'")
        if open_ones and character == open_ones[-1]:
            open_ones.pop()
        elif not in_quotes and character in _CLOSING:
            open_ones.append(_CLOSING[character])
        if not open_ones:
            return position + 1
    raise ValueError(f"{text[start:]!r} has no closing {open_ones[-1]}")


def _parse_value(key: str, text: str) -> Any:
    try:
        text.encode()
    except UnicodeEncodeError:
        name = text.encode(errors="surrogateescape")
        raise ValueError(
            f"{key} is {name!r}, which is not UTF-8 → rename the folder, or add a symbolic link with `ln -s`"
        ) from None
    kind = _text_kind(key)
    if kind is not None and Path in kind:
        refuse_url(text)
    if kind is not None:
        return _read_text(text, kind)
    try:
        return OmegaConf.to_container(OmegaConf.from_dotlist([f"value={text}"]))["value"]  # type: ignore[index,call-overload]
    except (yaml.YAMLError, OmegaConfBaseException) as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"{key} is {text!r}, which is not valid YAML ({reason}) → quote the value") from error


def _read_text(text: str, kind: tuple[Any, ...]) -> str | None:
    """Return the value of a text parameter, unquoted and with `~` expanded."""
    if text in ("", "null") and type(None) in kind:
        return None
    if len(text) > 1 and text[0] in ('"', "'") and text[-1] == text[0]:
        text = text[1:-1]
    elif text == "~" or text.startswith("~/"):  # the shell expands `~` only at the beginning of a word
        text = str(Path(text).expanduser())
    return _INTERPOLATION.sub(lambda found: f"{found[1]}{found[1]}\\${{", text)


def _text_kind(key: str) -> tuple[Any, ...] | None:
    """Return the types of a parameter that accepts only text or a path, or None for other parameters."""
    if key in _FOLDERS:
        return (Path,)
    group, *path = key.split(".")
    annotations: list[Any] = [_MODELS[group]] if group in _MODELS else []
    for name in path:
        annotations = [inner for one in annotations for inner in _inner(one, name)]
    kinds = tuple(kind for one in annotations for kind in _options(one))
    return kinds if {str, Path} & set(kinds) and not set(kinds) - {str, Path, type(None)} else None


def _inner(annotation: Any, name: str) -> Iterator[Any]:
    """Yield the type of the field `name` of a parameter group, or the type of the values in a dictionary."""
    for option in _options(annotation):
        if get_origin(option) is dict:
            yield get_args(option)[1]
        for model in models_of(option):
            if name in model.model_fields:
                yield model.model_fields[name].annotation


def _options(annotation: Any) -> tuple[Any, ...]:
    is_union = get_origin(annotation) in (Union, types.UnionType)
    return tuple(kind for one in get_args(annotation) for kind in _options(one)) if is_union else (annotation,)
