"""Room for the checkpoint sets, and whether the run's folders are in the state that the run expects."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from resnet50_pipeline.exceptions import CheckpointError
from resnet50_pipeline.paddleclas.output_dir import find_holder, goes_on
from resnet50_pipeline.paddleclas.upstream_checkpoints import newest_saved_epoch
from resnet50_pipeline.parameters import TrainingParameters
from resnet50_pipeline.preflight.findings import Finding, judge, show_bytes
from resnet50_pipeline.preflight.machine import nearest_folder
from resnet50_pipeline.training_dir import best_weights_path, checkpoint_paths, config_path, newest_checkpoint

_FLOAT_BYTES = 4


@dataclass(frozen=True)
class NetworkSize:
    """How many values a network of ppcls.arch has.

    Attributes:
        weights: of all layers but the last one.
        statistics: BatchNorm's running means and variances.
        features: what the last layer takes.
    """

    weights: int
    statistics: int
    features: int


# Counted in the networks themselves, as tests/preflight does again.
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
# Values that the optimizer keeps of each weight: a velocity; two moments.
OPTIMIZER_VALUES = {"Momentum": 1, "AdamW": 2}


def checkpoint_set_bytes(training: TrainingParameters, class_num: int) -> int:
    """Return the size of a set: float32 weights and running statistics, the optimizer's values, EMA's averages.

    Raises:
        KeyError: the network or the optimizer is not known here.
    """
    network = network_bytes(training, class_num)
    optimizer = (network - NETWORK_SIZES[training.arch.name].statistics * _FLOAT_BYTES) * OPTIMIZER_VALUES[
        training.optimizer.name
    ]
    return network * (1 if training.ema_decay is None else 2) + optimizer


def network_bytes(training: TrainingParameters, class_num: int) -> int:
    """Return the size of float32 weights and running statistics, as `best.pdparams` has them.

    Raises:
        KeyError: the network is not known here.
    """
    size = NETWORK_SIZES[training.arch.name]
    return (size.weights + (size.features + 1) * class_num + size.statistics) * _FLOAT_BYTES


def check_disk(training: TrainingParameters, class_num: int, output_dir: Path) -> Finding:
    """A full disk ends a training at an epoch's end; room for all sets is asked for before the first."""
    if training.arch.name not in NETWORK_SIZES:
        return Finding(
            "disk", "blocking", f"training.arch.name {training.arch.name}", "a network of ppcls.arch's ResNet family",
            f"set one of {', '.join(NETWORK_SIZES)}",
        )  # fmt: skip
    one, exported = checkpoint_set_bytes(training, class_num), network_bytes(training, class_num)
    # The newest ones, the best one, and the one that is being written. PaddleClas itself keeps those of all epochs.
    if training.engine == "native":
        sets, formula = training.keep_checkpoints + 2, "keep_checkpoints + 2"
    else:
        sets, formula = training.epochs // training.save_interval + 2, "epochs / save_interval + 2"
    folder = nearest_folder(output_dir)
    free = shutil.disk_usage(folder).free
    # A resumed run replaces its own sets; one that starts anew keeps those of before until it has some.
    replaced = len(checkpoint_paths(output_dir)) if goes_on(training) else 0
    is_exported = goes_on(training) and best_weights_path(output_dir).is_file()
    return judge(
        free >= one * max(sets - replaced, 1) + (0 if is_exported else exported),
        "blocking",
        "disk",
        found=f"{show_bytes(free)} free",
        needed=f"{show_bytes(one * sets + exported)} (({formula}) x {show_bytes(one)}, {show_bytes(exported)} more for "
        "best.pdparams)",
        remedy=f"make room in {folder}, or set workspace in conf/<environment>/globals.yml to a larger disk",
    )


def check_claims(*folders: Path) -> Iterator[Finding]:
    """Nobody else is at work in these folders."""
    for folder in folders:
        if holder := find_holder(folder):
            yield Finding(
                "in use",
                "blocking",
                f"process {holder} is at work in {folder}",
                "nobody else there",
                "wait for it, or give this run an environment with a workspace of its own",
            )


def _newest(training: TrainingParameters, output_dir: Path) -> str:
    """Return the name of what a resumed training goes on from.

    Raises:
        CheckpointError: there is nothing, or nothing whole.
    """
    if training.engine == "native":
        return newest_checkpoint(output_dir).name
    saved, _ = newest_saved_epoch(output_dir)
    return f"epoch {saved.epoch}"


def check_start(training: TrainingParameters, output_dir: Path) -> Finding:
    """There is a set to resume from where one is needed, and else nothing that a new training may not replace."""
    sets = checkpoint_paths(output_dir)
    if goes_on(training):
        try:
            newest = _newest(training, output_dir)
        except CheckpointError:
            remedy = "training.resume=false starts anew, training.resume=auto resumes where there is one"
            return Finding("start", "blocking", f"no checkpoint set in {output_dir}", "one to resume from", remedy)
        return Finding("start", "ok", f"resumes from {newest}", "a checkpoint set")
    if output_dir.is_dir() and any(output_dir.iterdir()) and not config_path(output_dir).exists():
        return Finding(
            "start",
            "blocking",
            f"{output_dir} holds files but no training",
            "an empty folder, or a training",
            "empty it, or name another training.output_dir",
        )
    if training.pretrained_model is not None and not training.pretrained_model.exists():
        return Finding(
            "start",
            "blocking",
            f"{training.pretrained_model} is not there",
            "training.pretrained_model",
            "nothing is downloaded: put the weights there, or set it to null",
        )
    found = f"anew; the training there ({sets[-1].name}) is replaced or moved aside" if sets else "anew"
    return Finding("start", "ok", found, "")
