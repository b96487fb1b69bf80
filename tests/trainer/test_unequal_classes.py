"""Class weights and class-balanced epochs match their definitions."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import paddle
import pytest
from pydantic import ValidationError

from placed import PlacedDataset, render_training_config
from resnet50_pipeline.exceptions import TrainingConfigError
from resnet50_pipeline.paddleclas.upstream.config import to_upstream_config
from resnet50_pipeline.recipe.losses import CELossConfig, LossItem
from resnet50_pipeline.trainer.data.batches import Mixed
from resnet50_pipeline.trainer.data.dataset import ListDataset
from resnet50_pipeline.trainer.data.sampling import Key, TrainBatches, balanced_order
from resnet50_pipeline.trainer.optimization.class_weights import compute_class_weights
from resnet50_pipeline.trainer.optimization.losses import build_loss
from resnet50_pipeline.trainer.share import Share

IMAGES = np.array([100, 20, 0, 4])
LABELS = np.repeat([0, 1, 3], [11, 5, 2])


@pytest.fixture
def config(dataset_parameters: PlacedDataset, training_parameters):
    """Return a function that renders the YAML file for the striped dataset. Keywords override parameters."""
    return lambda **changes: render_training_config(training_parameters(**changes), dataset_parameters)


def weights(**options: object) -> np.ndarray:
    found = compute_class_weights(CELossConfig(**options), IMAGES)
    assert found is not None
    return found


def test_balanced_weights_are_inversely_proportional_to_class_sizes():
    """All classes have the same total weight, the mean over the images is 1, and an empty class has weight 0."""
    found = weights(class_weights="balanced")
    assert found.dtype == np.float32
    np.testing.assert_allclose(found * IMAGES, [124 / 3, 124 / 3, 0, 124 / 3], rtol=1e-6)


@pytest.mark.parametrize("beta", [0.9, 0.999, 0.999999])
def test_effective_number_weights_follow_the_paper(beta: float):
    """The weights are proportional to (1 - β) / (1 - β^n), and their mean over the images is 1."""
    found = weights(class_weights="effective-number", class_weights_beta=beta)
    present = IMAGES > 0
    formula = (1 - beta) / (1 - beta ** IMAGES[present].astype(np.float64))
    np.testing.assert_allclose(found[present] / found[0], formula / formula[0], rtol=1e-5)
    assert (found * IMAGES).sum() / IMAGES.sum() == pytest.approx(1)
    assert found[2] == 0


def test_beta_interpolates_between_no_weights_and_balanced():
    """With β = 0, all weights are 1. For β near 1, they match `balanced`."""
    np.testing.assert_allclose(weights(class_weights="effective-number", class_weights_beta=0)[[0, 1, 3]], 1)
    near = weights(class_weights="effective-number", class_weights_beta=1 - 1e-12)
    np.testing.assert_allclose(near, weights(class_weights="balanced"), rtol=1e-6)


def test_explicit_weights_are_used_as_given():
    """A list is used unchanged, None means no weights, and a list of the wrong length is rejected."""
    np.testing.assert_array_equal(weights(class_weights=[1, 2, 3, 4]), [1, 2, 3, 4])
    assert compute_class_weights(CELossConfig(), IMAGES) is None
    with pytest.raises(TrainingConfigError, match=r"2 weights for 4 classes"):
        weights(class_weights=[1, 2])


@pytest.mark.parametrize("epsilon", [None, 0.1])
@pytest.mark.parametrize("mixed", [False, True])
def test_weighted_loss_matches_numpy(epsilon: float | None, mixed: bool):
    """The loss is the mean of weight · cross-entropy. Each label of a mixed image uses the weight of its class."""
    random = np.random.default_rng(0)
    logits, share = random.normal(size=(6, 4)).astype(np.float32), random.random(6).astype(np.float32)
    labels, others = random.integers(0, 4, 6), random.integers(0, 4, 6)
    weight = np.array([0.5, 1, 2, 4], dtype=np.float32)
    log_p = logits - np.log(np.exp(logits.astype(np.float64)).sum(axis=1, keepdims=True))

    def costs(of: np.ndarray) -> np.ndarray:
        target = (1 - (epsilon or 0)) * np.eye(4)[of] + (epsilon or 0) / 4
        return -weight[of] * (target * log_p).sum(axis=1)

    expected = share * costs(labels) + (1 - share) * costs(others) if mixed else costs(labels)
    second = Mixed(labels=paddle.to_tensor(others), share=paddle.to_tensor(share)) if mixed else None
    loss = build_loss((LossItem(CELoss=CELossConfig(epsilon=epsilon)),), 4, weight)
    found = loss(paddle.to_tensor(logits), paddle.to_tensor(labels), second)
    assert float(found) == pytest.approx(expected.mean(), rel=1e-6)


def test_balanced_epoch_has_the_same_number_of_images_per_class():
    """An epoch has exactly the given number of images per class. Each repetition of a row has a different index."""
    for epoch in (1, 2, 9):
        rows, copies = balanced_order(LABELS, 4, seed=3, epoch=epoch)
        assert Counter(LABELS[rows]) == {0: 4, 1: 4, 3: 4}
        assert len(set(zip(rows.tolist(), copies.tolist(), strict=True))) == 12
        assert copies.max() == 1  # the class with 2 images


def test_balanced_epochs_use_all_images_equally():
    """Over 11 epochs of 4 images per class, each image in a class of 11 is used 4 times. Epochs are reproducible."""
    epochs = [balanced_order(LABELS, 4, seed=3, epoch=epoch)[0] for epoch in range(1, 12)]
    used = Counter(np.concatenate(epochs).tolist())
    assert {used[row] for row in range(11)} == {4}
    assert {used[row] for row in (16, 17)} == {22}
    assert epochs[0].tolist() != epochs[1].tolist()
    assert balanced_order(LABELS, 4, seed=3, epoch=2)[0].tolist() == epochs[1].tolist()
    assert balanced_order(LABELS, 4, seed=4, epoch=2)[0].tolist() != epochs[1].tolist()


@pytest.mark.parametrize("ranks", [1, 2, 5])
def test_ranks_share_a_balanced_epoch(ranks: int, config):
    """Together, the ranks have all images of the epoch. A run that starts mid-epoch has the same remaining batches."""
    split = config(loader={"num_workers": 0, "images_per_class": 20}).DataLoader.Train
    shares = [Share(ranks, range(rank, rank + 1)) for rank in range(ranks)]
    batches = [TrainBatches(len(LABELS), split, share, 3, LABELS) for share in shares]
    for one in batches:
        one.epoch = 2
    keys = [key for one in batches for batch in one for key in batch]
    rows, copies = balanced_order(LABELS, 20, seed=3, epoch=2)
    assert Counter(keys) == Counter(Key(2, row, copy) for row, copy in zip(rows.tolist(), copies.tolist(), strict=True))
    whole = list(batches[0])
    batches[0].start_step = 1
    assert list(batches[0]) == whole[1:]


def test_many_repetitions_are_augmented_differently(config, dataset_parameters: PlacedDataset):
    """Each repetition of an image has different random numbers, for any number of repetitions and an odd seed."""
    from resnet50_pipeline.imagenet.lists.files import read_list_file

    split = config().DataLoader.Train
    dataset = ListDataset(read_list_file(Path(split.dataset.cls_label_path), 3), split, seed=7)
    assert len({dataset.draw(Key(1, 0, copy)).random() for copy in range(1000)}) == 1000


def test_configuration_without_weights_is_unchanged(config):
    """The keys are absent from the YAML unless they are set."""
    text = config().to_yaml()
    assert "class_weights" not in text
    assert "images_per_class" not in text
    weighted = config(loss={"class_weights": "effective-number"}, loader={"images_per_class": None}).model_dump()
    assert weighted["Loss"]["Train"][0]["CELoss"] == {
        "weight": 1.0,
        "epsilon": None,
        "class_weights": "effective-number",
        "class_weights_beta": 0.999,
    }


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"loss": {"class_weights": "balanced"}}, "class_weights"),
        ({"loader": {"num_workers": 0, "images_per_class": 5}}, "images_per_class"),
    ],
)
def test_paddleclas_engine_rejects_unsupported_keys(changes: dict, key: str, config):
    """PaddleClas' engine has neither class weights nor balanced sampling, and the error names the key."""
    with pytest.raises(TrainingConfigError, match=rf"{key} is .*only the native engine"):
        to_upstream_config(config(**changes), ranks=1)


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({"loss": {"class_weights": "balanced"}, "loader": {"images_per_class": 5}}, "balanced.*5"),
        ({"loader": {"images_per_class": 5, "num_repeats": 3}}, "num_repeats is 3.*5"),
        ({"loss": {"name": "MultiLabelLoss", "class_weights": "balanced"}}, "class_weights"),
        ({"loss": {"class_weights": [1, 0, 1]}}, "greater than 0"),
        ({"loss": {"class_weights": "rare"}}, "balanced"),
    ],
)
def test_contradictory_options_are_rejected(changes: dict, found: str, training_parameters):
    """Options that would compensate for class sizes twice are rejected, and so are invalid values."""
    with pytest.raises(ValidationError, match=found):
        training_parameters(**changes)


def test_wrong_number_of_weights_is_rejected_before_ranks_start(config):
    """The error states the number of weights and the number of classes."""
    with pytest.raises(TrainingConfigError, match=r"2 weights.*3 classes"):
        config(loss={"class_weights": [1, 2]})
