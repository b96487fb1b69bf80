"""Shows the DVC experiments of one environment as a table, and their curves on a page that works offline.

    python tools/experiments.py --env dvc [REVISION …]

The page that `dvc plots show` writes loads Vega from another host, shows each figure in a light and a dark version, and
includes the figures of all environments. This program reads the same tables with DVC and draws them with Plotly.
"""

from __future__ import annotations

import argparse
import csv
import html
import importlib.resources
import io
import itertools
import json
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

PAGE = "index.html"
_REPORTING = "data/{env}/08_reporting"
_TABLES = ("train", "validation", "classes")
_METRICS = ("top1", "top5", "balanced_accuracy", "loss", "ece")
_MAX_NAMED_CLASSES = 50


@dataclass(frozen=True)
class Experiment:
    """The results of one experiment.

    Attributes:
        name: name of the experiment, branch or revision, or `workspace`.
        revision: Git revision, or "" for the workspace.
        metrics: numbers in `metrics.json`.
        params: parameters, keyed by dotted name.
        tables: rows of `plots/tables/*.csv`, keyed by the name of the table.
    """

    name: str
    revision: str
    metrics: Mapping[str, float]
    params: Mapping[str, Any]
    tables: Mapping[str, list[dict[str, str]]] = field(default_factory=dict)


def find_experiments(env: str, revisions: Sequence[str] = ()) -> list[Experiment]:
    """Return the experiments that have results of the environment, starting with the workspace and the last commit.

    The workspace is omitted if an experiment has the same results.
    """
    options = [option for revision in revisions for option in ("--rev", revision)]
    shown = subprocess.run(
        [sys.executable, "-m", "dvc", "exp", "show", "--json", *([*options, "--rev", "HEAD"] if options else [])],
        stdout=subprocess.PIPE, text=True, check=False,
    )  # fmt: skip
    if shown.returncode:
        sys.exit(shown.returncode)  # DVC has printed the reason
    found = [_read_experiment(one, env) for one in _flatten(json.loads(shown.stdout))]
    experiments = [one for one in found if one is not None]
    stored = [(one.metrics, one.params) for one in experiments if one.revision]
    return [one for one in experiments if one.revision or (one.metrics, one.params) not in stored]


def list_changed_params(experiments: Sequence[Experiment]) -> list[str]:
    """Return the names of the parameters whose values differ between the experiments."""
    names = sorted({name for one in experiments for name in one.params})
    return [name for name in names if len({repr(one.params.get(name)) for one in experiments}) > 1]


def render_table(experiments: Sequence[Experiment]) -> tuple[list[str], list[list[str]]]:
    """Return the head and the rows of a table of metrics and changed parameters."""
    metrics = [name for name in _METRICS if any(name in one.metrics for one in experiments)]
    params = list_changed_params(experiments)
    head = ["experiment", "commit", *metrics, *(name.rpartition(".")[2] if "." in name else name for name in params)]
    rows = [
        [
            one.name,
            one.revision[:7],
            *(f"{one.metrics[name]:.4g}" if name in one.metrics else "" for name in metrics),
            *(str(one.params.get(name, "")) for name in params),
        ]
        for one in experiments
    ]
    return head, rows


def write_page(folder: Path, env: str, experiments: Sequence[Experiment]) -> Path:
    """Write the page and Plotly's script to `folder`, and return the path of the page."""
    folder.mkdir(parents=True, exist_ok=True)
    script = importlib.resources.files("plotly") / "package_data" / "plotly.min.js"
    (folder / "plotly.min.js").write_bytes(script.read_bytes())
    head, rows = render_table(experiments)
    cells = "".join(
        "<tr>" + "".join(f"<td>{_swatch(number) if column == 0 else ''}{html.escape(cell)}</td>"
                         for column, cell in enumerate(row)) + "</tr>"
        for number, row in enumerate(rows)
    )  # fmt: skip
    page = (Path(__file__).parent / "experiments.html").read_text(encoding="utf-8")
    for name, text in {
        "ENV": html.escape(env),
        "COUNT": f"{len(experiments)} {'experiment' if len(experiments) == 1 else 'experiments'}",
        "HEAD": "".join(f"<th>{html.escape(name)}</th>" for name in head),
        "ROWS": cells,
        "FIGURES": json.dumps(list(_make_figures(experiments))).replace("</", "<\\/"),
    }.items():
        page = page.replace(f"@{name}@", text)
    path = folder / PAGE
    path.write_text(page, encoding="utf-8")
    return path


def _make_figures(experiments: Sequence[Experiment]) -> Iterator[dict[str, Any]]:
    """Yield the figures: a title, a caption, the unit and one line per experiment."""
    for table, column, title, caption in (
        ("validation", "top1", "Validation top-1", "Share of val images whose most probable class is correct."),
        ("validation", "loss", "Validation loss", "Mean loss of the val images after each epoch."),
        ("train", "top1", "Train top-1", "Mean over the epoch, measured on augmented images while training."),
        ("train", "loss", "Train loss", "Mean over the epoch, measured on augmented images while training."),
    ):
        lines = [
            {"experiment": number, "name": one.name, "x": [_read_number(row["epoch"]) for row in rows],
             "y": [_read_number(row[column]) for row in rows]}
            for number, one in enumerate(experiments)
            if (rows := one.tables.get(table)) and column in rows[0]
        ]  # fmt: skip
        if lines:
            yield {"title": title, "caption": caption, "percent": column == "top1", "kind": "lines", "lines": lines}
    bars = [
        {"experiment": number, "name": one.name, "x": [_read_number(row["top1"]) for row in rows],
         "y": [row["name"] for row in rows]}
        for number, one in enumerate(experiments)
        if 0 < len(rows := one.tables.get("classes") or []) <= _MAX_NAMED_CLASSES
    ]  # fmt: skip
    if bars:
        caption = "Share of each class's val images whose most probable class is correct."
        yield {"title": "Top-1 per class", "caption": caption, "percent": True, "kind": "bars", "lines": bars}


def _flatten(shown: Sequence[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
    for one in shown:
        yield one
        for experiment in one["experiments"] or ():
            yield from experiment["revs"][:1]


def _read_experiment(shown: Mapping[str, Any], env: str) -> Experiment | None:
    """Return the experiment, or None if it failed, is still queued, or has no results of the environment."""
    data = shown["data"]
    folder = _REPORTING.format(env=env)
    metrics = ((data or {}).get("metrics") or {}).get(f"{folder}/metrics.json", {}).get("data")
    if not metrics:
        return None
    revision = "" if shown["rev"] == "workspace" else str(shown["rev"])
    name = shown["name"] or revision[:7] or "workspace"
    params = {
        name: value
        for file in (data["params"] or {}).values()
        for name, value in _flatten_params(file.get("data") or {})
    }
    tables = {table: _read_table(f"{folder}/plots/tables/{table}.csv", revision) for table in _TABLES}
    return Experiment(name, revision, metrics, params, tables)


def _flatten_params(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, dict):
            yield from _flatten_params(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _read_table(path: str, revision: str) -> list[dict[str, str]]:
    """Return the rows of a table, or no rows if the revision does not contain it."""
    import dvc.api
    from dvc.exceptions import DvcException

    try:
        text = dvc.api.read(path, rev=revision or None, encoding="utf-8")
    except (OSError, DvcException):
        return []
    return list(csv.DictReader(io.StringIO(text)))


def _read_number(text: str) -> float | None:
    """Return the number in a cell, or None if the cell is empty, such as the accuracy of a class without images."""
    return float(text) if text else None


def _swatch(number: int) -> str:
    return f'<i class="swatch" data-experiment="{number}"></i>'


def _print_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    for row in itertools.chain([head], rows):
        print("  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip())


def main() -> int:
    """Print the table and write the page. Return 1 if there are no results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--env", default="dvc", help="environment whose results are shown: data/<env> (default: dvc)")
    parser.add_argument("--out", type=Path, default=Path("build/experiments"), help="folder for the page")
    parser.add_argument("revisions", nargs="*", help="other Git revisions to compare")
    options = parser.parse_args()
    experiments = find_experiments(options.env, options.revisions)
    if not experiments:
        print(f"there are no results in data/{options.env} → run `make repro` first", file=sys.stderr)
        return 1
    _print_table(*render_table(experiments))
    print(f"\n{write_page(options.out, options.env, experiments)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
