"""Describes a dataset before training, with a small table and one line for each possible problem."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from resnet50_pipeline.adoption.found import FoundDataset, LabeledImage
from resnet50_pipeline.adoption.near_identical import NearIdentical
from resnet50_pipeline.imagenet.lists.files import Split
from resnet50_pipeline.text import list_names, pluralize

_MOST_NAMED = 3
_FEW_IMAGES = 20
_HOUR_SECONDS = 3_600.0
_DAY_SECONDS = 86_400.0
_UNEQUAL = 10


def describe(
    found: FoundDataset,
    splits: Mapping[Split, Sequence[LabeledImage]],
    manifest: pd.DataFrame,
    folds: Sequence[Mapping[Split, Sequence[LabeledImage]]] = (),
) -> list[str]:
    """Return the lines of the table.

    Args:
        found: the dataset.
        splits: the images that will be used, keyed by split.
        manifest: result of `scan_dataset` at the `header` or `full` level.
        folds: images in each fold, keyed by split.
    """
    names = [one.name for one in found.classes]
    counts = Counter(image.label for part in splits.values() for image in part)
    total = sum(counts.values())
    parts = ", ".join(f"{len(part):,} {split}" for split, part in splits.items())
    rows = [("layout", found.layout), ("classes", f"{len(names):,} ({list_names(names, _MOST_NAMED)})")]
    rows.append(("images", f"{total:,}: {parts}"))
    if folds:
        low, high = (f"{choose(len(fold['val']) for fold in folds):,}" for choose in (min, max))
        rows.append(("folds", f"{len(folds)} of {low if low == high else f'{low} to {high}'} images"))
    (largest, most), (smallest, fewest) = counts.most_common(1)[0], counts.most_common()[-1]
    if most == fewest:
        rows.append(("per class", f"{most:,}"))
    else:
        rows.append(("per class", f"{fewest:,} ({names[smallest]}) to {most:,} ({names[largest]})"))
    read = manifest[(manifest["status"] == "ok") & (manifest["width"] > 0)]
    if len(read):
        width, height = read["width"].to_numpy(np.int64), read["height"].to_numpy(np.int64)
        order = np.argsort(width * height, kind="stable")
        low, middle, high = (f"{width[at]} x {height[at]}" for at in (order[0], order[len(order) // 2], order[-1]))
        rows.append(("size", f"{low} pixels" if low == high else f"{low} to {high} pixels, median {middle}"))
        formats = read["format"].value_counts()
        rows.append(("formats", ", ".join(f"{name} {count:,}" for name, count in formats.items() if count)))
    return [f"  {name:<9} {value}" for name, value in rows]


def measure_short_side(manifest: pd.DataFrame) -> int:
    """Return the median length of the shorter side in pixels; 0 if no image could be read."""
    read = manifest[(manifest["status"] == "ok") & (manifest["width"] > 0)]
    return int(read[["width", "height"]].min(axis=1).median()) if len(read) else 0


def find_doubts(
    found: FoundDataset, splits: Mapping[Split, Sequence[LabeledImage]], manifest: pd.DataFrame
) -> Iterator[str]:
    """Yield one sentence for each possible problem or surprise. The arguments are the same as for `describe`."""
    yield from found.notes
    names = [one.name for one in found.classes]
    broken = manifest[~manifest["status"].isin(["ok", "unlisted", "other_file"])]
    if len(broken):
        first = broken.iloc[0]
        yield (
            f"{pluralize(len(broken), 'image')} cannot be used; runs fail until each is repaired or removed: "
            f"{first['path']}: {first['problem']}"
        )
    copies = manifest[(manifest["status"] == "ok") & (manifest["sha256"] != "")]
    copies = copies[copies["sha256"].duplicated(keep=False)]
    if len(copies):
        by_content = copies.groupby("sha256")
        contradictions = int((by_content["label"].nunique() > 1).sum())
        shared = int((_find_splits(copies, splits).groupby(copies["sha256"]).nunique() > 1).sum())
        in_one = "" if shared else "; copies stay in the same split"
        yield f"{len(copies):,} images are duplicates ({copies['path'].iloc[0]}, …){in_one}"
        if contradictions:
            yield f"several classes share {pluralize(contradictions, 'image')}: runs fail until each is in only one"
        if shared:
            yield f"several splits share {pluralize(shared, 'image')}: runs fail until each is in only one"
    splits_of_group = defaultdict(set)
    for split, part in splits.items():
        for image in part:
            splits_of_group[image.group].add(split)
    torn = [group for group, found_in in splits_of_group.items() if group and len(found_in) > 1]
    if torn:
        yield (
            f"several splits share {pluralize(len(torn), 'group')} of --group-by ({list_names(torn, _MOST_NAMED)}), "
            "because the dataset was already split"
        )
    counted = {split: Counter(image.label for image in part) for split, part in splits.items()}
    for split in splits:
        missing = [names[label] for label in range(len(names)) if not counted[split][label]]
        if missing and split != "test":
            yield (
                f"there are no {split} images for {pluralize(len(missing), 'class', 'classes')} "
                f"({list_names(missing, _MOST_NAMED)}): runs fail until there are more independent images"
            )
    train = counted["train"]
    few = [names[label] for label in range(len(names)) if 0 < train[label] < _FEW_IMAGES]
    if few:
        noun = "class has" if len(few) == 1 else "classes have"
        yield (
            f"{len(few):,} {noun} fewer than {_FEW_IMAGES} training images ({list_names(few, _MOST_NAMED)}): the model "
            "may not learn to recognize them; add images, or fine-tune weights with --pretrained"
        )
    used = [count for count in train.values() if count]
    if max(used) > _UNEQUAL * min(used):
        yield (
            f"the largest class has {max(used) / min(used):.0f} times as many training images as the smallest; compare "
            "models by balanced accuracy"
        )


def find_weak_gate(
    found: FoundDataset, evaluated: Sequence[LabeledImage], metric: str, min_accuracy: float
) -> Iterator[str]:
    """Yield a note if a model that always predicts the same class would pass the registration gate.

    Args:
        found: the dataset.
        evaluated: the images on which the model will be evaluated.
        metric: the gate's metric, `top1` or `balanced_accuracy`.
        min_accuracy: the gate's bound, 0..1.
    """
    counts = Counter(image.label for image in evaluated)
    label, most = counts.most_common(1)[0]
    reached = most / len(evaluated) if metric == "top1" else 1 / len(counts)
    if reached >= min_accuracy:
        yield (
            f"a model that always predicts {found.classes[label].name} reaches {reached:.1%} and passes the gate: "
            f"raise model_registration.gate.min_accuracy ({min_accuracy:g})"
        )


def describe_near_identical(
    near: NearIdentical | None, images: Sequence[LabeledImage], manifest: pd.DataFrame
) -> Iterator[str]:
    """Yield a note on near-identical images, if any were found, and another if their labels differ.

    Args:
        near: near-identical images, or None if they were not searched for.
        images: all images of the dataset.
        manifest: result of `scan_dataset` at the `full` level.
    """
    if near is not None and near.example is not None:
        apart = (
            f"; {pluralize(near.separated_pairs, 'more pair')} in chains of similar images, such as video frames, "
            "may be in different splits: use --group-by"
        )
        yield (
            f"{pluralize(near.kept_pairs, 'pair')} of near-identical images kept in the same split ({near.example[0]} "
            "and "
            f"{near.example[1]}, …){apart if near.separated_pairs else ''}"
        )
        if conflicts := _find_conflicts(near, images, manifest):
            yield (
                f"{pluralize(len(conflicts), 'group')} of near-identical images "
                f"{'has' if len(conflicts) == 1 else 'have'} several labels ({conflicts[0][0]} and {conflicts[0][1]}, "
                "…): usually, one of them is wrong; after the first run, Data Docs shows them with the command that "
                "corrects them"
            )


def _find_conflicts(
    near: NearIdentical, images: Sequence[LabeledImage], manifest: pd.DataFrame
) -> list[tuple[str, str]]:
    """Return a pair of images with different labels for each group of near-identical images that has one.

    Groups that consist of copies are not included, because another note reports copies.
    """
    digests = dict(zip(manifest["path"], manifest["sha256"], strict=True))
    groups: dict[str, list[LabeledImage]] = defaultdict(list)
    for image in sorted(images, key=lambda one: one.path):
        if image.path in near.contents:
            groups[near.contents[image.path]].append(image)
    conflicts = []
    for group in groups.values():
        other = next((one for one in group if one.label != group[0].label), None)
        if other is not None and len({digests[one.path] for one in group}) > 1:
            conflicts.append((group[0].path, other.path))
    return conflicts


def describe_long_training(seconds: float | None, parameter_file: Path, *, has_weights: bool) -> Iterator[str]:
    """Yield a note if training on CPUs takes hours, or may take days because its time is unknown.

    Args:
        seconds: estimated time for all epochs, or None if unknown.
        parameter_file: parameters of the environment.
        has_weights: whether training starts from weights.
    """
    if seconds is not None and seconds < _HOUR_SECONDS:
        return
    time = "can take days" if seconds is None or seconds >= _DAY_SECONDS else "takes hours"
    weights = "" if has_weights else " fine-tune weights with --pretrained (recipe finetune),"
    yield (
        f"training {time} on CPUs: lower training.epochs in {parameter_file},{weights} use --device gpu, or reduce the "
        "image or network size (docs/own-data-set.md)"
    )


def _find_splits(rows: pd.DataFrame, splits: Mapping[Split, Sequence[LabeledImage]]) -> pd.Series[str]:
    """Return the split of each image, which may differ from the split in the manifest."""
    split_of = {image.path: split for split, part in splits.items() for image in part}
    return rows["path"].map(split_of)
