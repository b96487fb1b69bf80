"""`evaluation`: which model is measured, on which images, against what."""

from __future__ import annotations

from pathlib import Path
from typing import Self

from pydantic import Field, model_validator

from resnet50_pipeline.parameters.base import ParameterModel


class EvaluationParameters(ParameterModel):
    """`evaluation`: which model is measured, on which images, against what.

    As it stands in conf/, the best checkpoint of the training on the val list. For anything else `output_dir` must name
    another folder, so that the results of the training's own evaluation stay.
    """

    model: str | None = Field(
        default=None,
        description="Another model: models:/name@champion or models:/name/3, a checkpoint set, a .pdparams or "
        ".safetensors of the network of `training.arch`, or the folder of an exported model.",
    )
    image_list: Path | None = Field(
        default=None, description="Another list, `path label` a line, labels as in the label map."
    )
    image_root: Path | None = Field(
        default=None, description="Folder that the paths of `image_list` begin at; null means dataset.root."
    )
    output_dir: Path | None = Field(
        default=None, description="Folder for all results, in place of the workspace. Only with --params."
    )
    true_labels: Path | None = Field(
        default=None,
        description="Every right answer of each image: ImageNet's ReaL labels (real.json), or a JSON object of "
        "lists of class ids by path or file name.",
    )
    compare_with: str | None = Field(
        default=None,
        description="Whose predictions for the same images these are compared with: models:/name@champion (where there "
        "is one), models:/name/3, or a predictions.parquet; null for nobody's.",
    )
    batch_size_per_rank: int = Field(ge=1, description="Images a rank and step.")
    bootstrap_resamples: int = Field(default=2_000, ge=100, description="Resamples of the 95 % intervals.")
    worst_classes: int = Field(default=10, ge=1, description="Rows of the tables of worst classes and confused pairs.")
    gallery_images: int = Field(
        default=24, ge=0, le=200, description="Confidently wrong images that the report shows, small, inside its page."
    )

    @model_validator(mode="after")
    def _keep_results_apart(self) -> Self:
        if (self.model or self.image_list) and self.output_dir is None:
            what = "model" if self.model else "image_list"
            raise ValueError(
                f"evaluation.{what} is set, so the results would take the place of the training's own evaluation; add "
                f"evaluation.output_dir=FOLDER to --params"
            )
        if self.image_root is not None and self.image_list is None:
            raise ValueError("evaluation.image_root is the folder of evaluation.image_list, which is not set")
        return self
