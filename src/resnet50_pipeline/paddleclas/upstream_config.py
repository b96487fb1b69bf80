"""The YAML that PaddleClas itself reads, from the one that the native trainer reads, and what stands in the way."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel

from resnet50_pipeline.exceptions import TrainingConfigError
from resnet50_pipeline.imaging.base import NamedOperator
from resnet50_pipeline.training_config import TrainingConfig

Place = tuple[str | int, ...]

# How a key that upstream does not know is marked in its description, and a whole section or operator in its docstring.
_NATIVE = "*native*"
# Native keys that say how safely a run is kept, not what comes out of it: upstream does without.
_WITHOUT_INFLUENCE = frozenset({"Global.keep_checkpoints", "Global.save_interval_steps"})
_PACKED = frozenset({"DataLoader.Train.dataset.shards", "DataLoader.Eval.dataset.shards"})
# Keys that upstream takes for a wish by being there, without a value too (`if 'clip_norm' in optim_cfg`).
_WISHES: tuple[Place, ...] = (("Optimizer", "clip_norm"),)
_PATHS: tuple[Place, ...] = (
    ("Global", "output_dir"),
    ("Global", "save_inference_dir"),
    ("Infer", "infer_imgs"),
    *(("DataLoader", split, "dataset", key) for split in ("Train", "Eval") for key in ("image_root", "cls_label_path")),
)


@dataclass(frozen=True)
class UpstreamConfig:
    """A YAML for PaddleClas, and the settings that it has no counterpart for."""

    text: str
    not_honoured: tuple[str, ...]


def to_upstream_config(config: TrainingConfig, *, ranks: int, for_training: bool = True) -> UpstreamConfig:
    """Return the same configuration without the native keys, every path absolute (upstream runs in its own folder).

    Evaluation and export (not `for_training`) do without whatever only says how the weights came to be.

    Raises:
        TrainingConfigError: something is asked for that upstream would ignore without a word, or cannot do; all of it
            is named.
    """
    document: dict[str, Any] = config.model_dump(mode="json")
    problems, not_honoured = [], []
    for key, value, is_default, path in _native_keys(config, document):
        _remove(document, path)
        if is_default:
            continue
        if key in _WITHOUT_INFLUENCE:
            not_honoured.append(f"{key}: {value}")
        elif key in _PACKED:
            problems.append(
                f"{key} is {value}: PaddleClas' dataset opens loose files only; set data_preparation.shards.mode: null "
                f"and run data_preparation again"
            )
        else:
            problems.append(f"{key} is {value!r}: only the native engine knows this key, upstream would ignore it")
    problems += [
        f"{'.'.join(map(str, place))}: {type(section).__name__} is of the native engine only, upstream has none"
        for section, place in _sections(config, ())
        if (type(section).__doc__ or "").startswith(_NATIVE)
    ]
    problems += _what_upstream_cannot(config, ranks)
    if problems and for_training:
        raise TrainingConfigError(
            "training.engine is paddleclas, and this recipe is not for it:\n"
            + "\n".join(f"  {problem}" for problem in problems)
            + "\nset these otherwise, or training.engine: native"
        )
    for wish in _WISHES:
        section, last = _section_of(document, wish)
        if section.get(last, "") is None:
            del section[last]
    for place in _PATHS:
        section, last = _section_of(document, place)
        section[last] = str(Path(section[last]).absolute())
    return UpstreamConfig(yaml.safe_dump(document, sort_keys=False, allow_unicode=True), tuple(not_honoured))


def _native_keys(config: TrainingConfig, document: Any) -> Iterator[tuple[str, Any, bool, Place]]:
    """Yield (dotted name, value, whether it is the default, place in the document) of every key that is marked."""
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
    """Return what holds the last part of a path, and that part."""
    for part in path[:-1]:
        document = document[part]
    return document, path[-1]


def _what_upstream_cannot(config: TrainingConfig, ranks: int) -> Iterator[str]:
    """Yield what upstream takes without complaint and does otherwise, or fails at after an epoch."""
    settings = config.Global
    if settings.device == "cpu" and ranks > 1:
        yield (
            f"{ranks} ranks on cpu: its evaluation asks for ParallelEnv().device_id, which a CPU has not "
            f"(ppcls/engine/evaluation/classification.py); set training.launch.devices: [0]"
        )
    if settings.eval_interval > settings.epochs:
        yield (
            f"Global.eval_interval {settings.eval_interval} is above Global.epochs {settings.epochs}: it evaluates at "
            f"whole intervals only, so there would be no best model"
        )
    pretrained = settings.pretrained_model
    if pretrained is not None and not pretrained.endswith(".pdparams"):
        yield f"Global.pretrained_model is {pretrained}: it reads .pdparams only"
    if config.AMP is not None:
        if config.AMP.use_promote:
            yield "AMP.use_promote: it passes that on to paddle 2.5 only (ppcls/utils/amp.py)"
        if settings.device == "cpu":
            yield "AMP on cpu: paddle has no half precision there"
    optimizer = config.Optimizer
    if optimizer.name == "Momentum" and (optimizer.no_weight_decay_name or optimizer.one_dim_param_no_weight_decay):
        yield (
            "Optimizer.no_weight_decay_name, .one_dim_param_no_weight_decay: with the first its Momentum has no decay "
            "at all, for it builds the optimizer twice of groups that the first time empties; and the second alone it "
            "does not obey (ppcls/optimizer/optimizer.py)"
        )
    loss = config.Loss.Train[0].CELoss
    if config.DataLoader.Train.dataset.batch_transform_ops and loss is not None and loss.epsilon is None:
        yield (
            "batch_transform_ops with a CELoss without epsilon: it takes the softmax of mixed targets, which makes "
            "nearly uniform ones of them (ppcls/loss/celoss.py); set training.label_smoothing"
        )
    if any(item.MultiLabelLoss is not None for item in (*config.Loss.Train, *config.Loss.Eval)):
        yield "Loss.*.MultiLabelLoss: its targets are vectors, and ImageNetDataset gives class numbers"
