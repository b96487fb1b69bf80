"""Chromium shows the page of a sweep offline, at every width and in both color schemes."""

from __future__ import annotations

import math

import pytest
from optuna.trial import TrialState

from chromium import CHROMIUM, VIEWS, open_chromium
from resnet50_pipeline.parameters import SweepParameters
from resnet50_pipeline.sweeps.report import write_report
from resnet50_pipeline.sweeps.study import Study

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed; run: apt-get install chromium"),
]
RATE = "training.lr.learning_rate"
# Titles of axes that overlap another title or a tick label of the same plot.
OVERLAPS = """[...document.querySelectorAll(".sweep-plot")].flatMap(plot => {
  const box = text => [text.textContent, text.getBoundingClientRect()];
  const titles = [...plot.querySelectorAll(".infolayer text[class$=title]")].filter(text => text.textContent).map(box);
  const ticks = [...plot.querySelectorAll(".xtick text, .ytick text")].map(box);
  return titles.flatMap(([name, one], number) => [...titles.slice(number + 1), ...ticks].filter(([, other]) =>
    one.left < other.right && other.left < one.right && one.top < other.bottom && other.top < one.bottom
  ).map(([other]) => `${name} / ${other}`));
})"""


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """The page of a study with complete and pruned trials. The second trial has a report."""
    parameters = SweepParameters.model_validate(
        {
            "study": "digits",
            "output_dir": tmp_path_factory.mktemp("sweep"),
            "trials": 8,
            "space": {
                RATE: {"low": 0.005, "high": 0.5, "log": True},
                "training.regularizer.coeff": {"low": 1e-5, "high": 1e-3, "log": True},
                "training.train_transform.random_erasing.probability": {"low": 0.0, "high": 0.5},
                "training.seed": {"choices": [1, 2]},
            },
        }
    )
    study = Study(parameters)
    for number in range(8):
        with study.next_trial() as trial:
            trial.report(0.5 + number / 100, 1)
            if number == 6:
                study.optuna_study.tell(trial, state=TrialState.PRUNED)
            else:
                study.optuna_study.tell(trial, 1 - abs(math.log10(trial.params[RATE] / 0.05)) / 10)
    report = study.trial_folder(1) / "08_reporting" / "evaluation_report.html"
    report.parent.mkdir()
    report.write_text("<title>trial 1</title>")
    return next(path for path in write_report(study) if path.suffix == ".html")


def test_the_page_works_offline_at_every_width(page):
    """The page shows the plots with readable axes, the table and the link to a trial's report, without errors."""
    with open_chromium() as chromium:
        for width, scheme in VIEWS:
            view = chromium.show(page.as_uri(), width=width, scheme=scheme, settle=0.5)
            assert view.errors == view.outside == [], (width, scheme)
            assert view.count_visible(".sweep-plot .main-svg") >= 5
            assert view.count_visible("tbody tr") == 8
            assert view.count_visible("tr.best") == 1
            names = "[...document.querySelectorAll('.sweep-plot text, .sweep-plot tspan')]"
            assert view.evaluate(f"{names}.filter(text => getComputedStyle(text).fill === 'none').length") == 0
            assert view.evaluate(OVERLAPS) == [], (width, scheme)
            assert not view.is_wider_than_window(), (width, scheme)
        (target,) = view.evaluate("[...document.querySelectorAll('td a')].map(link => link.href)")
        assert chromium.show(target, width=1440).evaluate("document.title") == "trial 1"
