"""Measures Great Expectations at ImageNet's size. Part of `validation.py`.

Runs the suite `ilsvrc2012` on a synthetic manifest of 1,281,167 + 50,000 images and writes the report and the Data
Docs. A separate process does this, so that its peak memory can be measured. The time includes the import of Great
Expectations but not the creation of the manifest. `python benchmarks/validation_expectations.py --profile` lists the
slowest functions.
"""

from __future__ import annotations

import argparse
import cProfile
import json
import pstats
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
import yaml
from targets import Target, peak_memory_bytes

PROJECT = Path(__file__).parents[1]
TRAIN_IMAGES, VAL_IMAGES, CLASSES = 1_281_167, 50_000, 1_000
SECONDS, GIBIBYTES = 60.0, 4.0


def measure() -> list[Target]:
    """Validate the synthetic manifest in a new process, and return the targets for time and peak memory."""
    done = subprocess.run([sys.executable, "-W", "ignore", __file__, "--json"], check=True, capture_output=True)
    figures = json.loads(done.stdout)
    return [
        Target("Great Expectations over 1.33 M rows, report and Data Docs, seconds", figures["seconds"], SECONDS),
        Target("peak memory of the same, including the manifest, GiB", figures["gibibytes"], GIBIBYTES),
    ]


def make_manifest(seed: int = 0) -> pd.DataFrame:
    """Return a manifest with the counts of ILSVRC2012, including its PNG and CMYK images, and made-up contents."""
    from resnet50_pipeline.imagenet.scan.known_images import KNOWN_CMYK, KNOWN_PNG

    random = np.random.default_rng(seed)
    synsets = _make_synsets(sorted(KNOWN_PNG | KNOWN_CMYK))
    train_labels = np.repeat(np.arange(CLASSES), _share_train_images(random))
    labels = np.concatenate([train_labels, random.permutation(np.repeat(np.arange(CLASSES), VAL_IMAGES // CLASSES))])
    images = len(labels)
    names = [f"{synsets[label]}_{number}.JPEG" for number, label in enumerate(train_labels)]
    formats, modes = np.full(images, "JPEG", dtype=object), np.full(images, "RGB", dtype=object)
    modes[random.choice(images, 20_000, replace=False)] = "L"
    for known in sorted(KNOWN_PNG | KNOWN_CMYK):
        row = int(np.searchsorted(train_labels, synsets.index(known.split("_")[0])))
        names[row] = known
        formats[row], modes[row] = ("PNG", "RGB") if known in KNOWN_PNG else ("JPEG", "CMYK")
    paths = [f"train/{synsets[label]}/{name}" for label, name in zip(train_labels, names, strict=True)]
    paths += [f"val/ILSVRC2012_val_{number:08d}.JPEG" for number in range(1, VAL_IMAGES + 1)]
    short = np.clip(random.lognormal(np.log(375), 0.35, images), 32, 4000).astype(np.int64)
    long = (short * random.choice([1.0, 4 / 3, 1.5, 16 / 9], images, p=[0.1, 0.6, 0.25, 0.05])).astype(np.int64)
    is_wide = random.random(images) < 0.75
    digest, hashes = random.bytes(32 * images).hex(), random.bytes(18 * images).hex()
    return pd.DataFrame(
        {
            "split": np.repeat(np.array(["train", "val"], dtype=object), [TRAIN_IMAGES, VAL_IMAGES]),
            "synset": np.array(synsets, dtype=object)[labels],
            "path": paths,
            "label": pd.array(labels, dtype="Int64"),
            "bytes": (short * long * random.uniform(0.3, 0.9, images)).astype(np.int64),
            "format": formats,
            "mode": modes,
            "width": np.where(is_wide, long, short),
            "height": np.where(is_wide, short, long),
            "sha256": [digest[64 * row : 64 * row + 64] for row in range(images)],
            "exif_orientation": np.ones(images, dtype=np.int64),
            "status": "ok",
            "problem": "",
            "mtime_ns": np.zeros(images, dtype=np.int64),
            "scan_level": "full",
            "trailing_bytes": np.zeros(images, dtype=np.int64),
            "ignored": "",
            "difference_hash": [hashes[36 * row : 36 * row + 36] for row in range(images)],
            "brightness_p5": random.uniform(0, 0.4, images).astype(np.float32),
            "brightness_p99": random.uniform(0.6, 1, images).astype(np.float32),
            "entropy": random.uniform(6, 8, images).astype(np.float32),
            "sharpness": random.uniform(20, 70, images).astype(np.float32),
        }
    )


def _make_synsets(known_names: list[str]) -> list[str]:
    """Return 1000 sorted synsets, including those of the known images."""
    synsets = {name.split("_")[0] for name in known_names}
    synsets |= {f"n{1_000_000 + number:08d}" for number in range(CLASSES - len(synsets))}
    return sorted(synsets)


def _share_train_images(random: np.random.Generator) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """Return the images per class: 732..1300 as in ILSVRC2012, mostly 1300, with the sum TRAIN_IMAGES."""
    counts = np.full(CLASSES, 1300)
    counts[0] = 732
    missing = 1300 * CLASSES - 568 - TRAIN_IMAGES
    smaller = random.choice(np.arange(1, CLASSES), 105, replace=False)
    counts[smaller] -= random.multinomial(missing, np.full(105, 1 / 105))
    return counts


def _make_root(root: Path) -> Path:
    """Return a dataset folder without images. Data Docs then contain no thumbnails."""
    for split in ("train", "val"):
        (root / split).mkdir(parents=True)
        (root / f"{split}_list.txt").touch()
    return root


def run(folder: Path) -> dict[str, float]:
    """Validate the synthetic manifest, write the report and the Data Docs to `folder`, and return the figures."""
    from resnet50_pipeline.imagenet.layout import ListDescriptions
    from resnet50_pipeline.imagenet.lists.fixes import make_review_commands
    from resnet50_pipeline.parameters import DatasetParameters, DataValidationParameters
    from resnet50_pipeline.pipelines.data_validation import nodes

    manifest = make_manifest()
    values = yaml.safe_load((PROJECT / "conf/imagenet/parameters_data_validation.yml").read_text())["data_validation"]
    parameters = DataValidationParameters.model_validate(values)
    lists = ListDescriptions((), {"train": "train_list.txt", "val": "val_list.txt"}, {})
    manifest_file = folder / "manifest.parquet"
    manifest.to_parquet(manifest_file, index=False)
    root = _make_root(folder / "dataset")
    start = time.monotonic()
    report, docs = nodes.validate_manifest(
        dataset_root=root,
        manifest=manifest,
        manifest_file=manifest_file,
        list_descriptions=lists,
        dataset=DatasetParameters(class_num=CLASSES),
        data_validation=parameters,
        findings_review=make_review_commands(folder / "findings.jsonl", folder / "findings.reviewed.csv", "imagenet"),
    )
    seconds = time.monotonic() - start
    docs.rename(folder / "data_docs")
    (folder / "validation_report.json").write_text(json.dumps(report))
    failed = {expectation["name"] for expectation in report["expectations"] if not expectation["success"]}
    assert failed == {"synsets_are_those_of_ilsvrc2012"}, failed  # the synsets are made up
    return {"seconds": seconds, "gibibytes": peak_memory_bytes() / 2**30}


def main() -> None:
    """Print the figures as JSON, and with `--profile` the slowest functions."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print only seconds and gibibytes, as JSON")
    parser.add_argument("--profile", action="store_true", help="print the slowest functions")
    parser.add_argument("--keep", type=Path, help="write the report and the Data Docs to this existing folder")
    options = parser.parse_args()
    profile = cProfile.Profile()
    with tempfile.TemporaryDirectory(prefix="expectations-") as folder:
        target = options.keep or Path(folder)
        figures = profile.runcall(run, target) if options.profile else run(target)
    print(json.dumps(figures))
    if options.profile:
        pstats.Stats(profile).sort_stats("cumulative").print_stats(60)


if __name__ == "__main__":
    main()
