"""The pictures and the table of a sweep."""

from __future__ import annotations

import pandas as pd
import pytest
from matplotlib.figure import Figure

from resnet50_pipeline.reporting import sweep_plots
from resnet50_pipeline.reporting.sweep_plots import write_sweep_plots

RATE, DECAY = "training.lr.learning_rate", "training.ema_decay"


def trial(number: int, value: float | None, decay: float | None = None, state: str = "complete") -> dict:
    return {"trial": number, "state": state, "value": value, "epochs": 2, "seconds": 3.0, RATE: 0.01, DECAY: decay}


@pytest.fixture
def drawn(monkeypatch) -> dict[str, Figure]:
    """The figures by the first word of their file's name, as they are saved."""
    figures: dict[str, Figure] = {}
    save = sweep_plots.save_png

    def keep(figure, path):
        figures[path.name.strip(".").split(".")[0]] = figure
        save(figure, path)

    monkeypatch.setattr(sweep_plots, "save_png", keep)
    return figures


def test_every_trial_is_drawn_and_the_line_is_the_best_so_far(tmp_path, drawn):
    """Pruned trials have points and no part in the line; a choice that is null has a place of its own."""
    trials = [trial(0, 0.5), trial(1, 0.9, state="pruned"), trial(2, 0.4, 0.99), trial(3, 0.7), trial(4, None)]
    write_sweep_plots(tmp_path / "r", trials, {RATE: 0.8, DECAY: 0.2}, metric="val/top1", maximize=True)
    names = {path.name for path in (tmp_path / "r").iterdir()}
    assert names == {"trials.csv", "history.png", "parameters.png", "importances.png"}
    (axes,) = drawn["history"].axes
    assert [tuple(point) for point in axes.lines[0].get_xydata()] == [(0, 0.5), (2, 0.5), (3, 0.7)]
    assert sum(len(points.get_offsets()) for points in axes.collections) == 4
    decay = drawn["parameters"].axes[1]
    assert sum(len(points.get_offsets()) for points in decay.collections) == 4
    assert {label.get_text() for label in decay.get_xticklabels()} == {"null", "0.99"}
    assert pd.read_csv(tmp_path / "r" / "trials.csv")["trial"].tolist() == [0, 1, 2, 3, 4]


def test_without_a_value_there_is_a_table_and_no_picture(tmp_path):
    """As long as nothing was measured there is nothing to draw."""
    write_sweep_plots(tmp_path, [trial(0, None, state="failed")], {}, metric="val/loss", maximize=False)
    assert [path.name for path in tmp_path.iterdir()] == ["trials.csv"]
