"""Checks that every machine in a run reads the same lists, shards and images as machine 0.

Before starting the ranks, Kedro checks the images on its own machine against the scan and records them in `images.npy`.
The other machines may have separate copies of the dataset.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import socket
from collections.abc import Mapping
from pathlib import Path

from resnet50_pipeline.exceptions import DatasetError
from resnet50_pipeline.files import digest_file
from resnet50_pipeline.imagenet.identities import find_other_content, find_other_sizes, read_identities
from resnet50_pipeline.imagenet.lists.files import ListEntries
from resnet50_pipeline.imagenet.shards.shard_set import SHARD_SET_FILE
from resnet50_pipeline.imagenet.shards.source import ShardedImages, find_split
from resnet50_pipeline.recipe.data_loader import SplitConfig
from resnet50_pipeline.recipe.document import TrainingConfig
from resnet50_pipeline.trainer.checkpoints.compatibility import describe_recipe
from resnet50_pipeline.trainer.heartbeat import Heartbeat
from resnet50_pipeline.trainer.ranks import Ranks
from resnet50_pipeline.training_dir import config_path, images_path

# Number of images that each machine reads. If 1 in 50 images is damaged, the sample contains a damaged image
# with 99% probability.
SAMPLE = 256
# Sums over ranks are float64, which represents integers up to 2**53 exactly.
_DIGEST_BYTES = 6


def require_same_data(
    config: TrainingConfig, ranks: Ranks, lists: Mapping[str, ListEntries], heartbeat: Heartbeat
) -> None:
    """Compare the configuration, lists, shards and images on this machine with those on machine 0.

    All ranks must call this function. The ranks of a machine divide the work: each rank compares the sizes of its share
    of the images, and the content of a random sample of this share. With a single machine, there is nothing to compare,
    because Kedro has already checked its images.

    Args:
        config: the training configuration.
        ranks: all ranks.
        lists: entries in the lists, keyed by the section in `config.DataLoader`: Train, Eval.
        heartbeat: heartbeat of this rank.

    Raises:
        DatasetError: if anything differs. The message names the first file that differs.
    """
    ranks_here = int(os.environ.get("PADDLE_LOCAL_SIZE", ranks.count))
    if ranks_here >= ranks.count:
        return
    output_dir = Path(config.Global.output_dir)
    _require_same_files(_digest_shared_files(config, output_dir), ranks)
    sections: dict[str, SplitConfig] = {name: getattr(config.DataLoader, name) for name in lists}
    number = int(os.environ.get("PADDLE_LOCAL_RANK", ranks.rank))
    for name, section in sections.items():
        if section.dataset.shards is not None:
            _require_intact_sample(Path(section.dataset.shards), lists[name], SAMPLE // ranks_here, heartbeat)
    if sections["Train"].dataset.shards is None and images_path(output_dir).exists():
        files = [f"{sections[name].dataset.image_root}/{path}" for name in lists for path in lists[name].paths]
        rows = range(number, len(files), ranks_here)
        _require_same_images(images_path(output_dir), files, rows, SAMPLE // ranks_here, heartbeat)


def _digest_shared_files(config: TrainingConfig, output_dir: Path) -> dict[Path, bytes]:
    """Return the digests of the files that all machines share."""
    digests: dict[Path, bytes] = {}
    for section in (config.DataLoader.Train, config.DataLoader.Eval):
        files = [Path(section.dataset.cls_label_path)]
        if section.dataset.shards is not None:
            files.append(Path(section.dataset.shards) / SHARD_SET_FILE)
        digests |= {path: digest_file(path).encode() for path in files}
    images = images_path(output_dir)
    digests[images] = digest_file(images).encode() if images.exists() else b""
    # Digest the recipe, not the file. In elastic training, ranks may have read the file at different times, and a
    # resume changes it.
    digests[config_path(output_dir)] = json.dumps(describe_recipe(config), sort_keys=True).encode()
    return digests


def _require_same_files(digests: Mapping[Path, bytes], ranks: Ranks) -> None:
    numbers = [int.from_bytes(hashlib.sha256(data).digest()[:_DIGEST_BYTES], "big") for data in digests.values()]
    gathered = ranks.gather(numbers)
    for column, path in enumerate(digests):
        if gathered[ranks.rank, column] != gathered[0, column]:
            raise DatasetError(
                f"{path} differs between this machine ({socket.gethostname()}) and machine 0 → use one shared "
                "workspace folder on all machines, not copies"
            )


def _require_same_images(
    identities_file: Path, files: list[str], rows: range, sample: int, heartbeat: Heartbeat
) -> None:
    identities = read_identities(identities_file, len(files))
    if identities is None:
        raise DatasetError(
            f"{identities_file} does not describe the {len(files):,} images in the lists → start from scratch with "
            "training.resume=false"
        )
    own_files, own = [files[row] for row in rows], identities[rows.start :: rows.step]
    problems = find_other_sizes(own_files, own["bytes"], heartbeat.beat)
    if not problems:
        sampled = sorted(random.sample(range(len(own)), min(sample, len(own))))
        contents = find_other_content([own_files[row] for row in sampled], own["digest"][sampled], heartbeat.beat)
        problems = [(sampled[index], problem) for index, problem in contents]
    if problems:
        row, problem = problems[0]
        raise DatasetError(
            f"{own_files[row]} {problem}; the dataset on this machine ({socket.gethostname()}) differs from the "
            f"dataset that data_validation checked on machine 0 (in {len(problems):,} of {len(own):,} images that this "
            "rank compared) → copy the dataset to this machine again"
        )


def _require_intact_sample(folder: Path, entries: ListEntries, sample: int, heartbeat: Heartbeat) -> None:
    images = ShardedImages(folder, find_split(folder, entries), entries.paths)
    for row in random.sample(range(len(entries)), min(sample, len(entries))):
        if hashlib.sha256(images.read(row)).digest() != images.packed_digest(row):
            raise DatasetError(
                f"{images.name(row)}: on this machine ({socket.gethostname()}), the image's bytes differ from the "
                "bytes that were packed → use one shared workspace folder on all machines, not copies"
            )
        heartbeat.beat()
