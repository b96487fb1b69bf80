"""Fuzzes what reads files of strangers: `python tests/fuzzing.py images|lists --seconds 300 [--seed 1]`.

`images` mutates image files of every format, puts them into a dataset folder, beside links, FIFOs and folders, and
inspects each at both levels that read; every hundredth round scans the whole folder. `lists` mutates list files and
parses, prefixes and repairs them. A finding ends the program with the seed, the round and, in `--keep`, the bytes:

- an exception that is not the one that the function documents, or a crash;
- a case of more than 10 seconds (SIGALRM; faulthandler shows where), or memory above 4 GiB;
- a file outside of the dataset root that was opened (an audit hook sees every open of the process).

The same seed gives the same cases.
"""

from __future__ import annotations

import argparse
import faulthandler
import io
import os
import random
import resource
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image

from resnet50_pipeline.exceptions import ListFileError
from resnet50_pipeline.imagenet.image_files import inspect_image
from resnet50_pipeline.imagenet.inspection import inspect_bytes, inspect_header
from resnet50_pipeline.imagenet.list_files import parse_list, prefix_list, render_list
from resnet50_pipeline.imagenet.scan import scan_dataset

SECONDS_A_CASE = 10
MEMORY = 4 * 2**30
STATUSES = {"ok", "missing", "not_a_file", "outside_root", "undecodable", "unlisted"}
# Markers, lengths and numbers that parsers trip over.
PIECES = [
    b"\xff\xd8",
    b"\xff\xd9",
    b"\xff\xda",
    b"\xff\xc0",
    b"\xff\xc4",
    b"\xff\xe1\xff\xff",
    b"\xff\xdd\0\0",
    b"\0\0",
]
PIECES += [
    b"\xff\xff\xff\xff",
    b"\x7f\xff\xff\xff",
    b"\x80\0\0\0",
    b"Exif\0\0II*\0",
    b"IDAT",
    b"IHDR",
    b"\xff\0",
    b"\xff",
]
TEXT_PIECES = [
    b" ",
    b"  ",
    b"\n",
    b"\r\n",
    b"\r",
    b"\t",
    b"\0",
    b"\xff",
    b"..",
    b"/",
    b"\\",
    b"\xef\xbb\xbf",
    b"\xe2\x80\xa8",
]
TEXT_PIECES += [
    b"train/",
    b"val/",
    b"-1",
    b"9" * 30,
    b"1_0",
    "٣".encode(),
    b"\xc2\x85",
    b"/../",
    b"\xed\xa0\x80",
    b"007",
]


class OutsideError(Exception):
    """A file outside of the root was opened."""


class OpenGuard:
    """Sees every open of this process; while armed, one outside of `root` is noted."""

    def __init__(self, root: Path) -> None:
        self.root = str(root.resolve())
        self.opened_inside = 0
        self.outside: list[str] = []
        self._armed = False
        sys.addaudithook(self._see)

    @contextmanager
    def armed(self) -> Iterator[None]:
        """Raise at the end of the block if anything outside was opened in it."""
        self._armed = True
        try:
            yield
        finally:
            self._armed = False
        if self.outside:
            raise OutsideError(f"opened outside of {self.root}: {self.outside}")

    def _see(self, event: str, arguments: tuple[object, ...]) -> None:
        if not self._armed or event not in ("open", "os.scandir", "os.listdir"):
            return
        path = arguments[0]
        if isinstance(path, int) or path is None:
            return
        real = os.path.realpath(os.fsdecode(path))  # type: ignore[arg-type]
        if real == self.root or real.startswith(self.root + os.sep):
            self.opened_inside += 1
        else:
            self.outside.append(real)


def fuzz_images(chooser: random.Random, seconds: float, keep: Path | None) -> int:
    """Mutate and inspect images until the time is up; return the number of cases."""
    seeds = list(make_images())
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
        root = Path(folder) / "root"
        secret = Path(folder) / "secret.JPEG"
        secret.write_bytes(seeds[0])
        names = make_folder(root, secret)
        scan(root, names)  # imports what is imported late, before opens are watched
        for data in seeds:
            inspect_bytes(data)
        guard = OpenGuard(root)

        def case(number: int) -> None:
            data = mutate(chooser, seeds, PIECES)
            name = chooser.choice(names)
            target = root / name
            if target.is_file() and not target.is_symlink() and not (root / name).parent.is_symlink():
                target.write_bytes(data)
            remember(keep, data)
            with guard.armed():
                found = [inspect_image(root.resolve(), name, level) for level in ("full", "header", "structure")]
                found += [inspect_bytes(data), inspect_header(data)]
                if number % 100 == 0:
                    manifest = scan(root, names)
                    assert set(manifest["status"]) <= STATUSES
                    assert len(manifest) >= len(names)
            for one in found:
                assert one.status in STATUSES, one
                assert (one.status == "ok") == (one.problem == ""), one
                assert "→" in one.problem or not one.problem, one

        cases = repeat(case, seconds)
        assert guard.opened_inside >= cases // 2, "the guard saw nothing"
        return cases


def fuzz_lists(chooser: random.Random, seconds: float, keep: Path | None) -> int:
    """Mutate and parse lists until the time is up; return the number of cases."""
    seeds = [b"".join(b"n%08d/n%08d_%d.JPEG %d\n" % (n, n, m, n) for n in range(10) for m in range(5))]
    seeds += [
        seeds[0].replace(b"\n", b"\r\n"),
        b"\xef\xbb\xbf" + seeds[0],
        b"".join(b"train/" + x + b"\n" for x in seeds[0].split()),
    ]
    seeds += ["train/é/ü.JPEG 3\nval/٣ 1\n".encode(), b"a 1\nb 2\n", b""]

    def case(_: int) -> None:
        data = mutate(chooser, seeds, TEXT_PIECES)
        remember(keep, data)
        split = chooser.choice(["train", "val"])
        try:
            entries = parse_list(data, class_num=10, label_base=chooser.choice([0, 1]))
            assert len(entries) == len(set(entries.paths)) == len(entries.labels) > 0
            assert set(entries.labels.tolist()) <= set(range(10))
            assert not any(path.startswith("/") or ".." in path.split("/") for path in entries.paths)
            assert parse_list(render_list(entries).encode(), class_num=10).paths == entries.paths
            prefixed = prefix_list(entries, split, repair=chooser.random() < 0.5)
            assert all(path.startswith(f"{split}/") for path in prefixed.entries.paths)
            again = prefix_list(parse_list(prefixed.data, class_num=10), split)
            assert again.data == prefixed.data
        except ListFileError as error:
            assert error.problems
            assert all("→" in problem for problem in error.problems), error.problems

    return repeat(case, seconds)


def scan(root: Path, names: list[str]):
    """Scan the folder with a list of `names`, in this process."""
    entries = parse_list("".join(f"{name} 0\n" for name in names).encode(), class_num=1)
    return scan_dataset(root, {"train": entries}, workers=1)


def make_folder(root: Path, secret: Path) -> list[str]:
    """Make a dataset folder with files, links, a FIFO and a folder; return the paths that lists name."""
    classes = root / "train" / "n00000000"
    classes.mkdir(parents=True)
    (root / "val").mkdir()
    for number in range(8):
        (classes / f"{number}.JPEG").write_bytes(secret.read_bytes())
    (classes / "out.JPEG").symlink_to(secret)
    (classes / "inside.JPEG").symlink_to("0.JPEG")
    (classes / "circle.JPEG").symlink_to("circle.JPEG")
    (root / "train" / "outside").symlink_to(secret.parent)
    (classes / "folder.JPEG").mkdir()
    os.mkfifo(classes / "fifo.JPEG")
    names = [f"train/n00000000/{number}.JPEG" for number in range(8)]
    names += [f"train/n00000000/{name}.JPEG" for name in ("out", "inside", "circle", "folder", "fifo", "missing")]
    return [*names, "train/outside/secret.JPEG"]


def make_images() -> Iterator[bytes]:
    """Yield a small image of every kind that is read."""
    pixels = np.random.default_rng(0).integers(0, 256, (40, 48, 3), dtype=np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 6
    kinds: list[tuple[str, dict[str, object]]] = [
        ("JPEG", {}),
        ("JPEG", {"progressive": True}),
        ("JPEG", {"restart_marker_blocks": 1}),
        ("JPEG", {"exif": exif}),
        ("JPEG", {"subsampling": 0, "quality": 100}),
        ("PNG", {"exif": exif}),
        ("BMP", {}),
        ("TIFF", {"compression": "tiff_lzw"}),
        ("WEBP", {}),
    ]
    for mode in ("RGB", "L", "CMYK"):
        for image_format, options in kinds:
            if mode == "CMYK" and image_format not in ("JPEG", "TIFF"):
                continue
            buffer = io.BytesIO()
            Image.fromarray(pixels).convert(mode).save(buffer, image_format, **options)
            yield buffer.getvalue()


def mutate(chooser: random.Random, seeds: list[bytes], pieces: list[bytes]) -> bytes:
    """Return one of the seeds after a few changes: bits, bytes, pieces, cuts, repeats, and parts of another seed."""
    data = bytearray(chooser.choice(seeds))
    for _ in range(chooser.randint(1, 6)):
        place = chooser.randrange(len(data) + 1)
        kind = chooser.randrange(8)
        if kind == 0 and data:
            data[place % len(data)] ^= 1 << chooser.randrange(8)
        elif kind == 1 and data:
            data[place % len(data)] = chooser.randrange(256)
        elif kind == 2:
            data[place:place] = chooser.choice(pieces)
        elif kind == 3:
            piece = chooser.choice(pieces)
            data[place : place + len(piece)] = piece
        elif kind == 4:
            del data[place : place + chooser.choice([1, 2, 16, 256, 10**6])]
        elif kind == 5:
            data[place:place] = data[place : place + chooser.choice([1, 16, 256])]
        elif kind == 6:
            other = chooser.choice(seeds)
            data[place:] = other[chooser.randrange(len(other) + 1) :]
        else:
            data[place:place] = bytes(chooser.choice([1, 64, 4096]))
    return bytes(data)


def repeat(case: Callable[[int], None], seconds: float) -> int:
    """Run numbered cases until the time is up, each under the limit of time; return how many there were."""
    end = time.monotonic() + seconds
    number = 0
    while time.monotonic() < end:
        signal.alarm(SECONDS_A_CASE)
        try:
            case(number)
        except BaseException:
            print(f"round {number}", file=sys.stderr)
            raise
        number += 1
    signal.alarm(0)
    return number


def remember(keep: Path | None, data: bytes) -> None:
    """Write the bytes of this case to a file, for whoever looks at a finding."""
    if keep is not None:
        keep.write_bytes(data)


def main() -> None:
    """Fuzz, and print the number of cases."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("target", choices=["images", "lists"])
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=None, help="by default another one each time")
    parser.add_argument("--keep", type=Path, help="file for the bytes of the last case")
    options = parser.parse_args()
    seed = options.seed if options.seed is not None else int.from_bytes(os.urandom(4), "big")
    print(f"seed {seed}", flush=True)
    faulthandler.enable()
    faulthandler.register(signal.SIGALRM, chain=True)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    fuzz = {"images": fuzz_images, "lists": fuzz_lists}[options.target]
    print(f"{fuzz(random.Random(seed), options.seconds, options.keep)} cases")


if __name__ == "__main__":
    main()
