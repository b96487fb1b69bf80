"""Converts the native trainer's YAML to PaddleClas' form, and reports settings that PaddleClas does not support."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel

from resnet50_pipeline.exceptions import TrainingConfigError
from resnet50_pipeline.imaging.base import NamedOperator
from resnet50_pipeline.recipe.document import TrainingConfig

Place = tuple[str | int, ...]

# Marks keys (in their descriptions), and sections and operators (in their docstrings), that upstream does not have.
_NATIVE = "*native*"
# Native keys that do not affect the result, but only how often checkpoints are saved and how many are kept.
_WITHOUT_EFFECT = frozenset({"Global.keep_checkpoints", "Global.save_interval_steps", "Global.replica_check_interval"})
# Native arguments that enable behavior that upstream always has.
_ALWAYS_ON = ("DecodeImage.tiff",)
_PACKED = frozenset({"DataLoader.Train.dataset.shards", "DataLoader.Eval.dataset.shards"})
# Keys whose mere presence enables a feature upstream, even without a value (`if 'clip_norm' in optim_cfg`).
_ENABLED_BY_PRESENCE: tuple[Place, ...] = (("Optimizer", "clip_norm"),)
_PATHS: tuple[Place, ...] = (
    ("Global", "output_dir"),
    ("Global", "save_inference_dir"),
    ("Infer", "infer_imgs"),
    *(("DataLoader", split, "dataset", key) for split in ("Train", "Eval") for key in ("image_root", "cls_label_path")),
)


@dataclass(frozen=True)
class UpstreamConfig:
    """The YAML text for PaddleClas, and the settings that PaddleClas ignores."""

    text: str
    ignored_settings: tuple[str, ...]


def to_upstream_config(config: TrainingConfig, *, ranks: int) -> UpstreamConfig:
    """Return the configuration for upstream: without native keys, and with absolute paths.

    The paths are absolute because upstream runs in its own folder.

    Raises:
        TrainingConfigError: if upstream does not support a setting or would silently ignore it. The message lists all
            such settings.
    """
    document: dict[str, Any] = config.model_dump(mode="json")
    problems, ignored_settings = [], []
    for key, value, is_default, path in _native_keys(config, document):
        _remove(document, path)
        if is_default or key.endswith(_ALWAYS_ON):
            continue
        if key in _WITHOUT_EFFECT:
            ignored_settings.append(f"{key}: {value}")
        elif key in _PACKED:
            problems.append(
                f"{key} is {value}: PaddleClas reads only loose files; set data_preparation.shards.mode: null and run "
                f"data_preparation again"
            )
        else:
            problems.append(f"{key} is {value!r}: only the native engine supports this key; PaddleClas would ignore it")
    problems += [
        f"{'.'.join(map(str, place))}: only the native engine has {type(section).__name__}"
        for section, place in _sections(config, ())
        if (type(section).__doc__ or "").startswith(_NATIVE)
    ]
    problems += _unsupported_settings(config, ranks)
    if problems:
        raise TrainingConfigError(
            "training.engine is paddleclas, which does not support this recipe:\n"
            + "\n".join(f"  {problem}" for problem in problems)
            + "\nchange these settings, or set training.engine: native"
        )
    for key_path in _ENABLED_BY_PRESENCE:
        section, last = _section_of(document, key_path)
        if section.get(last, "") is None:
            del section[last]
    for place in _PATHS:
        section, last = _section_of(document, place)
        section[last] = str(Path(section[last]).absolute())
    return UpstreamConfig(yaml.safe_dump(document, sort_keys=False, allow_unicode=True), tuple(ignored_settings))


def _native_keys(config: TrainingConfig, document: Any) -> Iterator[tuple[str, Any, bool, Place]]:
    """Yield every native key as (dotted name, value, whether the value is the default, path in the document)."""
    for model, path in _sections(config, ()):
        for name, field in type(model).model_fields.items():
            if (field.description or "").startswith(_NATIVE) and _holds(document, (*path, name)):
                value = getattr(model, name)
                is_default = value == field.get_default(call_default_factory=True)
                yield ".".join(str(part) for part in (*path, name)), value, is_default, (*path, name)


def _sections(value: object, path: Place) -> Iterator[tuple[BaseModel, Place]]:
    if isinstance(value, NamedOperator):
        yield from _sections(value.operator, (*path, type(value.operator).__name__))
    elif isinstance(value, BaseModel):
        yield value, path
        for name in type(value).model_fields:
            yield from _sections(getattr(value, name), (*path, name))
    elif isinstance(value, tuple):
        for index, item in enumerate(value):
            yield from _sections(item, (*path, index))


def _holds(document: Any, path: Place) -> bool:
    for part in path:
        try:
            document = document[part]
        except (KeyError, IndexError, TypeError):
            return False
    return True


def _remove(document: Any, path: Place) -> None:
    section, last = _section_of(document, path)
    del section[last]


def _section_of(document: Any, path: Place) -> tuple[Any, str | int]:
    """Return the section that contains the key at `path`, and the last part of the path."""
    for part in path[:-1]:
        document = document[part]
    return document, path[-1]


def _unsupported_settings(config: TrainingConfig, ranks: int) -> Iterator[str]:
    """Yield a message for each setting that upstream accepts, but implements differently or fails on later."""
    settings = config.Global
    if settings.device == "cpu" and ranks > 1:
        yield (
            f"{ranks} ranks on cpu: PaddleClas' evaluation reads ParallelEnv().device_id, which does not exist on a "
            f"CPU (ppcls/engine/evaluation/classification.py); set training.launch.devices: [0]"
        )
    if settings.eval_interval > settings.epochs:
        yield (
            f"Global.eval_interval {settings.eval_interval} exceeds Global.epochs {settings.epochs}: PaddleClas would "
            f"never evaluate, so there would be no best model"
        )
    pretrained = settings.pretrained_model
    if pretrained is not None and not pretrained.endswith(".pdparams"):
        yield f"Global.pretrained_model is {pretrained}: PaddleClas reads only .pdparams files"
    if config.AMP is not None:
        if config.AMP.use_promote:
            yield "AMP.use_promote: PaddleClas uses this setting only with paddle 2.5 (ppcls/utils/amp.py)"
        if settings.device == "cpu":
            yield "AMP on cpu: paddle does not support half precision on a CPU"
    optimizer = config.Optimizer
    if optimizer.name == "Momentum" and (optimizer.no_weight_decay_name or optimizer.one_dim_param_no_weight_decay):
        yield (
            "Optimizer.no_weight_decay_name, .one_dim_param_no_weight_decay: if the first is set, PaddleClas' Momentum "
            "applies no weight decay at all; if only the second is set, Momentum ignores it "
            "(ppcls/optimizer/optimizer.py)"
        )
    loss = config.Loss.Train[0].CELoss
    if config.DataLoader.Train.dataset.batch_transform_ops and loss is not None and loss.epsilon is None:
        yield (
            "batch_transform_ops with CELoss and no epsilon: PaddleClas applies softmax to mixed targets, which makes "
            "them nearly uniform (ppcls/loss/celoss.py); set training.label_smoothing"
        )
    if any(item.MultiLabelLoss is not None for item in (*config.Loss.Train, *config.Loss.Eval)):
        yield "Loss.*.MultiLabelLoss: PaddleClas' loss needs target vectors, but ImageNetDataset returns class ids"
