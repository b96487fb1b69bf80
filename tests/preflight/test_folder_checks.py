"""Checks of disk space, other runs' claims, checkpoints to resume from, and the dataset."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from resnet50_pipeline.exceptions import DatasetNotFoundError
from resnet50_pipeline.imagenet.fixing import list_images, make_patch
from resnet50_pipeline.imagenet.lists.fixes import Fix
from resnet50_pipeline.imagenet.lists.patches import write_patch
from resnet50_pipeline.paddleclas.launch.output_dir import claim_output_dir
from resnet50_pipeline.parameters import DatasetParameters
from resnet50_pipeline.preflight.checkpoints import (
    NETWORK_SIZES,
    OPTIMIZER_VALUES,
    check_claims,
    check_disk,
    check_mirror,
    check_start,
    checkpoint_set_bytes,
)
from resnet50_pipeline.preflight.dataset import check_dataset, require_dataset
from resnet50_pipeline.preflight.plan import find_claims


def test_a_resnet50_set_takes_195_mib(training_parameters):
    """A set contains 25.6 million weights with their velocities, and 53,120 running statistics, all in float32."""
    training = training_parameters(arch={"name": "ResNet50"})
    assert checkpoint_set_bytes(training, 1000) == (2 * 25_557_032 + 53_120) * 4


def test_too_little_disk_space_blocks(training_parameters, make_disk):
    """If keep_checkpoints + 2 sets do not fit on the disk, the finding is blocking, and the check writes nothing."""
    disk = make_disk(100)
    training = training_parameters(disk / "training", keep_checkpoints=1)
    finding = check_disk(training, 10, disk / "training")
    assert finding.status == "blocking"
    assert finding.found.startswith("100 MiB ")
    assert finding.needed.startswith("299 MiB ")
    assert str(disk) in finding.remedy
    assert list(disk.iterdir()) == []


def test_a_resumed_run_needs_space_for_one_set(training_parameters, make_disk):
    """A resumed run replaces its existing sets one by one, so it needs space for only one more set."""
    training = training_parameters(make_disk(100) / "training", keep_checkpoints=1, resume=True)
    for epoch in range(1, 4):
        (training.output_dir / "checkpoints" / f"epoch-000{epoch}").mkdir(parents=True)
    (training.output_dir / "best.pdparams").touch()
    assert check_disk(training, 10, training.output_dir).status == "ok"


def test_an_unknown_network_blocks(training_parameters, tmp_path):
    """A mistyped network name is found before the ranks start, and the remedy lists the known names."""
    finding = check_disk(training_parameters(arch={"name": "ResNet51"}), 10, tmp_path)
    assert finding.status == "blocking"
    assert "ResNet50, " in finding.remedy


def test_the_claim_of_another_run_blocks(tmp_path):
    """The finding identifies the process that holds the claim, and the check creates no lock file."""
    folder = tmp_path / "workspace"
    with claim_output_dir(folder):
        (finding,) = check_claims(folder)
        assert finding.status == "blocking"
        assert str(os.getpid()) in finding.found
        assert str(folder) in finding.found
    assert list(check_claims(folder, tmp_path / "never")) == []
    assert not (tmp_path / ".never.lock").exists()


@pytest.mark.parametrize(
    ("parameters", "written", "claimed"),
    [
        ({}, ["data/sample/06_models/training"], ["data/sample"]),
        ({"data_dir": "/scratch/v2"}, ["/scratch/v2/manifest.parquet"], ["/scratch/v2"]),
        (
            {"data_dir": "/scratch/v2"},
            ["/scratch/v2/manifest.parquet", "data/sample/06_models/training"],
            ["/scratch/v2", "data/sample"],
        ),
        ({"data_dir": "data/sample"}, ["/elsewhere/metrics.json"], ["data/sample"]),
        ({"run_dir": "trial", "data_dir": "/scratch/v2"}, ["trial/06_models/training"], ["trial"]),
    ],
)
def test_a_run_claims_the_folders_that_it_writes_to(parameters: dict[str, str], written: list[str], claimed: list[str]):
    """A run never claims a common parent of its folders, such as /, and claims each folder once."""
    found = find_claims(Path("data/sample"), parameters, [Path(path) for path in written])
    assert [str(folder) for folder in found] == claimed


def test_resume_needs_a_checkpoint_set(training_parameters):
    """With `training.resume: true`, a missing set is a blocking finding, and an existing set is named."""
    training = training_parameters(resume=True)
    assert check_start(training, training.output_dir).status == "blocking"
    (training.output_dir / "checkpoints" / "epoch-0003").mkdir(parents=True)
    finding = check_start(training, training.output_dir)
    assert finding.status == "ok"
    assert "epoch-0003" in finding.found


def test_a_run_that_may_resume_needs_no_set(training_parameters):
    """With `training.resume: auto`, a missing checkpoint is not a finding."""
    training = training_parameters(resume="auto")
    assert check_start(training, training.output_dir).status == "ok"


def test_pretrained_weights_must_exist(training_parameters, tmp_path):
    """A missing weights file is a blocking finding, because weights are never downloaded."""
    training = training_parameters(pretrained_model=tmp_path / "ResNet50.pdparams")
    finding = check_start(training, training.output_dir)
    assert finding.status == "blocking"
    assert str(tmp_path / "ResNet50.pdparams") in finding.found
    (tmp_path / "ResNet50.pdparams").touch()
    assert check_start(training, training.output_dir).status == "ok"


def test_pretrained_weights_must_have_their_digest(training_parameters, tmp_path):
    """A file whose digest differs from the specified one is a blocking finding. The digest may omit its prefix."""
    weights = tmp_path / "ResNet18.pdparams"
    weights.write_bytes(b"weights")
    digest = hashlib.sha256(b"weights").hexdigest()
    for given, status in ((digest, "ok"), (f"sha256:{digest}", "ok"), ("0" * 64, "blocking")):
        training = training_parameters(pretrained_model=weights, pretrained_digest=given)
        finding = check_start(training, training.output_dir)
        assert finding.status == status
        assert (digest in finding.found) == (status == "blocking")


def test_random_weights_are_not_frozen(training_parameters, tmp_path):
    """Freezing layers without pretrained weights is a blocking finding."""
    (tmp_path / "ResNet18.pdparams").write_bytes(b"weights")
    arch = {"name": "ResNet18", "freeze": ["stem"]}
    training = training_parameters(arch=arch)
    assert check_start(training, training.output_dir).status == "blocking"
    training = training_parameters(arch=arch, pretrained_model=tmp_path / "ResNet18.pdparams")
    assert check_start(training, training.output_dir).status == "ok"


def test_ema_and_adamw_enlarge_the_set(training_parameters):
    """EMA adds a copy of the network to a set, and AdamW stores one more value per weight than Momentum."""
    plain, averaged, adam = (
        checkpoint_set_bytes(training_parameters(arch={"name": "ResNet50"}, **changes), 1000)
        for changes in ({}, {"ema_decay": 0.9999}, {"optimizer": {"name": "AdamW", "weight_decay": 0.05}})
    )
    assert averaged - plain == (25_557_032 + 53_120) * 4
    assert adam - plain == 25_557_032 * 4


def test_foreign_files_in_the_training_folder_block(training_parameters):
    """A training folder with other files is a blocking finding, because a run never replaces such a folder."""
    training = training_parameters()
    training.output_dir.mkdir()
    assert check_start(training, training.output_dir).status == "ok"
    (training.output_dir / "thesis.tex").touch()
    assert check_start(training, training.output_dir).status == "blocking"


def test_the_error_of_a_missing_dataset_shows_path_layout_and_parameter(tmp_path):
    """The message contains the path, the expected files and the parameter that sets the folder."""
    with pytest.raises(DatasetNotFoundError) as caught:
        require_dataset(tmp_path / "nowhere", DatasetParameters(class_num=10))
    for part in (str(tmp_path / "nowhere"), "/train/", "train_list.txt", "--params dataset.root="):
        assert part in str(caught.value)


def test_a_missing_list_file_is_named(tmp_path):
    """Both the error and the blocking finding identify the missing file."""
    for split in ("train", "val"):
        (tmp_path / split).mkdir()
    (tmp_path / "train_list.txt").touch()
    with pytest.raises(DatasetNotFoundError, match=r"val_list\.txt"):
        require_dataset(tmp_path, DatasetParameters(class_num=10))
    finding = check_dataset(tmp_path, DatasetParameters(class_num=10), makes_sample=False)
    assert finding.status == "blocking"
    assert "val_list.txt" in finding.found


def test_lists_with_and_without_prefix_pass(dataset_parameters, digits):
    """The paths in a list may or may not start with the name of the split."""
    assert check_dataset(dataset_parameters.root, dataset_parameters, makes_sample=False).status == "ok"
    assert check_dataset(digits, DatasetParameters(class_num=10), makes_sample=False).status == "ok"


def test_lists_of_another_dataset_block(digits):
    """Missing images in the first lines of a list are found without reading the rest."""
    (digits / "train_list.txt").write_text("n01440764/n01440764_10026.JPEG 0\nn01440764/b c.JPEG 0\n\n")
    finding = check_dataset(digits, DatasetParameters(class_num=10), makes_sample=False)
    assert finding.status == "blocking"
    assert "train/n01440764/n01440764_10026" in finding.found


def test_an_image_that_a_patch_drops_may_be_missing(digits, tmp_path):
    """A missing image is no problem once a patch has dropped it; a damaged patch blocks."""
    dataset = DatasetParameters(class_num=10, patches=tmp_path / "patches")
    path = f"train/{(digits / 'train_list.txt').read_text().split()[0]}"
    (digits / path).unlink()
    assert check_dataset(digits, dataset, makes_sample=False).status == "blocking"
    content, _ = make_patch(
        list_images(digits, dataset), [Fix(path, "drop")], source="fixes.csv", by="Ada", reason="missing"
    )
    patch = write_patch(tmp_path / "patches", content)
    assert check_dataset(digits, dataset, makes_sample=False).status == "ok"
    patch.write_text("{")
    finding = check_dataset(digits, dataset, makes_sample=False)
    assert (finding.status, str(patch) in finding.found) == ("blocking", True)


def test_the_sample_dataset_may_be_missing(tmp_path):
    """The dataset check is skipped if the run itself creates the dataset."""
    assert check_dataset(tmp_path / "no", DatasetParameters(class_num=10), makes_sample=True).status == "ok"


@pytest.mark.slow
def test_the_network_sizes_are_correct():
    """The table contains every network that the trainer supports, and each size matches the real network."""
    import numpy as np

    from resnet50_pipeline.recipe.run import ArchConfig
    from resnet50_pipeline.trainer.network import RESNET_FAMILY, build_network

    assert set(NETWORK_SIZES) == set(RESNET_FAMILY)
    for name, size in NETWORK_SIZES.items():
        network = build_network(ArchConfig(name=name, class_num=10))
        trained = sum(int(np.prod(one.shape)) for one in network.parameters() if not one.stop_gradient)
        total = sum(int(np.prod(one.shape)) for one in network.state_dict().values())
        assert trained == size.weights + (size.features + 1) * 10, name
        assert total - trained == size.statistics, name


def test_every_optimizer_is_known():
    """The size of a set can be computed for every optimizer that the parameters allow."""
    from typing import get_args

    from resnet50_pipeline.frozen_model import models_of
    from resnet50_pipeline.parameters import TrainingParameters

    optimizers = models_of(TrainingParameters.model_fields["optimizer"].annotation)
    assert {get_args(one.model_fields["name"].annotation)[0] for one in optimizers} == set(OPTIMIZER_VALUES)


def test_check_finds_the_same_weights_as_the_ranks(training_parameters, tmp_path):
    """A name without a suffix refers to the .pdparams file. A folder that is not a checkpoint set has no weights."""
    (tmp_path / "weights.pdparams").touch()
    training = training_parameters(pretrained_model=tmp_path / "weights")
    assert check_start(training, training.output_dir).status == "ok"
    (tmp_path / "folder").mkdir()
    training = training_parameters(pretrained_model=tmp_path / "folder")
    assert check_start(training, training.output_dir).status == "blocking"


def test_mirror_must_be_writable_and_unused(training_parameters, tmp_path: Path):
    """A run from scratch needs an empty mirror; a resumed run may start from it. Nothing is left in the mirror."""
    folder = tmp_path / "mirror"
    training = training_parameters(checkpoint_mirror=f"file://{folder}")
    assert not list(check_mirror(training_parameters(), training.output_dir))
    (empty,) = check_mirror(training, training.output_dir)
    assert (empty.status, empty.found) == ("ok", "writable, no sets")
    assert not list(folder.iterdir())
    (folder / "epoch-0004").mkdir()
    (folder / "epoch-0004" / "UPLOADED.json").write_text("{}")
    (used,) = check_mirror(training, training.output_dir)
    assert used.status == "blocking"
    assert "earlier run (newest: epoch-0004)" in used.found
    resumed = training.model_copy(update={"resume": True})
    (newest,) = check_mirror(resumed, training.output_dir)
    assert (newest.status, newest.found) == ("ok", "writable, newest set epoch-0004")
    assert check_start(resumed, training.output_dir).found == f"resumes from epoch-0004 in file://{folder}"
    (wrong,) = check_mirror(training_parameters(checkpoint_mirror="file:///proc/mirror"), training.output_dir)
    assert wrong.status == "blocking"
