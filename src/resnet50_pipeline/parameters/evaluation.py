"""Defines `evaluation`: the model, the images and the model to compare with."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from resnet50_pipeline.frozen_model import FiniteModel, refuse_url
from resnet50_pipeline.imaging.corruptions.names import CORRUPTIONS
from resnet50_pipeline.text import suggest_name


class EvaluationParameters(FiniteModel):
    """`evaluation`: the model, the images and the model to compare with.

    By default, the best checkpoint from training is evaluated on the val list. To evaluate another model or list, set
    `output_dir`, so that the results do not replace the results of the trained model.
    """

    model: str | None = Field(
        default=None,
        description="Model to evaluate: models:/name@champion or models:/name/3, a checkpoint set, a .pdparams or "
        ".safetensors file for the `training.arch` network, or the folder of an exported model. null: the best "
        "checkpoint from training.",
    )
    split: Literal["val", "test"] = Field(
        default="val",
        description="Split to evaluate. val: gives slightly optimistic results, because it was used to select the best "
        "checkpoint. test: requires a test_list.txt in dataset.lists.",
    )
    image_list: Path | None = Field(
        default=None,
        description="List file to evaluate: one `path label` pair per line, with labels as in the label map. null: the "
        "list of `split`.",
    )
    image_root: Path | None = Field(
        default=None, description="Folder that the paths in `image_list` are relative to. null: dataset.root."
    )
    output_dir: Path | None = Field(
        default=None, description="Folder for all results instead of the workspace. Set it only with --params."
    )
    true_labels: Path | None = Field(
        default=None,
        description="File with all correct labels for each image: ImageNet's ReaL labels (real.json), or a JSON object "
        "that maps each path or file name to a list of class ids.",
    )
    out_of_fold_predictions: Path | None = Field(
        default=None,
        description="Parquet table with predictions for the train images, made by models not trained on them, as "
        "written by `kedro folds`. The label issues then include train images. null: only the evaluated images.",
    )
    slice_attributes: Path | None = Field(
        default=None,
        description="CSV file with a `path` column (as in the predictions) and additional columns, such as the camera "
        "or the site. Accuracy is computed for each value of a column, or for each quartile if the values are numbers. "
        "null: only attributes in the manifest.",
    )
    compare_with: str | None = Field(
        default=None,
        description="Model to compare with on the same images: models:/name@champion (skipped if there is none), "
        "models:/name/3, or a predictions.parquet. null: no comparison.",
    )
    batch_size_per_rank: int = Field(ge=1, description="Images per rank and batch.")
    bootstrap_resamples: int = Field(
        default=2_000, ge=100, description="Number of bootstrap resamples for the 95% confidence intervals."
    )
    worst_classes: int = Field(
        default=10, ge=1, description="Number of rows in the tables of the worst classes and confused pairs."
    )
    gallery_images: int = Field(
        default=1_000,
        ge=0,
        le=5_000,
        description="Maximum number of thumbnails in the report. The report contains fewer if it would otherwise "
        "exceed 8 MB.",
    )
    grad_cam_images: int = Field(
        default=0,
        ge=0,
        le=500,
        description="Number of images for which the report shows a heat map of the evidence for the predicted class, "
        "computed with Grad-CAM (Selvaraju et al. 2017). Half of the images are wrong predictions. Available only for "
        "the checkpoint from training. 0: none.",
    )
    corruptions: bool | tuple[str, ...] = Field(
        default=False,
        description="Corruptions from the ImageNet-C benchmark (Hendrycks and Dietterich 2019) to evaluate on, each at "
        "5 severities. true: all 15, which takes at least as long as 75 evaluations. A list of names, such as "
        "[fog, motion_blur]: only these. false: none.",
    )
    data_origin: str = Field(default="", description="Where the images come from, for the model card.")
    data_license: str = Field(default="", description="Terms of use of the images, for the model card.")

    _refuse_urls = field_validator(
        *("model", "image_list", "image_root", "true_labels", "compare_with"),
        *("out_of_fold_predictions", "slice_attributes"),
        mode="before",
    )(refuse_url)

    @field_validator("corruptions")
    @classmethod
    def _know_corruptions(cls, corruptions: bool | tuple[str, ...]) -> bool | tuple[str, ...]:
        names = () if isinstance(corruptions, bool) else corruptions
        for name in names:
            if name not in CORRUPTIONS:
                hint = f"{suggest_name(name, CORRUPTIONS)} known: {', '.join(CORRUPTIONS)}".lstrip()
                raise ValueError(f"evaluation.corruptions: there is no corruption {name}; {hint}")
        if len(set(names)) < len(names):
            raise ValueError(f"evaluation.corruptions: {', '.join(names)} contains a name twice; remove one of them")
        return corruptions

    @property
    def corruption_names(self) -> tuple[str, ...]:
        """Names of the corruptions to evaluate on, in the order of the benchmark."""
        if isinstance(self.corruptions, bool):
            return CORRUPTIONS if self.corruptions else ()
        return tuple(name for name in CORRUPTIONS if name in self.corruptions)

    @model_validator(mode="after")
    def _keep_results_apart(self) -> Self:
        if (self.model or self.image_list) and self.output_dir is None:
            what = "model" if self.model else "image_list"
            raise ValueError(
                f"evaluation.{what} is set, so the results would overwrite those of the trained model; add "
                "evaluation.output_dir=FOLDER to --params"
            )
        if self.model and self.grad_cam_images:
            raise ValueError(
                f"evaluation.grad_cam_images is {self.grad_cam_images}, but the report shows heat maps only for the "
                f"checkpoint from training, and evaluation.model is {self.model}; set evaluation.grad_cam_images to 0"
            )
        if self.image_root is not None and self.image_list is None:
            raise ValueError("evaluation.image_root is set, but evaluation.image_list is not; set both or neither")
        return self


def is_registered_reference(place: str) -> bool:
    """Return whether `place` is `models:/name@alias` or `models:/name/version` rather than a path."""
    return place.startswith("models:")
