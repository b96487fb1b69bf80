"""Joins images that have to stay together, and gives them an order that depends only on the seed and the paths."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Mapping, Sequence

from resnet50_pipeline.adoption.found import LabeledImage


def join_related(images: Sequence[LabeledImage], digests: Mapping[str, str]) -> list[list[int]]:
    """Return lists of indexes: images that share a digest or a group, directly or through others, are in one list.

    The first index of each list is that of the first path in alphabetical order.
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
    """Return the key that sorts images. The order does not depend on the file system."""
    return hashlib.sha256(f"{seed}\t{path}".encode("utf-8", "surrogateescape")).digest()
