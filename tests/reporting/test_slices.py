"""`reporting.data_quality.slices` finds groups of images on which the model is less accurate."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from evaluation_tables import make_evaluation
from report_pages import Page, render_page
from scipy.stats import fisher_exact

from resnet50_pipeline.exceptions import EvaluationTableError
from resnet50_pipeline.reporting.data_quality.slices import (
    SLICE_COLUMNS,
    compute_slices,
    read_image_attributes,
    read_user_attributes,
)
from resnet50_pipeline.reporting.prediction_table import PredictionTable


def make_table(is_correct: list[bool]) -> PredictionTable:
    """Return predictions for two classes, with the given images classified correctly."""
    images, hits = len(is_correct), np.array(is_correct)
    top = np.stack([np.where(hits, 0, 1), np.where(hits, 1, 0)], axis=1)
    paths = np.array([f"val/{row}.png" for row in range(images)], dtype=object)
    return PredictionTable(paths, np.zeros(images, np.int64), top, np.full((images, 2), 0.5), np.ones(images))


def attributes_of(table: PredictionTable, **columns: list[object]) -> pd.DataFrame:
    return pd.DataFrame(columns, index=pd.Index(table.paths, name="path"))


def test_accuracies_and_p_values_are_exact():
    """The accuracies of the slice and of the other images are correct, and the p-value matches Fisher's exact test."""
    table = make_table([False] * 6 + [True] * 4 + [True] * 18 + [False] * 2)
    slices = compute_slices(table, attributes_of(table, camera=["old"] * 10 + ["new"] * 20))
    assert slices["slice"].tolist() == ["old", "new"]
    assert slices["top1"].tolist() == [0.4, 0.9]
    assert slices["rest_top1"].tolist() == [0.9, 0.4]
    old = fisher_exact([[4, 6], [18, 2]], alternative="less").pvalue
    new = fisher_exact([[18, 2], [4, 6]], alternative="less").pvalue
    assert slices["p_value"].tolist() == pytest.approx([2 * old, new])  # Benjamini-Hochberg: times 2/1 and 2/2
    assert slices["is_worse"].tolist() == [True, False]


def test_many_looks_are_corrected():
    """A slice that would be significant by itself is not marked if 20 attributes without a pattern are tested too."""
    table = make_table([False] * 6 + [True] * 4 + [True] * 18 + [False] * 2)
    camera = attributes_of(table, camera=["old"] * 10 + ["new"] * 20)
    assert compute_slices(table, camera)["is_worse"].tolist() == [True, False]
    others = {f"noise {n}": [row % 2 for row in range(30)] for n in range(20)}
    assert not compute_slices(table, camera.assign(**others))["is_worse"].any()


def test_chance_marks_few_slices():
    """Without a pattern, on average at most 5% of random tables have a marked slice."""
    random = np.random.default_rng(0)
    marked = 0
    for _ in range(200):
        table = make_table((random.random(200) < 0.8).tolist())
        values = {f"column {n}": random.integers(4, size=200).tolist() for n in range(5)}
        marked += compute_slices(table, attributes_of(table, **values))["is_worse"].any()
    assert marked <= 15


def test_numbers_are_divided_at_quartiles():
    """A range includes its upper end, the first range also includes its lower end, and missing values are ignored."""
    table = make_table([True] * 40 + [False] * 5)
    size = [float(number) for number in range(1, 41)] + [np.nan] * 5
    slices = compute_slices(table, attributes_of(table, size=size))
    assert slices["slice"].tolist() == ["1 to 10.75", "10.75 to 20.5", "20.5 to 30.25", "30.25 to 40"]
    assert slices["images"].tolist() == [10] * 4
    assert slices["rest_top1"].tolist() == [1.0] * 4


@pytest.mark.parametrize(
    ("values", "names"),
    [
        (
            [20240101 + row for row in range(40)],
            ["20240101 to 20240111", "20240111 to 20240120", "20240120 to 20240130", "20240130 to 20240140"],
        ),
        (
            [12001 + row % 10 for row in range(40)],
            ["12001 to 12003", "12003 to 12006", "12006 to 12008", "12008 to 12010"],
        ),
        ([20240101.0 + row % 2 for row in range(40)], ["20240101", "20240102"]),
        ([np.float32(0.1), np.float32(0.25)] * 20, ["0.1", "0.25"]),
    ],
)
def test_close_numbers_stay_apart(values: list[float], names: list[str]):
    """Large numbers with small differences, such as dates, are divided like other numbers and get distinct names."""
    table = make_table([True] * 40)
    slices = compute_slices(table, attributes_of(table, value=values))
    assert sorted(slices["slice"]) == names
    assert slices["images"].sum() == 40


def test_useless_columns_are_left_out():
    """Columns with a single value, only small groups or too many distinct strings have no slices."""
    table = make_table([True, False] * 40)
    columns = {
        "same": ["x"] * 80,
        "name": [f"image {row}" for row in range(80)],
        "rare": ["y"] * 4 + [f"z{row % 20}" for row in range(76)],
    }
    assert compute_slices(table, attributes_of(table, **columns)).empty
    assert list(compute_slices(table, attributes_of(table)).columns) == list(SLICE_COLUMNS)


def test_attributes_come_from_the_manifest(tmp_path):
    """Size, shape, format, class size and scores come from the manifest. Unlisted files are ignored."""
    manifest = pd.DataFrame(
        {
            "split": ["train", "train", "val", "val", "val"],
            "synset": "n0",
            "path": ["train/a", "train/b", "val/a", "val/b", "val/c"],
            "label": [0, 0, 0, 1, -1],
            "width": [10, 10, 200, 100, 5],
            "height": [10, 10, 50, 100, 5],
            "bytes": 1,
            "format": ["JPEG", "JPEG", "PNG", "JPEG", "GIF"],
            "status": "ok",
            "blur_score": [0.1, 0.2, 0.3, 0.4, 0.5],
            "difference_hash": [1, 2, 3, 4, 5],
        }
    )
    # The image val/b is in both lists.
    manifest = pd.concat([manifest, manifest.iloc[[3]].assign(split="train", label=0)], ignore_index=True)
    manifest.to_parquet(tmp_path / "manifest.parquet")
    attributes = read_image_attributes(tmp_path / "manifest.parquet")
    assert attributes.loc["val/a"].to_dict() == {
        "image size": 100.0,
        "aspect ratio": 4.0,
        "training images of the class": 3.0,
        "format": "PNG",
        "blur score": 0.3,
    }
    assert attributes.loc["val/b", "training images of the class"] == 0
    assert attributes.index.tolist() == ["train/a", "train/b", "val/a", "val/b"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("image,site\na,1\n", r"no column path, only image, site"),
        ("path,site\na,1\na,2\n", r"repeated paths"),
        ("path,site\nval/a,1\n", r"contains none of the 1 evaluated images, such as a →"),
        ("", r"not a CSV file"),
    ],
)
def test_invalid_user_tables_are_rejected(tmp_path, text: str, message: str):
    """If a table has no unique paths, the error names the parameter and the problem."""
    (tmp_path / "sites.csv").write_text(text)
    with pytest.raises(EvaluationTableError, match=rf"slice_attributes: .*sites\.csv .*{message}"):
        read_user_attributes(tmp_path / "sites.csv", np.array(["a"], dtype=object))


def test_texts_that_look_like_missing_values_are_values(tmp_path):
    """The region NA is a slice: in a text column, only empty cells are missing values. In numbers, NaN is too."""
    path = tmp_path / "sites.csv"
    path.write_text("path,region,altitude\na,NA,1\nb,EU,NaN\nc,,2.5\n")
    attributes = read_user_attributes(path, np.array(["a"], dtype=object))
    assert attributes["region"].fillna("").tolist() == ["NA", "EU", ""]
    assert attributes["altitude"].fillna(-1).tolist() == [1, -1, 2.5]


def test_report_lists_worse_slices_first(tmp_path):
    """The report contains a table of the significantly worse slices and a table of all slices."""
    table = make_table([False] * 6 + [True] * 4 + [True] * 18 + [False] * 2)
    slices = compute_slices(table, attributes_of(table, camera=["old"] * 10 + ["new"] * 20))
    page = Page(render_page(tmp_path, make_evaluation(10, 5), slices=slices))
    text = page.sections["slices"]
    assert "1 of 2 slices is significantly less accurate" in text
    assert text.index("Significantly worse slices") < text.index("old") < text.index("All slices") < text.index("new")
    assert "slices" not in Page(render_page(tmp_path, make_evaluation(10, 5))).sections
