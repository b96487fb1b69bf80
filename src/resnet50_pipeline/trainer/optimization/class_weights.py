"""Computes class weights for the loss from the number of train images per class."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from resnet50_pipeline.exceptions import TrainingConfigError
from resnet50_pipeline.recipe.losses import ClassWeightOptions


def compute_class_weights(config: ClassWeightOptions, images_of_class: NDArray[np.int64]) -> NDArray[np.float32] | None:
    """Return the weight of each class, float32 [C], or None if all images have the same weight.

    - `balanced`: 1 / n for a class with n train images, as in scikit-learn.
    - `effective-number`: (1 - β) / (1 - β^n), from "Class-Balanced Loss Based on Effective Number of Samples" (Cui et
      al. 2019).

    In both cases, the weights are scaled to a mean of 1 over the train images. This keeps the scale of the mean
    gradient, so the learning rate does not have to change. A class without images has weight 0.

    Args:
        config: rule or explicit weights.
        images_of_class: number of train images in each class, int64 [C].

    Raises:
        TrainingConfigError: if the number of explicit weights differs from the number of classes.
    """
    rule = config.class_weights
    if rule is None:
        return None
    if not isinstance(rule, str):
        if len(rule) != len(images_of_class):
            raise TrainingConfigError(
                f"Loss.Train.CELoss.class_weights has {len(rule)} weights for {len(images_of_class)} classes; set one "
                f"weight per class"
            )
        return np.array(rule, dtype=np.float32)
    images = images_of_class.astype(np.float64)
    effective = images if rule == "balanced" else _effective_number(images, config.class_weights_beta)
    weights = np.divide(1.0, effective, out=np.zeros_like(images), where=images > 0)
    scaled: NDArray[np.float32] = (weights * (images.sum() / (weights * images).sum())).astype(np.float32)
    return scaled


def _effective_number(images: NDArray[np.float64], beta: float) -> NDArray[np.float64]:
    """Return (1 - β^n) / (1 - β) for n images."""
    if beta == 0:
        return np.minimum(images, 1.0)
    # expm1 avoids the loss of precision in 1 - β^n for β close to 1.
    number: NDArray[np.float64] = np.expm1(images * np.log(beta)) / (beta - 1.0)
    return number
