"""Writes the report of a study: a table of its trials, and Optuna's plots."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd
from optuna.importance import PedAnovaImportanceEvaluator
from optuna.trial import TrialState
from optuna.visualization import matplotlib as plots

from resnet50_pipeline.files import replacing_file, write_text
from resnet50_pipeline.sweeps.study import Study

# PED-ANOVA compares the better trials with the rest. This requires a few distinct values.
_MIN_VALUES_FOR_IMPORTANCES = 4


def write_report(study: Study) -> list[Path]:
    """Write trials.csv and all plots for which there are enough trials. Return their paths.

    - history.png shows the value of each complete trial.
    - curves.png shows the evaluations of each trial.
    - parameters.png shows the value as a function of each parameter.
    - importances.png shows the importance of each parameter (PED-ANOVA, Watanabe et al. 2023).
    """
    folder = study.folder / "report"
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
        for row in study.rows()
    ]
    write_text(folder / "trials.csv", pd.DataFrame(table).to_csv(index=False))
    metric, optuna_study = study.parameters.metric, study.optuna_study
    values = {trial.value for trial in optuna_study.trials if trial.state == TrialState.COMPLETE}
    draws: dict[str, Callable[[], object]] = {}
    if any(trial.intermediate_values for trial in optuna_study.trials):
        draws["curves.png"] = lambda: plots.plot_intermediate_values(optuna_study)
    if values:
        draws["history.png"] = lambda: plots.plot_optimization_history(optuna_study, target_name=metric)
        draws["parameters.png"] = lambda: plots.plot_slice(optuna_study, target_name=metric)
    if len(values) >= _MIN_VALUES_FOR_IMPORTANCES:
        draws["importances.png"] = lambda: plots.plot_param_importances(
            optuna_study, evaluator=PedAnovaImportanceEvaluator(), target_name=metric
        )
    for name, draw in draws.items():
        _save(folder / name, draw)
    return [folder / name for name in ("trials.csv", *draws)]


def _save(path: Path, draw: Callable[[], object]) -> None:
    """Save the figure drawn by `draw`. Optuna changes pyplot's global figure and style, so both are restored."""
    plt.switch_backend("agg")
    with plt.rc_context(), warnings.catch_warnings(), replacing_file(path) as temporary:
        warnings.simplefilter("ignore")  # Optuna warns that its plots are experimental and that axes are empty
        draw()
        plt.savefig(temporary, format="png", dpi=120, bbox_inches="tight")
        plt.close()
