"""The thumbnails from `reporting.thumbnails` are small, faithful and fairly chosen."""

from __future__ import annotations

import base64

import cv2
import numpy as np
from evaluation_tables import predictions_from_scores

from resnet50_pipeline.reporting.prediction_table import read_prediction_table
from resnet50_pipeline.reporting.thumbnails import THUMBNAIL_SIDE, choose_images, make_thumbnails


def _thumbnail(root, pixels, name="image.JPEG"):
    """Write an image, and return the pixels of its thumbnail."""
    cv2.imwrite(str(root / name), pixels)
    encoded = make_thumbnails({0: root / name}).images[0]
    return cv2.imdecode(np.frombuffer(base64.b64decode(encoded), np.uint8), cv2.IMREAD_COLOR)


def _smooth(height, width):
    ramp = np.linspace(0, 255, height * width).reshape(height, width)
    return np.stack([ramp, ramp[::-1], np.full_like(ramp, 90)], axis=2).astype(np.uint8)


def _table(confidence, labels, predicted, class_num=4):
    scores = np.zeros((len(labels), class_num))
    scores[np.arange(len(labels)), predicted] = confidence
    paths = [f"{row}.JPEG" for row in range(len(labels))]
    return read_prediction_table(predictions_from_scores(paths, np.array(labels), scores))


def test_a_photo_becomes_a_small_file_with_the_same_shape(tmp_path):
    """The longest side is 144 pixels, and the aspect ratio and colors are preserved."""
    thumbnail = _thumbnail(tmp_path, _smooth(300, 500))

    assert thumbnail.shape == (round(300 * THUMBNAIL_SIDE / 500), THUMBNAIL_SIDE, 3)
    expected = cv2.resize(_smooth(300, 500), thumbnail.shape[1::-1], interpolation=cv2.INTER_AREA)
    assert np.abs(thumbnail.astype(int) - expected).mean() < 5


def test_a_tiny_image_keeps_all_pixels(tmp_path):
    """An image of 28 x 28 pixels is neither resized nor lossily compressed."""
    pixels = np.random.default_rng(0).integers(0, 256, (28, 28, 3), dtype=np.uint8)

    np.testing.assert_array_equal(_thumbnail(tmp_path, pixels, name="digit.png"), pixels)


def test_a_very_long_image_keeps_its_shape(tmp_path):
    """The thumbnail of the longest image that is decoded, 500 x 5 pixels, is one or two pixels high."""
    assert _thumbnail(tmp_path, _smooth(5, 500)).shape in [(height, THUMBNAIL_SIDE, 3) for height in (1, 2)]


def test_unreadable_images_become_messages(tmp_path, caplog):
    """Missing and damaged images get an error message instead of a thumbnail. One log line counts them."""
    (tmp_path / "damaged.JPEG").write_bytes(b"<html>")
    cv2.imwrite(str(tmp_path / "good.JPEG"), _smooth(20, 20))
    names = ("missing.JPEG", "damaged.JPEG", "good.JPEG")

    made = make_thumbnails({row: tmp_path / name for row, name in enumerate(names)})

    assert list(made.images) == [2]
    assert made.problems[0].startswith("FileNotFoundError")
    assert made.problems[1].startswith("ImageDecodeError")
    assert ["2 images" in record.getMessage() for record in caplog.records] == [True]


def test_thumbnails_stop_when_the_page_is_full(tmp_path):
    """The thumbnails together are never longer than the limit, and the first images come first."""
    paths = {row: tmp_path / f"{row}.JPEG" for row in range(8)}
    for path in paths.values():
        cv2.imwrite(str(path), _smooth(200, 200))
    length = len(make_thumbnails({0: paths[0]}).images[0])

    made = make_thumbnails(paths, max_characters=3 * length + 1)

    assert list(made.images) == [0, 1, 2]


def test_each_class_is_represented_before_a_second_image_of_a_class():
    """The most confident mistake of each class comes first, then the second most confident, and so on."""
    labels, predicted = [0, 0, 0, 1, 2, 2], [1, 1, 1, 0, 0, 0]
    table = _table([9, 8, 7, 2, 5, 4], labels, predicted)

    assert choose_images(table, 6) == [0, 4, 3, 1, 5, 2]


def test_correct_predictions_get_a_fifth_of_the_places():
    """If there are too few places, four fifths show wrong predictions and a fifth uncertain correct ones."""
    labels = [0] * 10 + [1] * 10
    predicted = [2] * 10 + [1] * 10
    table = _table(list(range(20, 0, -1)), labels, predicted)

    assert choose_images(table, 5) == [0, 1, 2, 3, 19]
    assert len(choose_images(table, 15)) == 15
    assert sorted(choose_images(table, 100)) == list(range(20))
