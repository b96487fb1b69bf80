"""What DVC costs at ImageNet's number of files: `python benchmarks/versioning.py [--check] [--images N]`.

The same images as loose files and as tars of a thousand, each in a repository of its own: `dvc add`, `dvc push` to a
remote in a local folder, and `dvc checkout` in a clone that has fetched. Cache and workspace share a file system, so
that a checkout is hard links. What the same command takes for a single file, which is the start of DVC itself, is taken
off every time.
One line a target: `target | measured | bound | holds`. With --check the exit code is 1 when one does not hold.
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
IMAGES_A_SHARD = 1000
IMAGE_BYTES = 1024  # what DVC does is counted in files; ImageNet's hundred kilobytes each would only fill the disk
TIMES_AS_FAST = 10
SHORTEST_SECONDS = 0.05  # what is left of a short command, without DVC's start, is no better known than this
COMMANDS = ("add", "push", "checkout of a clone")


def main() -> int:
    """Read the command line, measure, and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="exit with 1 when a target does not hold")
    parser.add_argument("--images", type=int, default=IMAGES, help=f"how many images (default {IMAGES})")
    parser.add_argument("--rounds", type=int, default=1, help="how often each time is taken; the median counts")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="benchmark-versioning-") as folder:
        targets = measure(Path(folder), options.images, options.rounds)
    return report(targets, is_checked=options.check)


def measure(folder: Path, images: int, rounds: int) -> list[Target]:
    """Return a target each command, loose files against shards of the same images.

    Args:
        folder: a place for two data sets and their caches, about 10 KB an image.
        images: in each data set.
        rounds: of which the median counts.
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
        loose, shards = (max(time_taken - start, SHORTEST_SECONDS) for time_taken in with_start)
        print(
            f"{command}: {images} loose files {loose:.1f} s, {images // IMAGES_A_SHARD} shards {shards:.2f} s, "
            f"both without {start:.2f} s that DVC takes for one file"
        )
        name = f"dvc {command}, {images} images: shards / loose, times as fast"
        targets.append(Target(name, loose / shards, TIMES_AS_FAST, at_least=True))
    return targets


@dataclass
class Trial:
    """One repository, its clone and their remote.

    Attributes:
        folder: of all three; made.
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
        """The folder that is versioned."""
        return self.folder / "repository" / "data"

    def run(self) -> Iterator[float]:
        """Yield the seconds of add, push and checkout of a clone."""
        yield self._time("repository", "add", "data")
        yield self._time("repository", "push")
        self._git("-C", "repository", "add", "--all")
        self._git("-C", "repository", "commit", "--quiet", "--message", "data")
        self._git("clone", "--quiet", "repository", "clone")
        self._dvc("clone", "fetch", "--quiet")
        yield self._time("clone", "checkout")

    def _time(self, repository: str, *command: str) -> float:
        os.sync()  # what was written before is not to be waited for now
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
        who = {f"GIT_{who}_{what}": "benchmark" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
        subprocess.run(["git", *command], cwd=self.folder, env={**os.environ, **who}, check=True)


def write_loose(folder: Path, images: int) -> None:
    """Write the images as ImageNet has them: a folder for each thousand or so."""
    for number, name, content in make_images(images):
        path = folder / f"n{number // IMAGES_A_SHARD:08d}" / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)


def write_shards(folder: Path, images: int) -> None:
    """Write the images as plain tars of a thousand."""
    shard: tarfile.TarFile | None = None
    for number, name, content in make_images(images):
        if number % IMAGES_A_SHARD == 0:
            if shard is not None:
                shard.close()
            shard = tarfile.open(folder / f"n{number // IMAGES_A_SHARD:08d}.tar", "w")  # noqa: SIM115 - closed at the next
        member = tarfile.TarInfo(name)
        member.size = len(content)
        assert shard is not None
        shard.addfile(member, io.BytesIO(content))
    if shard is not None:
        shard.close()


def make_images(images: int) -> Iterator[tuple[int, str, bytes]]:
    """Yield number, name and content of every image; no two have the same content."""
    filling = os.urandom(IMAGE_BYTES - 8)
    for number in range(images):
        yield number, f"{number}.JPEG", number.to_bytes(8, "big") + filling


if __name__ == "__main__":
    sys.exit(main())
