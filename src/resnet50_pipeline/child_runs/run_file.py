"""Writes the `kedro run --config` file for a child run. The run's results go to the file's folder.

09_sweeps/digits/trial-0003/run.yml
09_sweeps/digits/trial-0003/06_models/training
09_sweeps/digits/trial-0003/08_reporting/metrics.json
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from resnet50_pipeline.files import write_text


def write_run_file(
    path: Path,
    stages: Sequence[str],
    params: Mapping[str, Any],
    *,
    environment: str | None,
    conf_source: str | None,
) -> Path:
    """Write the options of a `kedro run` to `path`, and return `path`.

    Args:
        path: file to write.
        stages: pipelines to run.
        params: value of `--params` as a nested mapping.
        environment: Kedro environment; None for the default.
        conf_source: configuration folder or archive; None for `conf/`.
    """
    options = {"env": environment, "conf_source": conf_source}
    run = {"pipelines": ",".join(stages), "params": dict(params), **{k: v for k, v in options.items() if v}}
    write_text(path, yaml.safe_dump({"run": run}, sort_keys=True, allow_unicode=True))
    return path


def merge(base: Mapping[str, Any], change: Mapping[str, Any]) -> dict[str, Any]:
    """Return `base` updated with `change`. Nested mappings are merged; other values are replaced."""
    merged = dict(base)
    for key, value in change.items():
        old = merged.get(key)
        merged[key] = merge(old, value) if isinstance(old, Mapping) and isinstance(value, Mapping) else value
    return merged


def training_dir_of(folder: Path) -> Path:
    """Return the training folder of a child run. The path below `run_dir` must match the catalog."""
    return folder / "06_models" / "training"


def metrics_path_of(folder: Path) -> Path:
    """Return the path of a child run's metrics. The path below `evaluation.output_dir` must match the catalog."""
    return folder / "08_reporting" / "metrics.json"


def predictions_path_of(folder: Path) -> Path:
    """Return the path of a child run's predictions. The path below `evaluation.output_dir` must match the catalog."""
    return folder / "07_model_output" / "predictions.parquet"


def label_map_path_of(folder: Path) -> Path:
    """Return the path of a child run's label map. The path below `data_dir` must match the catalog."""
    return folder / "05_model_input" / "label_map.json"
