"""Registers the augmentations that a recipe can apply after the flip, under their PaddleClas names.

This module needs only Pillow and NumPy, so that parameters can be checked on a machine without OpenCV.
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
    """One augmentation in YAML form: a mapping whose only key is its name."""

    known: ClassVar[Mapping[str, type[Operator]]] = AUGMENTATIONS
