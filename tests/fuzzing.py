"""Fuzzes the readers of untrusted files: `python tests/fuzzing.py images|lists|JPEG|PNG|… --seconds 300 [--seed 1]`.

`images` mutates image files of every format, puts them into a dataset folder next to links, FIFOs, and folders, and
inspects each at both levels that read files. Every hundredth round scans the whole folder. `lists` mutates list files
and parses, prefixes and repairs them. A format (JPEG, PNG, BMP, WEBP, GIF or TIFF) mutates files of that format only,
decodes each, and compares the result with the scan's. A finding ends the program with the seed, the round and, in
`--keep`, the bytes:

- an exception that the function does not document, or a crash;
- a case that takes more than 10 seconds of CPU time (SIGPROF; faulthandler shows where), or memory above the limit: 4
  GiB, or for a format as much as the largest accepted image needs;
- a file that the scan accepts and the decoder rejects, or vice versa;
- a file opened outside the dataset root (an audit hook sees every file that the process opens).

The same seed produces the same cases.
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

from inspections import at_header_level
from resnet50_pipeline.exceptions import ImageDecodeError, ListFileError
from resnet50_pipeline.imagenet.lists.files import parse_list, prefix_list, render_list
from resnet50_pipeline.imagenet.scan.image_files import inspect_image
from resnet50_pipeline.imagenet.scan.inspection import inspect_bytes, inspect_header
from resnet50_pipeline.imagenet.scan.scan import scan_dataset
from resnet50_pipeline.imaging.decode import MAX_PIXELS, decode_image

SECONDS_PER_CASE = 10
MEMORY = 4 * 2**30
FORMATS = ("JPEG", "PNG", "BMP", "WEBP", "GIF", "TIFF")
# Four bytes per pixel of the largest accepted image, several times: libwebp keeps three frames, and Pillow two copies.
FORMAT_MEMORY = 3 * 2**30
STATUSES = {"ok", "missing", "not_a_file", "outside_root", "undecodable", "unlisted"}
# Markers, lengths and numbers that often break parsers.
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
    """A file outside the root was opened."""


class OpenGuard:
    """Observes every file that this process opens; while armed, it records those outside `root`."""

    def __init__(self, root: Path) -> None:
        self.root = str(root.resolve())
        self.opened_inside = 0
        self.outside: list[str] = []
        self._armed = False
        sys.addaudithook(self._observe)

    @contextmanager
    def armed(self) -> Iterator[None]:
        """Raise an error at the end of the block if a file outside the root was opened."""
        self._armed = True
        try:
            yield
        finally:
            self._armed = False
        if self.outside:
            raise OutsideError(f"opened outside of {self.root}: {self.outside}")

    def _observe(self, event: str, arguments: tuple[object, ...]) -> None:
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
    """Mutate and inspect images until the time is up, and return the number of cases."""
    seeds = list(make_images())
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
        root = Path(folder) / "root"
        secret = Path(folder) / "secret.JPEG"
        secret.write_bytes(seeds[0])
        names = make_folder(root, secret)
        scan(root, names)  # triggers late imports before opened files are watched
        for data in seeds:
            inspect_bytes(data)
        guard = OpenGuard(root)

        def case(number: int) -> None:
            data = mutate(chooser, seeds, PIECES)
            name = chooser.choice(names)
            target = root / name
            if target.is_file() and not target.is_symlink() and not (root / name).parent.is_symlink():
                target.write_bytes(data)
            write_case(keep, data)
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
    """Mutate and parse lists until the time is up, and return the number of cases."""
    seeds = [b"".join(b"n%08d/n%08d_%d.JPEG %d\n" % (n, n, m, n) for n in range(10) for m in range(5))]
    seeds += [
        seeds[0].replace(b"\n", b"\r\n"),
        b"\xef\xbb\xbf" + seeds[0],
        b"".join(b"train/" + x + b"\n" for x in seeds[0].split()),
    ]
    seeds += ["train/é/ü.JPEG 3\nval/٣ 1\n".encode(), b"a 1\nb 2\n", b""]

    def case(_: int) -> None:
        data = mutate(chooser, seeds, TEXT_PIECES)
        write_case(keep, data)
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


def fuzz_format(image_format: str, chooser: random.Random, seconds: float, cases: int, keep: Path | None) -> int:
    """Mutate and decode files of one format until the time is up or enough cases are done, and return their number."""
    seeds = list(make_images(image_format))
    is_tiff = image_format == "TIFF"
    accepted = 0

    def case(_: int) -> None:
        nonlocal accepted
        data = mutate(chooser, seeds, PIECES)
        write_case(keep, data)
        try:
            pixels = decode_image(data, tiff=is_tiff)
        except ImageDecodeError as error:
            assert error.remedy
            status = "undecodable"
        else:
            accepted += 1
            status = "ok"
            assert pixels.dtype == np.uint8
            assert pixels.ndim == 3
            assert pixels.shape[0] * pixels.shape[1] <= MAX_PIXELS
        full, header = inspect_bytes(data, tiff=is_tiff), inspect_header(data, tiff=is_tiff)
        assert full.status == status, full
        # The `header` level accepts everything that can be decoded. It misses bytes after a JPEG that end in another
        # end marker.
        as_header = at_header_level(full)._replace(trailing_bytes=header.trailing_bytes)
        assert status == "undecodable" or header == as_header, (header, full)

    for data in seeds:
        decode_image(data, tiff=is_tiff)
    done = repeat(case, seconds, cases)
    print(f"{accepted} of them accepted")
    return done


def scan(root: Path, names: list[str]):
    """Scan the folder with a list of `names`, in this process."""
    entries = parse_list("".join(f"{name} 0\n" for name in names).encode(), class_num=1)
    return scan_dataset(root, {"train": entries}, workers=1)


def make_folder(root: Path, secret: Path) -> list[str]:
    """Create a dataset folder with files, links, a FIFO, and a folder, and return the paths for lists."""
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


def make_images(only: str = "") -> Iterator[bytes]:
    """Yield a small image of every supported kind, or of every kind of one format."""
    pixels = np.random.default_rng(0).integers(0, 256, (40, 48, 3), dtype=np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 6
    deep = np.linspace(0, 65535, pixels[..., 0].size).reshape(pixels.shape[:2]).astype(np.uint16)
    frame = Image.fromarray(pixels[::-1])
    kinds: list[tuple[str, dict[str, object]]] = [
        ("JPEG", {}),
        ("JPEG", {"progressive": True}),
        ("JPEG", {"restart_marker_blocks": 1}),
        ("JPEG", {"exif": exif}),
        ("JPEG", {"subsampling": 0, "quality": 100}),
        ("PNG", {"exif": exif}),
        ("BMP", {}),
        ("TIFF", {"compression": "tiff_lzw"}),
        ("TIFF", {"compression": "jpeg"}),
        ("WEBP", {}),
        ("WEBP", {"lossless": True, "exif": exif}),
        ("GIF", {}),
        *((name, {"save_all": True, "append_images": [frame]}) for name in ("PNG", "WEBP", "GIF")),
    ]
    modes = {"JPEG": ("RGB", "L", "CMYK"), "TIFF": ("RGB", "L", "CMYK", "I;16"), "GIF": ("P", "L")}
    modes |= {"PNG": ("RGB", "L", "P", "RGBA", "1", "I;16"), "BMP": ("RGB", "L", "P", "1", "RGBA")}
    for mode in ("RGB", "L", "CMYK", "P", "RGBA", "1", "I;16"):
        for image_format, options in kinds:
            is_asked_for = only in ("", image_format) and mode in modes.get(image_format, ("RGB", "L", "RGBA"))
            if not is_asked_for or (mode == "I;16" and options):
                continue
            buffer = io.BytesIO()
            image = Image.fromarray(pixels).convert(mode) if mode != "I;16" else Image.fromarray(deep)
            image.save(buffer, image_format, **options)
            yield buffer.getvalue()


def mutate(chooser: random.Random, seeds: list[bytes], pieces: list[bytes]) -> bytes:
    """Return a seed with random changes: bits, bytes, pieces, cuts, repeats, and parts of another seed."""
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


def repeat(case: Callable[[int], None], seconds: float, cases: int = sys.maxsize) -> int:
    """Run numbered cases, each with a CPU time limit, until the time or the cases run out, and return their number."""
    end = time.monotonic() + seconds
    number = 0
    while time.monotonic() < end and number < cases:
        signal.setitimer(signal.ITIMER_PROF, SECONDS_PER_CASE)
        try:
            case(number)
        except BaseException:
            print(f"round {number}", file=sys.stderr)
            raise
        number += 1
    signal.setitimer(signal.ITIMER_PROF, 0)
    return number


def write_case(keep: Path | None, data: bytes) -> None:
    """Write the bytes of this case to a file, to reproduce a finding."""
    if keep is not None:
        keep.write_bytes(data)


def main() -> None:
    """Fuzz, and print the number of cases."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("target", choices=["images", "lists", *FORMATS])
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--cases", type=int, default=sys.maxsize, help="number of cases, if a format is fuzzed")
    parser.add_argument("--seed", type=int, default=None, help="seed (default: random)")
    parser.add_argument("--keep", type=Path, help="file for the bytes of the last case")
    options = parser.parse_args()
    seed = options.seed if options.seed is not None else int.from_bytes(os.urandom(4), "big")
    print(f"seed {seed}", flush=True)
    faulthandler.enable()
    faulthandler.register(signal.SIGPROF, chain=True)
    limit = FORMAT_MEMORY if options.target in FORMATS else MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    chooser = random.Random(seed)
    if options.target in FORMATS:
        count = fuzz_format(options.target, chooser, options.seconds, options.cases, options.keep)
    else:
        fuzz = {"images": fuzz_images, "lists": fuzz_lists}[options.target]
        count = fuzz(chooser, options.seconds, options.keep)
    print(f"{count} cases")


if __name__ == "__main__":
    main()
