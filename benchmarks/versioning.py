"""Measures DVC with loose files and with shards: `python benchmarks/versioning.py [--check] [--images N]`.

Two repositories contain the same images, one as loose files and one as tar files with a thousand images each. The
benchmark measures `dvc add`, `dvc push` to a remote in a local folder, and `dvc checkout` in a clone after `dvc fetch`.
The cache and the workspace are on the same file system, so that a checkout creates hard links. The time of the same
command for a single file, which is mostly DVC's startup time, is subtracted.

Prints one line per target: `target | measured | bound | met`. With --check, the exit code is 1 if a target is missed.
"""

from __future__ import annotations

import argparse
import io
import os
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from targets import Target, report

IMAGES = 100_000
IMAGES_PER_SHARD = 1000
IMAGE_BYTES = 1024  # DVC's time depends on the number of files; ImageNet's 110 KB per file would only fill the disk
MIN_SPEEDUP = 10
MIN_SECONDS = 0.05  # resolution of a command's time after DVC's startup time is subtracted
COMMANDS = ("add", "push", "checkout of a clone")


def main() -> int:
    """Parse the command line, measure, and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="exit with 1 if a target is missed")
    parser.add_argument("--images", type=int, default=IMAGES, help=f"number of images (default: {IMAGES})")
    parser.add_argument("--rounds", type=int, default=1, help="number of measurements; each time is their median")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="benchmark-versioning-") as folder:
        targets = measure(Path(folder), options.images, options.rounds)
    return report(targets, is_checked=options.check)


def measure(folder: Path, images: int, rounds: int) -> list[Target]:
    """Return one target per command: the speedup of shards over loose files with the same images.

    Args:
        folder: an empty folder for two datasets and their caches, about 10 KB per image.
        images: number of images in each dataset.
        rounds: number of measurements; each time is their median.
    """
    taken: dict[str, list[list[float]]] = {"start": [], "loose": [], "shards": []}
    for number in range(rounds):
        for kind, rows in taken.items():
            trial = Trial(folder / f"{kind}-{number}")
            write = write_shards if kind == "shards" else write_loose
            write(trial.data, 1 if kind == "start" else images)
            rows.append(list(trial.run()))
    seconds = {kind: [statistics.median(times) for times in zip(*rows, strict=True)] for kind, rows in taken.items()}
    targets = []
    for command, start, *with_start in zip(COMMANDS, *seconds.values(), strict=True):
        loose, shards = (max(time_taken - start, MIN_SECONDS) for time_taken in with_start)
        print(
            f"{command}: {images} loose files {loose:.1f} s, {images // IMAGES_PER_SHARD} shards {shards:.2f} s, "
            f"both without the {start:.2f} s that DVC takes for a single file"
        )
        name = f"dvc {command}, {images} images: time of loose files / shards"
        targets.append(Target(name, loose / shards, MIN_SPEEDUP, at_least=True))
    return targets


@dataclass
class Trial:
    """A repository, its clone and their remote.

    Attributes:
        folder: the folder that contains all three; it is created.
    """

    folder: Path

    def __post_init__(self) -> None:
        for name in ("repository/data", "remote"):
            (self.folder / name).mkdir(parents=True)
        self._git("init", "--quiet", "repository")
        for command in (
            ("init", "--quiet"),
            ("config", "cache.type", "reflink,hardlink,copy"),
            ("remote", "add", "--quiet", "--default", "store", str(self.folder / "remote")),
        ):
            self._dvc("repository", *command)

    @property
    def data(self) -> Path:
        """The folder that DVC versions."""
        return self.folder / "repository" / "data"

    def run(self) -> Iterator[float]:
        """Yield the seconds that add, push and checkout in a clone take."""
        yield self._time("repository", "add", "data")
        yield self._time("repository", "push")
        self._git("-C", "repository", "add", "--all")
        self._git("-C", "repository", "commit", "--quiet", "--message", "data")
        self._git("clone", "--quiet", "repository", "clone")
        self._dvc("clone", "fetch", "--quiet")
        yield self._time("clone", "checkout")

    def _time(self, repository: str, *command: str) -> float:
        os.sync()  # so that earlier writes do not delay the measured command
        start = time.perf_counter()
        self._dvc(repository, *command, "--quiet")
        return time.perf_counter() - start

    def _dvc(self, repository: str, *command: str) -> None:
        environment = {**os.environ, "DVC_NO_ANALYTICS": "1", "DVC_SITE_CACHE_DIR": str(self.folder / "site")}
        subprocess.run(
            [sys.executable, "-m", "dvc", *command],
            cwd=self.folder / repository,
            env=environment,
            check=True,
            stdout=subprocess.DEVNULL,
        )

    def _git(self, *command: str) -> None:
        identity = {
            f"GIT_{role}_{field}": "benchmark" for role in ("AUTHOR", "COMMITTER") for field in ("NAME", "EMAIL")
        }
        subprocess.run(["git", *command], cwd=self.folder, env={**os.environ, **identity}, check=True)


def write_loose(folder: Path, images: int) -> None:
    """Write the images as in ImageNet: one folder per thousand images."""
    for number, name, content in make_images(images):
        path = folder / f"n{number // IMAGES_PER_SHARD:08d}" / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)


def write_shards(folder: Path, images: int) -> None:
    """Write the images as plain tar files with a thousand images each."""
    shard: tarfile.TarFile | None = None
    for number, name, content in make_images(images):
        if number % IMAGES_PER_SHARD == 0:
            if shard is not None:
                shard.close()
            shard = tarfile.open(folder / f"n{number // IMAGES_PER_SHARD:08d}.tar", "w")  # noqa: SIM115 - closed before the next one opens
        member = tarfile.TarInfo(name)
        member.size = len(content)
        assert shard is not None
        shard.addfile(member, io.BytesIO(content))
    if shard is not None:
        shard.close()


def make_images(images: int) -> Iterator[tuple[int, str, bytes]]:
    """Yield the number, the name and the content of every image; all contents differ."""
    filling = os.urandom(IMAGE_BYTES - 8)
    for number in range(images):
        yield number, f"{number}.JPEG", number.to_bytes(8, "big") + filling


if __name__ == "__main__":
    sys.exit(main())
