"""Measures how fast list files of ImageNet's size are checked and rewritten. Part of `validation.py`.

As in the data_preparation stage, both lists are read, each line is checked (format, path, label, no path twice),
prefixed and compared with the manifest, and the result is flushed to disk and renamed. The reference is the two `sed`
commands in PaddleClas' instructions, which do not check anything. Both programs alternate on the same files. The time
does not include Python's startup, imports, or reading the manifest's Parquet file. The memory includes the manifest
columns that the stage loads (listed_images in conf/base/catalog.yml).
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import yaml
from targets import Target, peak_memory_bytes

from resnet50_pipeline.imagenet.lists.files import Split

PROJECT = Path(__file__).parents[1]

LINES: dict[Split, int] = {"train": 1_281_167, "val": 50_000}
CLASSES = 1_000
ROUNDS = 7
RATIO, GIGABYTES = 5.0, 1.0


def measure(folder: Path) -> list[Target]:
    """Compare in a separate process, so that its peak memory can be measured, and return the targets."""
    done = subprocess.run([sys.executable, __file__, "--json", folder], check=True, capture_output=True)
    figures = json.loads(done.stdout)
    print(
        f"lists: sed {figures['sed']:.3f} s, checked and rewritten {figures['checked']:.3f} s (medians of {ROUNDS} "
        f"alternating rounds), CPU time {figures['cpu']:.3f} s"
    )
    return [
        Target("lists rewritten and checked / sed alone (median of rounds)", figures["ratio"], RATIO),
        Target("peak memory of the same, including the manifest, GB", figures["gigabytes"], GIGABYTES),
    ]


def write_dataset(folder: Path) -> None:
    """Write both lists of ImageNet's size, without prefixes, and the manifest's Parquet file with all its columns."""
    import pandas as pd

    random = np.random.default_rng(0)
    synsets = np.unique(random.integers(1_440_764, 15_075_141, 2 * CLASSES))[:CLASSES].tolist()
    labels = {
        "train": np.sort(random.integers(0, CLASSES, LINES["train"])),
        "val": random.integers(0, CLASSES, LINES["val"]),
    }
    paths = {
        "train": [f"n{synsets[label]:08d}/n{synsets[label]:08d}_{i}.JPEG" for i, label in enumerate(labels["train"])],
        "val": [f"ILSVRC2012_val_{i:08d}.JPEG" for i in range(1, LINES["val"] + 1)],
    }
    for split, names in paths.items():
        lines = "".join(f"{name} {label}\n" for name, label in zip(names, labels[split].tolist(), strict=True))
        (folder / f"{split}_list.txt").write_text(lines)
    count = sum(LINES.values())
    digests = random.bytes(32 * count).hex()
    pd.DataFrame(
        {
            "split": np.repeat(list(LINES), list(LINES.values())),
            "synset": np.array([f"n{synset:08d}" for synset in synsets])[np.concatenate(list(labels.values()))],
            "path": [f"{split}/{name}" for split, names in paths.items() for name in names],
            "label": pd.array(np.concatenate(list(labels.values())), dtype="Int64"),
            "bytes": random.integers(1_000, 500_000, count),
            "format": "JPEG",
            "mode": "RGB",
            "width": 500,
            "height": 375,
            "sha256": [digests[64 * i : 64 * (i + 1)] for i in range(count)],
            "exif_orientation": 1,
            "status": "ok",
            "problem": "",
        }
    ).to_parquet(folder / "manifest.parquet", index=False)


def compare(folder: Path) -> dict[str, float]:
    """Run both alternately. Return the medians of the seconds and of the ratio, the CPU seconds and the peak memory."""
    from resnet50_pipeline.datasets import ParquetDataset
    from resnet50_pipeline.files import write_bytes
    from resnet50_pipeline.imagenet.layout import DatasetLayout, read_lists
    from resnet50_pipeline.imagenet.scan.manifest import require_unchanged

    catalog = yaml.safe_load((PROJECT / "conf/base/catalog.yml").read_text())
    columns = catalog["listed_images"]["columns"]
    manifest = ParquetDataset(str(folder / "manifest.parquet"), columns).load()
    assert manifest is not None
    layout = DatasetLayout(folder, {split: folder / f"{split}_list.txt" for split in LINES})

    def rewrite_and_check() -> None:
        lists = read_lists(layout, CLASSES)
        require_unchanged({split: one.entries for split, one in lists.items()}, manifest)
        for split, one in lists.items():
            write_bytes(folder / f"{split}.checked", one.data)

    def sed() -> None:
        for split in LINES:
            with (folder / f"{split}.sed").open("wb") as output:
                subprocess.run(["sed", f"s#^#{split}/#", folder / f"{split}_list.txt"], stdout=output, check=True)

    rounds = [(seconds_of(sed), seconds_of(rewrite_and_check)) for _ in range(ROUNDS)]
    started = time.process_time()
    rewrite_and_check()
    cpu = time.process_time() - started
    for split in LINES:
        assert (folder / f"{split}.sed").read_bytes() == (folder / f"{split}.checked").read_bytes()
    return {
        "sed": statistics.median(by_sed for by_sed, _ in rounds),
        "checked": statistics.median(checked for _, checked in rounds),
        "ratio": statistics.median(checked / by_sed for by_sed, checked in rounds),
        "cpu": cpu,
        "gigabytes": peak_memory_bytes() / 1e9,
    }


def seconds_of(function: Callable[[], None]) -> float:
    """Return the duration of a call in seconds."""
    started = time.perf_counter()
    function()
    return time.perf_counter() - started


def main() -> None:
    """Print the targets, or with `--json` compare in this process and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--json", type=Path, help="compare in this process with files in this folder; print the figures as JSON"
    )
    options = parser.parse_args()
    if options.json is None:
        with tempfile.TemporaryDirectory(prefix="lists-") as folder:
            print(*measure(Path(folder)), sep="\n")
        return
    # A child process writes the files, so that its memory does not count.
    if os.fork() == 0:
        write_dataset(options.json)
        os._exit(0)
    if os.waitstatus_to_exitcode(os.wait()[1]) != 0:
        raise SystemExit(f"{options.json}: the dataset could not be written")
    print(json.dumps(compare(options.json)))


if __name__ == "__main__":
    main()
