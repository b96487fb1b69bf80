"""`kedro compare` compares two runs by their reports."""

from __future__ import annotations

import base64
import gzip
import io
import logging
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from browser import CHROMIUM, start_browser
from click.testing import CliRunner
from evaluation_tables import make_evaluation, predictions_from_scores, write_digits
from report_pages import Page, read_data, render_page

from mlflow_stores import DESCRIPTION, sqlite_store
from resnet50_pipeline.commands.compare import compare
from resnet50_pipeline.commands.tracking.registry import Registry
from resnet50_pipeline.exceptions import EvaluationTableError, TrackingError
from resnet50_pipeline.reporting.comparison import compare_predictions
from resnet50_pipeline.reporting.metrics import compute_metrics
from resnet50_pipeline.reporting.run_comparison import Report, compare_runs, read_report
from resnet50_pipeline.tracking.run_files import fetch_run_file
from resnet50_pipeline.tracking.runs import open_run


@pytest.fixture(scope="module")
def evaluations():
    """Two evaluations of the same images. The second is better."""
    return [
        make_evaluation(class_num=10, images_per_class=30, skill=skill, seed=seed) for skill, seed in ((2, 0), (4, 1))
    ]


@pytest.fixture(scope="module")
def folder(evaluations, tmp_path_factory) -> Path:
    """A folder with the reports of both runs in the folders `a` and `b`."""
    root = tmp_path_factory.mktemp("runs")
    write_digits(root, evaluations[0].predictions["path"].tolist())
    for name, evaluation, rate in zip("ab", evaluations, (0.1, 0.2), strict=True):
        (root / name / "08_reporting").mkdir(parents=True)
        parameters = {"training": {"epochs": 5, "lr": {"learning_rate": rate}}}
        html = render_page(root, evaluation, parameters=parameters, gallery_images=100)
        (root / name / "08_reporting" / "evaluation_report.html").write_text(html)
    return root


@pytest.fixture(scope="module")
def reports(folder) -> list[Report]:
    """The reports of both runs."""
    return [read_report(folder / name / "08_reporting" / "evaluation_report.html", name) for name in "ab"]


def test_metrics_equal_those_of_the_evaluations(evaluations, reports):
    """Each metric has the values of both evaluations, and the interval contains the difference."""
    _, found = compare_runs(*reports)
    first, second = (compute_metrics(one.predictions, one.evaluation_summary, 100) for one in evaluations)

    for name, one in zip(("top1", "top5", "balanced_accuracy", "macro_f1", "ece"), found, strict=True):
        assert (one.first, one.second) == pytest.approx((first[name], second[name]), abs=1e-5), name
        assert one.low <= one.second - one.first <= one.high
    assert found[0].is_better is True


def test_the_interval_agrees_with_the_comparison_of_predictions(evaluations, reports):
    """The interval of the top-1 difference is close to that of `compare_predictions`."""
    _, found = compare_runs(*reports)
    expected = compare_predictions(evaluations[1].predictions, evaluations[0].predictions, 5000)["top1"]

    assert (found[0].low, found[0].high) == pytest.approx((expected["low"], expected["high"]), abs=0.015)


def test_only_changed_parameters_are_shown(reports):
    """The page shows the parameter that differs, with both values, and no other."""
    text = Page(compare_runs(*reports)[0]).sections["parameters"]

    assert "training.lr.learning_rate 0.1 0.2" in text
    assert "epochs" not in text


def test_curves_and_changed_images_of_both_runs_are_in_the_data(evaluations, reports):
    """The data has the curves of both runs, and the other run's class for each image that changed sides."""
    data = read_data(compare_runs(*reports)[0])
    names = [one["name"] for one in data["curves"]["panels"][0]["series"]]
    right = [one.predictions["label"] == one.predictions["top5_ids"].str[0] for one in evaluations]

    assert names == [f"{run}: {name}" for run in "ab" for name in ("training steps", "training epochs", "validation")]
    np.testing.assert_array_equal(np.array(data["images"]["rival"]) >= 0, right[0] != right[1])


def test_equal_runs_have_no_differences(reports):
    """A run compared with itself has no significant difference and no changed parameter."""
    page, found = compare_runs(reports[0], reports[0])

    assert {(one.low, one.high, one.is_better) for one in found} == {(0.0, 0.0, None)}
    assert "same parameters" in Page(page).sections["parameters"]


@pytest.mark.parametrize("missing", [[0], [1], [0, 1]])
def test_unknown_parameters_are_not_compared(reports, missing):
    """A model that was not trained here has no parameters. The page says so, and neither lists nor equates any."""
    given = [
        replace(report, data={**report.data, "run": {"parameters": {}}}) if number in missing else report
        for number, report in enumerate(reports)
    ]
    text = Page(compare_runs(*given)[0]).sections["parameters"]

    for row, name in enumerate("ab"):
        assert (f"The parameters of {name} are unknown." in text) == (row in missing)
    assert "same parameters" not in text
    assert "learning_rate" not in text


@pytest.mark.parametrize("damage", ["truncated", "not base64", "not gzip", "not JSON"])
def test_a_damaged_report_is_an_error(folder, tmp_path, damage):
    """A truncated or edited report is an error that names the file."""
    whole = (folder / "a" / "08_reporting" / "evaluation_report.html").read_text()
    start, mark, rest = whole.partition('id="report-data">')
    packed = rest.partition("<")[0]
    changed = {
        "truncated": packed[: len(packed) // 8 * 4],
        "not base64": packed[:101],
        "not gzip": base64.b64encode(b"no gzip").decode(),
        "not JSON": base64.b64encode(gzip.compress(b"no JSON")).decode(),
    }[damage]
    path = tmp_path / "report.html"
    path.write_text(start + mark + changed)

    with pytest.raises(EvaluationTableError, match=r"report\.html is damaged"):
        read_report(path, "a")


def test_other_images_are_an_error(evaluations, reports, tmp_path):
    """Runs without common images, or with other labels, cannot be compared. Neither can a file that is not a report."""
    paths = [f"other/{path}" for path in evaluations[0].predictions["path"]]
    images = {**reports[1].data["images"], "path": paths}
    with pytest.raises(EvaluationTableError, match=r"a and b have no images in common \(300 and 300 images\)"):
        compare_runs(reports[0], Report("b", {**reports[1].data, "images": images}))
    label, *labels = reports[1].data["images"]["label"]
    images = {**reports[1].data["images"], "label": [label + 1, *labels]}
    expected = rf"the label is {label} in a, but {label + 1} in b \(1 image with a different label"
    with pytest.raises(EvaluationTableError, match=expected):
        compare_runs(reports[0], Report("b", {**reports[1].data, "images": images}))
    page = tmp_path / "report.html"
    page.write_text("<html></html>")
    with pytest.raises(EvaluationTableError, match=r"report\.html is not an evaluation report"):
        read_report(page, "c")


def test_only_common_images_are_compared(evaluations, reports, tmp_path):
    """If an image was dropped from the list, the other images are compared, and the page says what is left out."""
    fewer = evaluations[0].predictions.iloc[5:35]
    scores = np.eye(10)[fewer["label"]]
    predictions = predictions_from_scores(fewer["path"].tolist(), fewer["label"].to_numpy(), scores)
    page = tmp_path / "report.html"
    summary = {**evaluations[0].evaluation_summary, "images": 30}
    changed = replace(evaluations[0], predictions=predictions, evaluation_summary=summary)
    page.write_text(render_page(tmp_path, changed, gallery_images=0))

    other = read_report(page, "c")
    hits = (evaluations[0].predictions["label"] == evaluations[0].predictions["top5_ids"].str[0]).iloc[5:35]
    for first, second in ((reports[0], other), (other, reports[0])):
        html, found = compare_runs(first, second)
        accuracy = {reports[0].name: hits.mean(), "c": 1.0}
        assert (found[0].first, found[0].second) == pytest.approx((accuracy[first.name], accuracy[second.name]))
        assert "Compared on the 30 images that both runs evaluated. Left out: 270 images of a." in html
        shown = read_data(html)["images"]
        assert shown["path"] == fewer["path"].tolist()
        assert sum(rival >= 0 for rival in shown["rival"]) == 30 - hits.sum()
        thumbnails = reports[0].data["images"]["thumbnails"]
        assert {shown["path"][int(row)]: image for row, image in shown["thumbnails"].items()} == {
            path: thumbnails[str(row)] for row, path in enumerate(fewer["path"], start=5) if str(row) in thumbnails
        }


def test_the_command_compares_folders(folder, monkeypatch):
    """`kedro compare a b` writes comparison.html to the current folder and prints the differences."""
    monkeypatch.chdir(folder)
    finished = CliRunner().invoke(compare, ["a", "b"])

    assert finished.exit_code == 0, finished.output
    assert "top-1 accuracy" in finished.output
    assert "b compared with a" in (folder / "comparison.html").read_text()
    assert CliRunner().invoke(compare, ["a", "."]).exit_code == 1


@pytest.mark.parametrize(
    ("given", "names"),
    [
        (["a/08_reporting/evaluation_report.html", "b/08_reporting"], ("a", "b")),
        (["renamed.html", "b"], ("renamed", "b")),
        (["a", "old/a"], ("a", "old/a")),
    ],
)
def test_runs_are_named_after_their_folders(folder, monkeypatch, given, names):
    """A run is named after its folder of results. If both folders have the same name, the runs have the given names."""
    monkeypatch.chdir(folder)
    shutil.copy("a/08_reporting/evaluation_report.html", "renamed.html")
    shutil.copytree("b", "old/a", dirs_exist_ok=True)
    finished = CliRunner().invoke(compare, [*given, "--output", "named.html"])

    assert finished.exit_code == 0, finished.output
    assert f"<title>{names[1]} compared with {names[0]}</title>" in (folder / "named.html").read_text()


def test_an_error_is_printed_once(folder, monkeypatch):
    """An error that the user can fix is one message without a traceback, even if it occurs before the log is set up."""
    monkeypatch.chdir(folder)
    Path("empty").mkdir(exist_ok=True)
    stream = io.StringIO()
    monkeypatch.setattr(logging.getLogger(), "handlers", [logging.StreamHandler(stream)])
    failed = CliRunner().invoke(compare, ["a", "empty"])

    assert failed.exit_code == 1
    assert failed.stderr.startswith("error: ")
    assert failed.stderr.count("has no 08_reporting") == 1
    assert stream.getvalue() == ""


@pytest.mark.slow
def test_the_command_compares_versions(folder, tmp_path, monkeypatch):
    """`kedro compare` reads the reports of registered versions. Runs are named after their versions."""
    monkeypatch.chdir(tmp_path)
    store = sqlite_store(tmp_path)
    for name in "ab":
        run = open_run(DESCRIPTION, store, tmp_path)
        client, run_id = run.connect()
        report = folder / name / "08_reporting" / "evaluation_report.html"
        client.log_artifact(run_id, str(report), "evaluation")
        if name == "a":
            client.create_registered_model("resnet50-digits")
        client.create_model_version("resnet50-digits", f"runs:/{run_id}/evaluation", run_id)
        run.end("FINISHED")
    monkeypatch.setattr("resnet50_pipeline.commands.compare.open_registry", lambda _: Registry(run.store, ""))
    finished = CliRunner().invoke(compare, ["models:/resnet50-digits/1", "models:/resnet50-digits/2"])

    assert finished.exit_code == 0, finished.output
    assert "Evaluated on the same 300 images." in finished.stdout
    page = Page((tmp_path / "comparison.html").read_text())
    assert "Classified correctly only by resnet50-digits version 2: " in page.sections["result"]


@pytest.mark.slow
def test_a_missing_folder_is_reported_as_a_folder(tmp_path):
    """A reference with a slash looks like a path, so the error says that there is no such folder."""
    run = open_run(DESCRIPTION, sqlite_store(tmp_path), tmp_path)
    run.connect()
    store = run.store
    for reference in ("data/nope", "./nope", "/nope"):
        with pytest.raises(TrackingError, match=f"{reference}: there is no such file, folder or run"):
            fetch_run_file(store, reference, "other.html", tmp_path)
    run.end("FINISHED")


@pytest.mark.slow
def test_a_run_in_mlflow_is_found_by_name_and_id(folder, tmp_path):
    """The report of a run is downloaded by the run's name or ID. Other names are errors."""
    run = open_run(DESCRIPTION, sqlite_store(tmp_path), tmp_path)
    run.connect()
    store, client = run.store, run.store.connect()
    (found,) = client.search_runs([store.find_experiment(client)])
    report = folder / "a" / "08_reporting" / "evaluation_report.html"
    client.log_artifact(found.info.run_id, str(report), "evaluation")
    run.end("FINISHED")

    for number, reference in enumerate((found.info.run_id, found.info.run_name)):
        (tmp_path / str(number)).mkdir()
        file = fetch_run_file(store, reference, "evaluation_report.html", tmp_path / str(number))
        assert file.name == found.info.run_name
        assert file.path.read_bytes() == report.read_bytes()
    for reference, message in (("other-run", "no such run"), (found.info.run_id, "no artifact evaluation/other")):
        with pytest.raises(TrackingError, match=message):
            fetch_run_file(store, reference, "other.html", tmp_path)


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed; run: apt-get install chromium")
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_works_in_a_browser(reports, tmp_path, scheme):
    """The page has no errors and no requests, does not scroll sideways, and shows the images that changed sides."""
    path = tmp_path / "comparison.html"
    names = [f"resnet50-digits version {number}" for number in (1, 2)]
    named = [replace(report, name=name) for report, name in zip(reports, names, strict=True)]
    path.write_text(compare_runs(*named)[0])
    with start_browser() as chromium:
        for width in (1440, 1300, 390):
            chromium.open(path, scheme=scheme, width=width)
            assert chromium.evaluate("document.documentElement.scrollWidth") == width
            assert chromium.evaluate("document.querySelectorAll('#images .card img').length") == 24
            assert chromium.evaluate("document.querySelectorAll('#curves svg path.line').length") > 8
        cell = "document.querySelector('#result thead th:nth-child(4)').getBoundingClientRect().right"
        box = "document.querySelector('#result .scroll').getBoundingClientRect().right"
        assert chromium.evaluate(cell) <= chromium.evaluate(box), "on a phone, the difference is visible"
        gained = chromium.evaluate("parseInt(document.querySelector('[data-side=gained]').textContent)")
        chromium.click("[data-side=gained]")
        shown = chromium.evaluate("parseInt(document.querySelector('#images .status span').textContent)")
        assert shown == gained > 0
        assert chromium.console == chromium.requests == []


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed; run: apt-get install chromium")
def test_runs_with_the_same_name_have_their_own_curves(reports, tmp_path):
    """The legend has a series of each run, in the run's color, and hides only that series, even with equal names."""
    path = tmp_path / "comparison.html"
    path.write_text(compare_runs(*(replace(report, name="sample: b") for report in reports))[0])
    lines = "document.querySelector('#curves svg').querySelectorAll('path.line').length"
    keys = "[...document.querySelectorAll('#curves .legend .key')].map((key) => key.className)"
    with start_browser() as chromium:
        chromium.open(path)
        assert chromium.evaluate(keys) == [
            f"key {tone}{style}" for tone in ("main", "contrast") for style in (" faint", " dashed", "")
        ]
        shown = chromium.evaluate(lines)
        chromium.click("#curves .legend button")
        assert chromium.evaluate(lines) == shown - 1
        assert chromium.console == []
