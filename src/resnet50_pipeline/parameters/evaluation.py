"""Defines `evaluation`: the model, the images, and the model to compare with."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from resnet50_pipeline.frozen_model import FiniteModel, refuse_url


class EvaluationParameters(FiniteModel):
    """`evaluation`: the model, the images, and the model to compare with.

    By default, the best checkpoint from training is evaluated on the val list. If you evaluate another model or list,
    you must set `output_dir`. Otherwise, the results would replace those of the trained model.
    """

    model: str | None = Field(
        default=None,
        description="Model to evaluate: models:/name@champion or models:/name/3, a checkpoint set, a .pdparams or "
        ".safetensors file for the `training.arch` network, or the folder of an exported model. null: the best "
        "checkpoint from training.",
    )
    split: Literal["val", "test"] = Field(
        default="val",
        description="Split to evaluate. val: was used to select the best checkpoint, so its accuracy is slightly "
        "optimistic. test: requires a test_list.txt in dataset.lists.",
    )
    image_list: Path | None = Field(
        default=None,
        description="List file to evaluate: one `path label` pair per line, with labels from the label map. null: the "
        "list of `split`.",
    )
    image_root: Path | None = Field(
        default=None, description="Folder that the paths in `image_list` are relative to. null: dataset.root."
    )
    output_dir: Path | None = Field(
        default=None, description="Folder for all results, instead of the workspace. Set it only with --params."
    )
    true_labels: Path | None = Field(
        default=None,
        description="File with all correct labels for each image: ImageNet's ReaL labels (real.json), or a JSON object "
        "that maps each path or file name to a list of class ids.",
    )
    compare_with: str | None = Field(
        default=None,
        description="Model to compare with, based on its predictions for the same images: models:/name@champion "
        "(skipped if there is none), models:/name/3, or a predictions.parquet. null: no comparison.",
    )
    batch_size_per_rank: int = Field(ge=1, description="Images per rank and batch.")
    bootstrap_resamples: int = Field(
        default=2_000, ge=100, description="Number of bootstrap resamples for the 95% confidence intervals."
    )
    worst_classes: int = Field(
        default=10, ge=1, description="Number of rows in the tables of the worst classes and confused pairs."
    )
    gallery_images: int = Field(
        default=24,
        ge=0,
        le=200,
        description="Number of confidently misclassified images that the report shows as thumbnails.",
    )

    _refuse_urls = field_validator("model", "image_list", "image_root", "true_labels", "compare_with", mode="before")(
        refuse_url
    )

    @model_validator(mode="after")
    def _keep_results_apart(self) -> Self:
        if (self.model or self.image_list) and self.output_dir is None:
            what = "model" if self.model else "image_list"
            raise ValueError(
                f"evaluation.{what} is set, so the results would replace those of the trained model; add "
                f"evaluation.output_dir=FOLDER to --params"
            )
        if self.image_root is not None and self.image_list is None:
            raise ValueError("evaluation.image_root is set, but evaluation.image_list is not; set both or neither")
        return self


def is_registered_reference(place: str) -> bool:
    """Return whether `place` is `models:/name@alias` or `models:/name/version` instead of a path."""
    return place.startswith("models:")
