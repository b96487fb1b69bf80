"""The figures from `reporting.plots` and `reporting.curves` show the values in their tables."""

from __future__ import annotations

import warnings

import cv2
import numpy as np
import pandas as pd
import pytest
from evaluation_tables import make_evaluation, make_history
from matplotlib.colors import to_rgb

from resnet50_pipeline import figures
from resnet50_pipeline.exceptions import EvaluationTableError
from resnet50_pipeline.figures import (
    DARK,
    LIGHT,
    blend,
    format_count,
    format_percent,
    new_figure,
    save_png,
    shorten,
    text_color_on,
)
from resnet50_pipeline.reporting.curves import draw_training_curves
from resnet50_pipeline.reporting.metrics import confused_pairs, confusion_matrix, per_class_table
from resnet50_pipeline.reporting.plots import (
    draw_class_accuracy,
    draw_confused_pairs,
    draw_confusion_matrix,
    write_plots,
)

SIZES = {
    10: {
        "training_curves": (1650, 1140),
        "confusion": (960, 1005),
        "class_accuracy": (1650, 734),
        "reliability": (1140, 1080),
    },
    1000: {
        "training_curves": (1650, 1140),
        "confusion": (1650, 765),
        "class_accuracy": (1650, 720),
        "reliability": (1140, 1080),
    },
}


def _write(directory, evaluation):
    return write_plots(
        directory,
        predictions=evaluation.predictions,
        per_class=per_class_table(evaluation.predictions, evaluation.label_map),
        label_map=evaluation.label_map,
        training_history=evaluation.training_history,
        worst_pairs=10,
    )


def _pixels(path) -> np.ndarray:
    pixels = cv2.imread(str(path), cv2.IMREAD_COLOR)
    assert pixels is not None, f"{path} is not an image"
    return pixels[:, :, ::-1]


def _count(pixels: np.ndarray, color: str) -> int:
    wanted = np.array([round(255 * value) for value in to_rgb(color)])
    return int((np.abs(pixels.astype(int) - wanted) <= 2).all(axis=2).sum())


@pytest.mark.parametrize("class_num", [10, 1000])
def test_figures_are_png_files_of_the_expected_size(tmp_path, class_num):
    """`write_plots` writes four PNG files for each theme, with the colors of the theme."""
    paths = _write(tmp_path, make_evaluation(class_num, images_per_class=4, skill=2))

    tables = [path for path in paths if path.suffix == ".csv"]
    paths = [path for path in paths if path.suffix == ".png"]
    expected_tables = ["classes", "reliability", "train", "validation"] + (["confusion"] if class_num == 10 else [])
    assert [path.name for path in tables] == [f"{name}.csv" for name in expected_tables]
    assert [path.relative_to(tmp_path).as_posix() for path in paths] == [
        *(f"{name}.png" for name in SIZES[class_num]),
        *(f"dark/{name}.png" for name in SIZES[class_num]),
    ]
    for path in paths:
        theme = DARK if path.parent.name == "dark" else LIGHT
        pixels = _pixels(path)
        assert path.read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
        # Matplotlib versions round a height to different numbers of pixels.
        assert np.abs(np.subtract((pixels.shape[1], pixels.shape[0]), SIZES[class_num][path.stem])).max() <= 1
        assert _count(pixels, theme.background) > 0.3 * pixels[:, :, 0].size
        # The figure of confused pairs does not use `main`, because all its bars are mistakes.
        assert max(_count(pixels, theme.main), _count(pixels, theme.contrast)) > 500
        assert len(np.unique(pixels @ np.array([1 << 16, 1 << 8, 1]))) > 50


def test_equal_tables_give_equal_bytes(tmp_path):
    """Figures contain no dates or versions, so a second run does not change any file."""
    evaluation = make_evaluation(class_num=4, images_per_class=5)

    first, second = (_write(tmp_path / name, evaluation) for name in ("first", "second"))

    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]


def test_the_confusion_matrix_shows_all_counts_above_zero():
    """Each nonempty cell shows its number of images, and both axes show the class names."""
    evaluation = make_evaluation(class_num=5, images_per_class=20, skill=1)
    confusion = confusion_matrix(evaluation.predictions, 5)

    (axes,) = draw_confusion_matrix(confusion, ["a", "b", "c", "d", "e"]).axes

    written = {(text.get_position()[1], text.get_position()[0]): text.get_text() for text in axes.texts}
    assert written == {(row, column): str(confusion[row, column]) for row, column in np.argwhere(confusion)}
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["a", "b", "c", "d", "e"]
    assert axes.get_ylim()[0] > axes.get_ylim()[1], "the first class must be at the top"


def test_hits_and_mistakes_have_different_colors(tmp_path):
    """A matrix without mistakes uses only the main color, and a matrix without hits uses only the contrast color."""
    hits = 20 * np.eye(2, dtype=np.int64)
    for name, confusion in (("hits", hits), ("mistakes", hits[::-1])):
        save_png(draw_confusion_matrix(confusion, ["a", "b"]), tmp_path / f"{name}.png")

    perfect, hopeless = _pixels(tmp_path / "hits.png"), _pixels(tmp_path / "mistakes.png")

    assert _count(perfect, LIGHT.main) > 100_000
    assert _count(perfect, LIGHT.contrast) == 0
    assert _count(hopeless, LIGHT.contrast) > 100_000
    assert _count(hopeless, LIGHT.main) == 0


def test_bars_of_pairs_are_in_table_order_with_numbers():
    """The most frequent pair is at the top, and each bar is labeled with its number and share of images."""
    evaluation = make_evaluation(class_num=40, images_per_class=10, skill=2)
    pairs = confused_pairs(evaluation.predictions, evaluation.label_map, 6)

    (axes,) = draw_confused_pairs(pairs).axes

    assert [bar.get_width() for bar in axes.patches] == pairs["images"].tolist()
    assert axes.get_ylim()[0] > axes.get_ylim()[1]
    first = pairs.iloc[0]
    assert axes.get_yticklabels()[0].get_text() == f"{first.true_name} → {first.predicted_name}"
    assert axes.texts[0].get_text() == f"{first.images}  ({format_percent(first.share, 0)})"


def test_a_figure_without_mistakes_is_a_sentence(tmp_path):
    """If there are no confused pairs, the figure shows a sentence instead of empty axes."""
    pairs = pd.DataFrame(columns=["true_name", "predicted_name", "images", "share"])

    figure = draw_confused_pairs(pairs)

    save_png(figure, tmp_path / "none.png")
    assert len(figure.axes[0].texts) == 1
    assert not figure.axes[0].patches


def test_few_classes_are_bars_sorted_by_accuracy():
    """Up to 30 classes are drawn as one bar each, with the lowest accuracy at the top."""
    evaluation = make_evaluation(class_num=12, images_per_class=10, skill=2)
    classes = per_class_table(evaluation.predictions, evaluation.label_map)

    (axes,) = draw_class_accuracy(classes).axes

    widths = [bar.get_width() for bar in axes.patches]
    assert widths == sorted(classes["top1"])


@pytest.mark.parametrize("images_per_class", [5, 50, 73, 300])
def test_the_histogram_counts_each_class_once(images_per_class):
    """For any number of images, the bars add up to the number of classes; a value on an edge is in the bin above."""
    images = np.full(40, images_per_class)
    correct = np.linspace(0, images_per_class, 40).astype(int)
    classes = pd.DataFrame({"id": range(40), "images": images, "correct": correct, "top1": correct / images})

    (axes,) = draw_class_accuracy(classes).axes

    bins = len(axes.patches)
    expected = np.minimum(correct * bins // images_per_class, bins - 1)
    assert [bar.get_height() for bar in axes.patches] == np.bincount(expected, minlength=bins).tolist()


def test_classes_without_images_are_counted_in_the_subtitle():
    """Classes without images are not drawn, and the subtitle says how many there are."""
    classes = pd.DataFrame(
        {
            "id": [0, 1],
            "synset": ["a", "b"],
            "name": ["a", "b"],
            "images": [4, 0],
            "correct": [3, 0],
            "top1": [0.75, np.nan],
        }
    )

    figure = draw_class_accuracy(classes)

    assert len(figure.axes[0].patches) == 1
    assert any("1 of 2 classes" in text.get_text() for text in figure.texts)


def test_names_with_math_and_long_names_are_plain_text(tmp_path):
    """A class name that looks like a formula is not parsed, and a long name does not enlarge the figure."""
    names = ["$\\frac{1}{$", "x" * 300, "a & b", "100 %"]

    save_png(draw_confusion_matrix(np.eye(4, dtype=np.int64), names), tmp_path / "confusion.png")

    assert _pixels(tmp_path / "confusion.png").shape == (1005, 960, 3)


def test_characters_without_a_font_are_named_once(tmp_path, caplog, monkeypatch):
    """Characters that no font can show appear as boxes, and a single message names them."""
    monkeypatch.setattr(figures, "_named_characters", set())
    for name in ("one.png", "two.png"):
        figure = new_figure(3, 2, LIGHT, title="\U0001f9ff 日")
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            save_png(figure, tmp_path / name)
    assert (tmp_path / "two.png").stat().st_size > 0
    assert [record.getMessage().count("\U0001f9ff") for record in caplog.records] == [1]


def test_curves_show_each_event_at_its_step():
    """The losses of steps, epochs and evaluations are drawn as three lines with the values in the table."""
    history = make_history(epochs=3, steps_per_epoch=20)

    loss = draw_training_curves(history).axes[0]

    for line, event in zip(loss.lines, ("train_step", "epoch_end", "eval_end"), strict=True):
        rows = history[history["event"] == event]
        np.testing.assert_array_equal(line.get_xdata(), rows["step"])
        np.testing.assert_array_equal(line.get_ydata(), rows["loss"])


def test_resumes_are_marked():
    """Each panel has a dashed line where training resumed, and a subtitle gives the number of resumes."""
    history = pd.concat([make_history(3, 10), pd.DataFrame([{"event": "resumed", "step": 10, "epoch": 2}])])
    figure = draw_training_curves(history)
    for axes in figure.axes:
        assert [
            line.get_xdata()[0]
            for line in axes.lines
            if len(set(line.get_xdata())) == 1 and line.get_linestyle() == "--"
        ] == [10]
    assert any("resumed 1 time" in text.get_text() for text in figure.axes[3].texts)


def test_a_ring_marks_the_best_evaluation():
    """The ring marks the best epoch instead of the last one, and the subtitle gives the number of the epoch."""
    history = make_history(epochs=4, steps_per_epoch=10)
    evaluations = history["event"] == "eval_end"
    history.loc[evaluations, "top1"] = [0.2, 0.7, 0.6, 0.65]

    axes = draw_training_curves(history).axes[1]

    ring = next(line for line in axes.lines if line.get_fillstyle() == "none")
    assert (ring.get_xdata()[0], ring.get_ydata()[0]) == (20, 0.7)
    assert any("epoch 2" in text.get_text() for text in axes.texts)


@pytest.mark.parametrize("events", [["train_step"], ["epoch_end"], ["eval_end"], ["train_step", "eval_end"]])
def test_curves_need_only_one_kind_of_event(tmp_path, events):
    """If a run is shorter than the print interval or was not evaluated, the curves show the remaining events."""
    history = make_history(epochs=1, steps_per_epoch=5)

    save_png(draw_training_curves(history[history["event"].isin(events)]), tmp_path / "curves.png")

    assert _count(_pixels(tmp_path / "curves.png"), LIGHT.background) > 0


@pytest.mark.parametrize(("decay", "scale"), [(True, "log"), (False, "linear")])
def test_a_piecewise_learning_rate_has_a_logarithmic_axis(decay, scale):
    """A piecewise learning rate is drawn on a logarithmic axis, because a linear axis would hide its last steps."""
    history = make_history(epochs=4, steps_per_epoch=20)
    if decay:
        history["learning_rate"] = history["learning_rate"].where(
            history["learning_rate"].isna(), 0.1 * 0.1 ** (history["epoch"] - 1)
        )

    assert draw_training_curves(history).axes[2].get_yscale() == scale


def test_a_history_without_columns_or_events_is_rejected():
    """The error message identifies the missing column or gives the number of rows without a known event."""
    history = make_history(epochs=1, steps_per_epoch=5)

    with pytest.raises(EvaluationTableError, match=r"learning_rate"):
        draw_training_curves(history.drop(columns="learning_rate"))
    with pytest.raises(EvaluationTableError, match=r"\b0 rows"):
        draw_training_curves(history.head(0))


def test_labels_of_lines_with_equal_ends_do_not_overlap():
    """If the train and validation lines end at the same value, their labels are moved apart."""
    history = make_history(epochs=2, steps_per_epoch=10)
    history.loc[history["event"] != "train_step", "loss"] = 0.5
    figure = draw_training_curves(history)
    figure.canvas.draw()

    labels = [text for text in figure.axes[0].texts if text.get_text().startswith(("train\n", "validation\n"))]
    boxes = [label.get_window_extent() for label in labels]

    assert len(boxes) == 2
    assert not boxes[0].overlaps(boxes[1])


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (59.62, "59.6"), (900, "900"), (1000, "1,000"), (4545, "4,545"), (25_000, "25k"), (1_281_167, "1.28M")],
)
def test_counts_are_short(value, text):
    """Counts are shown with at most four significant digits."""
    assert format_count(value) == text


def test_text_formats_and_colors():
    """Percentages have a non-breaking space, cut names end in an ellipsis, and text contrasts with its background."""
    assert format_percent(0.12345, 2) == "12.35%"
    assert shorten("tench, Tinca tinca", 7) == "tench…"
    assert shorten("tench", 5) == "tench"
    assert blend("#ffffff", "#000000", 0.25) == (0.25, 0.25, 0.25)
    assert text_color_on((0.0, 0.0, 0.2)) == "#ffffff"
    assert text_color_on((1.0, 0.9, 0.8)) != "#ffffff"
