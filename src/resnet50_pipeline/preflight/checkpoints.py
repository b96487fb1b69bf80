"""Checks the disk space for checkpoint sets, and the state of the run's folders."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from resnet50_pipeline.checkpoint_set import find_weights, require_weights_digest
from resnet50_pipeline.events import read_events
from resnet50_pipeline.exceptions import CheckpointError, CheckpointMirrorError, ParameterError
from resnet50_pipeline.paddleclas.checkpoint_interval import find_best_interval, measure_costs
from resnet50_pipeline.paddleclas.launch.output_dir import find_holder, should_resume
from resnet50_pipeline.paddleclas.mirror.runs import require_unused, starts_from_mirror
from resnet50_pipeline.paddleclas.mirror.store import CheckpointMirror
from resnet50_pipeline.paddleclas.upstream.checkpoints import newest_saved_epoch
from resnet50_pipeline.parameters import TrainingParameters, is_registered_reference
from resnet50_pipeline.preflight.findings import Finding, judge
from resnet50_pipeline.preflight.machine import nearest_folder
from resnet50_pipeline.text import format_bytes
from resnet50_pipeline.training_dir import (
    best_weights_path,
    checkpoint_paths,
    config_path,
    events_path,
    newest_checkpoint,
)

_FLOAT_BYTES = 4


@dataclass(frozen=True)
class NetworkSize:
    """Number of values in a network from ppcls.arch.

    Attributes:
        weights: number of weights in all layers except the last.
        statistics: number of running means and variances of BatchNorm.
        features: number of inputs to the last layer.
    """

    weights: int
    statistics: int
    features: int


# Counted on instances of the networks; tests/preflight verifies the numbers.
NETWORK_SIZES = {
    "ResNet18": NetworkSize(11_180_736, 9_728, 512),
    "ResNet18_vd": NetworkSize(11_199_968, 9_856, 512),
    "ResNet34": NetworkSize(21_288_896, 17_152, 512),
    "ResNet34_vd": NetworkSize(21_308_128, 17_280, 512),
    "ResNet50": NetworkSize(23_508_032, 53_120, 2048),
    "ResNet50_vd": NetworkSize(23_527_264, 53_248, 2048),
    "ResNet101": NetworkSize(42_500_160, 105_344, 2048),
    "ResNet101_vd": NetworkSize(42_519_392, 105_472, 2048),
    "ResNet152": NetworkSize(58_143_808, 151_424, 2048),
    "ResNet152_vd": NetworkSize(58_163_040, 151_552, 2048),
    "ResNet200_vd": NetworkSize(72_689_504, 194_560, 2048),
}
# Number of values per weight in the optimizer's state: one velocity or two moments.
OPTIMIZER_VALUES = {"Momentum": 1, "AdamW": 2}


def checkpoint_set_bytes(training: TrainingParameters, class_num: int) -> int:
    """Return the size in bytes of a checkpoint set (weights, running statistics, optimizer state and EMA weights).

    All values are float32.

    Raises:
        KeyError: if the network or the optimizer is unknown.
    """
    network = network_bytes(training, class_num)
    optimizer = (network - NETWORK_SIZES[training.arch.name].statistics * _FLOAT_BYTES) * OPTIMIZER_VALUES[
        training.optimizer.name
    ]
    return network * (1 if training.ema_decay is None else 2) + optimizer


def network_bytes(training: TrainingParameters, class_num: int) -> int:
    """Return the size in bytes of `best.pdparams`, which contains float32 weights and running statistics.

    Raises:
        KeyError: if the network is unknown.
    """
    size = NETWORK_SIZES[training.arch.name]
    return (size.weights + (size.features + 1) * class_num + size.statistics) * _FLOAT_BYTES


def check_disk(training: TrainingParameters, class_num: int, output_dir: Path) -> Finding:
    """Check that all checkpoint sets fit on the disk. Otherwise, training would fail at the end of an epoch."""
    if training.arch.name not in NETWORK_SIZES:
        return Finding(
            "disk", "blocking", f"training.arch.name {training.arch.name}", "a network from ppcls.arch's ResNet family",
            f"set one of {', '.join(NETWORK_SIZES)}",
        )  # fmt: skip
    one, exported = checkpoint_set_bytes(training, class_num), network_bytes(training, class_num)
    # The native engine keeps the newest sets, the best set and the set being written; PaddleClas keeps every set.
    if training.engine == "native":
        sets, formula = training.keep_checkpoints + 2, "keep_checkpoints + 2"
    else:
        sets, formula = training.epochs // training.save_interval + 2, "epochs / save_interval + 2"
    folder = nearest_folder(output_dir)
    free = shutil.disk_usage(folder).free
    # A resumed run replaces its own sets. A new run keeps the previous sets until it has written its own.
    resumes = should_resume(output_dir, training.resume)
    replaced = len(checkpoint_paths(output_dir)) if resumes else 0
    is_exported = resumes and best_weights_path(output_dir).is_file()
    return judge(
        free >= one * max(sets - replaced, 1) + (0 if is_exported else exported),
        "blocking",
        "disk",
        found=f"{format_bytes(free)} free",
        needed=f"{format_bytes(one * sets + exported)} (({formula}) x {format_bytes(one)}, "
        f"{format_bytes(exported)} for best.pdparams)",
        remedy=f"free disk space in {folder}, or set workspace in conf/<environment>/globals.yml to a larger disk",
    )


def check_claims(*folders: Path) -> Iterator[Finding]:
    """Yield a blocking finding for each folder that another run is using."""
    for folder in folders:
        if holder := find_holder(folder):
            yield Finding(
                "in use",
                "blocking",
                f"process {holder} is using {folder}",
                "no other run in this folder",
                "wait until that process ends, or use an environment with another workspace",
            )


def check_save_interval(training: TrainingParameters, output_dir: Path) -> Iterator[Finding]:
    """Report the interval that minimizes lost time, if an earlier run in the folder has measured the cost of a set."""
    costs = measure_costs(read_events(events_path(output_dir))) if training.engine == "native" else None
    if costs is not None:
        found = find_best_interval(costs, training).describe(costs, training)
        yield Finding("save interval", "ok", found, "training.save_interval_steps")


def check_mirror(training: TrainingParameters, output_dir: Path) -> Iterator[Finding]:
    """Check that the mirror is writable, and contains sets only if the run may resume from them.

    A run downloads newer sets before these checks.
    """
    if training.checkpoint_mirror is None:
        return
    check, needed = "mirror", "a writable folder in an object store"
    mirror = CheckpointMirror(training.checkpoint_mirror)
    try:
        mirror.require_writable()
        names = mirror.names()
        if not starts_from_mirror(training, output_dir):
            require_unused(training, names)
    except (CheckpointMirrorError, ParameterError) as error:
        found, _, remedy = str(error).partition(" → ")
        yield Finding(check, "blocking", found, needed, remedy)
        return
    yield Finding(check, "ok", f"writable, {f'newest set {names[-1]}' if names else 'no sets'}", needed)


def _newest(training: TrainingParameters, output_dir: Path) -> str:
    """Return the name of the checkpoint that a resumed training run would start from.

    Raises:
        CheckpointError: if there is no intact checkpoint.
    """
    if training.engine == "native":
        return newest_checkpoint(output_dir).name
    saved, _ = newest_saved_epoch(output_dir)
    return f"epoch {saved.epoch}"


def _newest_in_mirror(training: TrainingParameters) -> str | None:
    if training.checkpoint_mirror is None:
        return None
    try:
        names = CheckpointMirror(training.checkpoint_mirror).names()
    except CheckpointMirrorError:  # check_mirror reports it
        return None
    return f"{names[-1]} in {training.checkpoint_mirror}" if names else None


def check_start(training: TrainingParameters, output_dir: Path) -> Finding:
    """Check that a resumed training run has a checkpoint, or that a new run may replace the contents of its folder."""
    sets = checkpoint_paths(output_dir)
    if should_resume(output_dir, training.resume):
        try:
            newest = _newest(training, output_dir)
        except CheckpointError:
            if mirrored := _newest_in_mirror(training):
                return Finding("start", "ok", f"resumes from {mirrored}", "a checkpoint set")
            remedy = "set training.resume=false to start from scratch, or training.resume=auto to resume if possible"
            return Finding("start", "blocking", f"no checkpoint set in {output_dir}", "a checkpoint set", remedy)
        return Finding("start", "ok", f"resumes from {newest}", "a checkpoint set")
    if output_dir.is_dir() and any(output_dir.iterdir()) and not config_path(output_dir).exists():
        return Finding(
            "start",
            "blocking",
            f"{output_dir} contains files that do not belong to a training run",
            "an empty folder or a training run",
            "set workspace in conf/<environment>/globals.yml, or pass --params run_dir=FOLDER",
        )
    if (problem := _find_weights_problem(training)) is not None:
        return problem
    found = "new training run" + (f"; the previous run ({sets[-1].name}) is replaced or moved aside" if sets else "")
    return Finding("start", "ok", found, "")


def _find_weights_problem(training: TrainingParameters) -> Finding | None:
    """Return a blocking finding if a new training run cannot start from its pretrained weights."""
    if training.pretrained_model is not None and not _has_weights(training.pretrained_model):
        exists = training.pretrained_model.exists()
        return Finding(
            "start",
            "blocking",
            f"{training.pretrained_model} {'does not contain weights' if exists else 'does not exist'}",
            "training.pretrained_model",
            "copy the weights there (they are not downloaded automatically), or set training.pretrained_model=null",
        )
    if training.pretrained_model is not None and training.pretrained_digest is not None:
        try:
            require_weights_digest(training.pretrained_model, training.pretrained_digest)
        except CheckpointError as error:
            remedy = "copy the correct file there, or set training.pretrained_digest to the digest of this file"
            return Finding("start", "blocking", str(error), "weights with the specified digest", remedy)
    if training.arch.freeze and training.pretrained_model is None:
        return Finding(
            "start",
            "blocking",
            f"training.arch.freeze is {list(training.arch.freeze)}, but training.pretrained_model is null",
            "weights for the frozen layers, which would otherwise remain random",
            "set training.pretrained_model to a weights file, or training.arch.freeze=[] and "
            "training.arch.thaw_epoch=null to train from scratch",
        )
    return None


def _has_weights(model: Path) -> bool:
    """Return whether a model has weights. Registered versions, which are fetched later, are assumed to have them."""
    is_exported = (model / "inference.pdiparams").is_file()
    return is_registered_reference(str(model)) or is_exported or find_weights(model) is not None
