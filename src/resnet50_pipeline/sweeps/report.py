"""Writes a study's report: a table of its trials, and a page with Optuna's plots that works offline."""

from __future__ import annotations

import json
import os
import warnings
from pathlib import Path
from typing import Any

import pandas as pd
import plotly.graph_objects as go
from optuna import visualization as plots
from optuna.importance import PedAnovaImportanceEvaluator
from optuna.trial import TrialState
from plotly.offline import get_plotlyjs

from resnet50_pipeline.files import write_text
from resnet50_pipeline.reporting.run_pages.sweep_page import SweepFigure, SweepInputs, render_sweep_page
from resnet50_pipeline.sweeps.study import Study, find_best

# PED-ANOVA compares the better trials with the rest, which requires a few distinct values.
_MIN_VALUES_FOR_IMPORTANCES = 4
_REPORT = Path("08_reporting") / "evaluation_report.html"
_CAPTIONS = {
    "History": "The value of each trial, and the best value so far.",
    "Importance of the parameters": "How strongly each parameter affects whether a trial is among the best.",
    "Slices": "The value as a function of each parameter.",
    "Parallel coordinates": "One line per trial, with a stronger color for better trials.",
    "Evaluations": "The evaluations of each trial during training, including pruned trials.",
}


def write_report(study: Study) -> list[Path]:
    """Write trials.csv, and index.html with all plots for which there are enough trials. Return their paths."""
    folder, rows, parameters = study.folder / "report", study.rows(), study.parameters
    folder.mkdir(exist_ok=True)
    table = [
        {
            "trial": row.number,
            "state": row.state,
            "value": row.value,
            "epochs": row.epochs,
            "seconds": round(row.seconds, 1),
            **row.params,
        }
        for row in rows
    ]
    csv, page, best = folder / "trials.csv", folder / "index.html", find_best(rows)
    write_text(csv, pd.DataFrame(table).to_csv(index=False))
    reports = {row.number: study.trial_folder(row.number) / _REPORT for row in rows}
    inputs = SweepInputs(
        name=parameters.study,
        metric=parameters.metric,
        direction=parameters.direction,
        rows=table,
        best=None if best is None else best.number,
        reports={number: os.path.relpath(path, folder) for number, path in reports.items() if path.is_file()},
        figures=draw_figures(study),
        plotly_js=get_plotlyjs(),
    )
    write_text(page, render_sweep_page(inputs))
    return [csv, page]


def draw_figures(study: Study) -> list[SweepFigure]:
    """Return Optuna's plots of a study, except plots that need more trials.

    The importance of the parameters is computed with PED-ANOVA (Watanabe et al. 2023).
    """
    found, metric = study.optuna_study, study.parameters.metric
    values = {trial.value for trial in found.trials if trial.state == TrialState.COMPLETE}
    figures: dict[str, go.Figure] = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Optuna warns that some of its plots are experimental
        if values:
            figures["History"] = plots.plot_optimization_history(found, target_name=metric)
        if len(values) >= _MIN_VALUES_FOR_IMPORTANCES:
            figures["Importance of the parameters"] = plots.plot_param_importances(
                found, evaluator=PedAnovaImportanceEvaluator(), target_name=metric
            ).update_layout(xaxis_title="importance", yaxis_title=None)
        if values:
            figures["Slices"] = plots.plot_slice(found, target_name=metric)
            figures["Parallel coordinates"] = _draw_parallel_coordinates(study)
        if any(trial.intermediate_values for trial in found.trials):
            evaluations = plots.plot_intermediate_values(found)
            figures["Evaluations"] = evaluations.update_layout(xaxis_title="epoch", yaxis_title=metric)
    return [SweepFigure(title, _CAPTIONS[title], _to_dict(figure)) for title, figure in figures.items()]


def _draw_parallel_coordinates(study: Study) -> go.Figure:
    """Draw Optuna's plot with the full names of the parameters, which Optuna cuts to 20 characters."""
    figure = plots.plot_parallel_coordinate(study.optuna_study, target_name=study.parameters.metric)
    trials = study.optuna_study.get_trials(deepcopy=False, states=[TrialState.COMPLETE])
    names = [study.parameters.metric, *sorted({name for trial in trials for name in trial.params})]
    figure.update_xaxes(ticktext=names)
    for line in figure.data:
        if line.customdata is not None:
            line.customdata = [[name, value] for name, (_, value) in zip(names, line.customdata, strict=True)]
    return figure


def _to_dict(figure: go.Figure) -> dict[str, Any]:
    """Return a figure without its title and template, because the page has its own headings and colors.

    All parameters are in the group `training`, so their names are shown without the group.
    """
    figure.update_layout(title=None, template=None)
    plain: dict[str, Any] = json.loads(figure.to_json().replace("training.", ""))
    return plain
