"""Groups images that must stay together, and orders images in a way that depends only on the seed and each path."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Mapping, Sequence

from resnet50_pipeline.adoption.found import LabeledImage


def join_related(images: Sequence[LabeledImage], digests: Mapping[str, str]) -> list[list[int]]:
    """Return the image indexes, grouped into lists of related images.

    Two images are related if they share a digest or a group, directly or through other images.

    Each list starts with the index of its alphabetically first path.
    """
    parent = list(range(len(images)))

    def find(index: int) -> int:
        while parent[index] != index:
            parent[index] = parent[parent[index]]
            index = parent[index]
        return index

    first: dict[tuple[str, str], int] = {}
    for index, image in enumerate(images):
        for key in (("digest", digests.get(image.path, "")), ("group", image.group)):
            if key[1]:
                parent[find(index)] = find(first.setdefault(key, index))
    members: dict[int, list[int]] = defaultdict(list)
    for index in sorted(range(len(images)), key=lambda index: images[index].path):
        members[find(index)].append(index)
    return list(members.values())


def hash_path(seed: int, path: str) -> bytes:
    """Return a sort key for an image. The order is the same on every file system."""
    return hashlib.sha256(f"{seed}\t{path}".encode("utf-8", "surrogateescape")).digest()
