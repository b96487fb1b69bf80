"""The augmentations that a recipe may add between the flip and the network, by PaddleClas' names.

They need Pillow and NumPy only, so parameters can be checked on a machine on which OpenCV does not load.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from resnet50_pipeline.imaging.base import NamedOperator, Operator
from resnet50_pipeline.imaging.color_jitter import ColorJitter
from resnet50_pipeline.imaging.rand_augment import RandAugment
from resnet50_pipeline.imaging.random_erasing import RandomErasing
from resnet50_pipeline.imaging.timm_autoaugment import TimmAutoAugment
from resnet50_pipeline.imaging.trivial_augment import TrivialAugmentWide

AUGMENTATIONS: Mapping[str, type[Operator]] = {
    operator.__name__: operator
    for operator in (ColorJitter, RandAugment, TimmAutoAugment, TrivialAugmentWide, RandomErasing)
}


class AugmentOp(NamedOperator):
    """One augmentation: a mapping with one key, its name."""

    known: ClassVar[Mapping[str, type[Operator]]] = AUGMENTATIONS
