"""Room for checkpoint sets, somebody else's claim, a set to resume from, and the data set."""

from __future__ import annotations

import os

import pytest

from resnet50_pipeline.exceptions import DatasetNotFoundError, ParameterError
from resnet50_pipeline.paddleclas.output_dir import claim_output_dir
from resnet50_pipeline.parameters import DatasetParameters
from resnet50_pipeline.preflight.checkpoints import (
    NETWORK_SIZES,
    OPTIMIZER_VALUES,
    check_claims,
    check_disk,
    check_start,
    checkpoint_set_bytes,
)
from resnet50_pipeline.preflight.dataset import check_dataset, require_dataset


def test_a_resnet50_set_takes_195_mib(training_parameters):
    """25.6 million weights and their velocities, and 53,120 running statistics, four bytes each."""
    training = training_parameters(arch={"name": "ResNet50"})
    assert checkpoint_set_bytes(training, 1000) == (2 * 25_557_032 + 53_120) * 4


def test_a_disk_without_room_for_all_sets_is_refused(training_parameters, make_disk):
    """(keep_checkpoints + 2) sets of ResNet18 with 10 classes do not fit into 100 MiB, and nothing is written there."""
    disk = make_disk(100)
    training = training_parameters(disk / "training", keep_checkpoints=1)
    finding = check_disk(training, 10, disk / "training")
    assert finding.status == "blocking"
    assert finding.found == "100 MiB free"
    assert finding.needed == "299 MiB ((keep_checkpoints + 2) x 85 MiB, 43 MiB more for best.pdparams)"
    assert str(disk) in finding.remedy
    assert list(disk.iterdir()) == []


def test_a_resumed_run_has_its_sets_already(training_parameters, make_disk):
    """Sets that are there are replaced one by one: room for the next is enough."""
    training = training_parameters(make_disk(100) / "training", keep_checkpoints=1, resume=True)
    for epoch in range(1, 4):
        (training.output_dir / "checkpoints" / f"epoch-000{epoch}").mkdir(parents=True)
    (training.output_dir / "best.pdparams").touch()
    assert check_disk(training, 10, training.output_dir).status == "ok"


def test_an_unknown_network_is_refused_with_the_known_ones(training_parameters, tmp_path):
    """A mistyped name is found here, and not by the ranks."""
    finding = check_disk(training_parameters(arch={"name": "ResNet51"}), 10, tmp_path)
    assert finding.status == "blocking"
    assert "ResNet50, " in finding.remedy


def test_a_run_that_works_there_is_named(tmp_path):
    """The claim of a living process is found without touching it; after it there is nothing to find."""
    folder = tmp_path / "workspace"
    with claim_output_dir(folder):
        (finding,) = check_claims(folder)
        assert finding.status == "blocking"
        assert finding.found == f"process {os.getpid()} is at work in {folder}"
    assert list(check_claims(folder, tmp_path / "never")) == []
    assert not (tmp_path / ".never.lock").exists()


def test_resume_needs_a_checkpoint_set(training_parameters):
    """Without one it is refused; with one the finding names it."""
    training = training_parameters(resume=True)
    assert check_start(training, training.output_dir).status == "blocking"
    (training.output_dir / "checkpoints" / "epoch-0003").mkdir(parents=True)
    finding = check_start(training, training.output_dir)
    assert (finding.status, finding.found) == ("ok", "resumes from epoch-0003")


def test_a_run_that_may_resume_needs_no_set(training_parameters):
    """`auto` starts anew where nothing is left to go on from."""
    training = training_parameters(resume="auto")
    assert check_start(training, training.output_dir).found == "anew"


def test_weights_to_start_from_must_be_there(training_parameters, tmp_path):
    """Nothing is downloaded, so a file that is missing is found before the data is read."""
    training = training_parameters(pretrained_model=tmp_path / "ResNet50.pdparams")
    finding = check_start(training, training.output_dir)
    assert (finding.status, finding.found) == ("blocking", f"{tmp_path / 'ResNet50.pdparams'} is not there")
    (tmp_path / "ResNet50.pdparams").touch()
    assert check_start(training, training.output_dir).status == "ok"


def test_averaged_weights_are_in_the_set_too(training_parameters):
    """EMA adds the network once more, AdamW one more value of each weight than Momentum."""
    plain, averaged, adam = (
        checkpoint_set_bytes(training_parameters(arch={"name": "ResNet50"}, **changes), 1000)
        for changes in ({}, {"ema_decay": 0.9999}, {"optimizer": {"name": "AdamW", "weight_decay": 0.05}})
    )
    assert averaged - plain == (25_557_032 + 53_120) * 4
    assert adam - plain == 25_557_032 * 4


def test_files_that_are_no_training_are_not_replaced(training_parameters):
    """An output folder that holds something else is refused, as training itself would."""
    training = training_parameters()
    training.output_dir.mkdir()
    assert check_start(training, training.output_dir).status == "ok"
    (training.output_dir / "thesis.tex").touch()
    assert check_start(training, training.output_dir).status == "blocking"


def test_a_dataset_that_is_not_there_is_named_with_the_layout_and_the_setting(tmp_path):
    """The message says what was looked for, how it should look, and which parameter points to it."""
    with pytest.raises(DatasetNotFoundError) as caught:
        require_dataset({"dataset": {"root": str(tmp_path / "nowhere"), "class_num": 10}})
    for part in (str(tmp_path / "nowhere"), "/train/", "train_list.txt", "--params dataset.root="):
        assert part in str(caught.value)


def test_a_missing_part_is_named(tmp_path):
    """A folder without its list file is an error that names the file, and a blocking finding of one line."""
    for split in ("train", "val"):
        (tmp_path / split).mkdir()
    (tmp_path / "train_list.txt").touch()
    with pytest.raises(DatasetNotFoundError, match=r"val_list\.txt is missing"):
        require_dataset({"dataset": {"root": str(tmp_path), "class_num": 10}})
    finding = check_dataset(DatasetParameters(root=tmp_path, class_num=10), makes_sample=False)
    assert finding.status == "blocking"
    assert finding.found.endswith("val_list.txt is missing")


def test_a_dataset_group_that_breaks_its_rules_is_a_parameter_error():
    """What Kedro has not checked yet is checked here, and named by its field."""
    with pytest.raises(ParameterError, match=r"(?s)dataset: .*class_num"):
        require_dataset({"dataset": {"root": "/data"}})


def test_a_good_data_set_is_fine_whether_its_lists_are_prefixed_or_not(dataset_parameters, digits):
    """Both kinds of lists name images that are there."""
    assert check_dataset(dataset_parameters, makes_sample=False).status == "ok"
    assert check_dataset(DatasetParameters(root=digits, class_num=10), makes_sample=False).status == "ok"


def test_lists_of_another_data_set_are_refused(digits):
    """A list whose first images are not in the folder is found without reading the rest."""
    (digits / "train_list.txt").write_text("n01440764/n01440764_10026.JPEG 0\nn01440764/b c.JPEG 0\n\n")
    finding = check_dataset(DatasetParameters(root=digits, class_num=10), makes_sample=False)
    assert finding.status == "blocking"
    assert finding.found.startswith(
        "2 of the first images of the lists are not there, as train/n01440764/n01440764_10026"
    )


def test_the_sample_needs_not_be_there(tmp_path):
    """A run that writes its data set first does not ask for it."""
    assert check_dataset(DatasetParameters(root=tmp_path / "no", class_num=10), makes_sample=True).status == "ok"


@pytest.mark.slow
def test_the_sizes_are_those_of_the_networks():
    """Every network of the trainer has its size here, counted in the network itself."""
    import numpy as np

    from resnet50_pipeline.trainer.network import RESNET_FAMILY, build_network
    from resnet50_pipeline.training_config import ArchConfig

    assert set(NETWORK_SIZES) == set(RESNET_FAMILY)
    for name, size in NETWORK_SIZES.items():
        network = build_network(ArchConfig(name=name, class_num=10))
        trained = sum(int(np.prod(one.shape)) for one in network.parameters() if not one.stop_gradient)
        total = sum(int(np.prod(one.shape)) for one in network.state_dict().values())
        assert trained == size.weights + (size.features + 1) * 10, name
        assert total - trained == size.statistics, name


def test_every_optimizer_has_its_values():
    """An optimizer that the parameters allow is known here."""
    from typing import get_args

    from resnet50_pipeline.parameters import OptimizerParameters

    names = get_args(OptimizerParameters.model_fields["name"].annotation)
    assert set(names) <= set(OPTIMIZER_VALUES)
