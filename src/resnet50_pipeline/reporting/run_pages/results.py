"""Describes the result of a run in the same words for the summary, the index page and MLflow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

INDEX = "index.html"
"""Name of the index page, which is in the folder of the evaluation report."""

MODEL = "models:/MODEL@champion"
"""Placeholder for the registered model in the model card."""


@dataclass(frozen=True)
class Link:
    """A page or file of a run.

    Attributes:
        title: kind of page or file, for example `report`.
        target: URL, or path relative to the page with the link.
        text: content of the page or file.
    """

    title: str
    target: str
    text: str = ""


def describe_result(metrics: Mapping[str, float]) -> str:
    """Return the accuracy on the evaluated images: `top-1 94.67%, top-5 99.83% on 600 images`."""
    return f"top-1 {metrics['top1']:.2%}, top-5 {metrics['top5']:.2%} on {metrics['images']:.0f} images"


def describe_interval(metrics: Mapping[str, float]) -> str:
    """Return the 95% confidence interval of top-1: `92.58% to 96.20%`, or "" if the interval is unknown."""
    if "top1_low" not in metrics:
        return ""
    return f"{metrics['top1_low']:.2%} to {metrics['top1_high']:.2%}"


def describe_version(model: Mapping[str, Any]) -> str:
    """Return the registered version and its alias, or the gate checks that it failed."""
    version = f"{model['name']} version {model['version']}"
    if model["alias"]:
        return f"{version}, {model['alias']}"
    failed = [check["finding"] for check in model["gate"]["checks"] if not check["passed"]]
    return f"{version}, no alias: {'; '.join(failed)}"


def name_metrics(metrics: Mapping[str, float]) -> dict[str, float]:
    """Return the metrics with the names that MLflow shows: `evaluation/top1`, `interval/top1_low`, `speed/…`.

    MLflow sorts charts by name. Counts are omitted, because the run's dataset contains them.
    """
    prefixes = {"images": "", "classes": "", "seconds": "speed/evaluation_"}
    named = {}
    for name, value in metrics.items():
        is_end, is_speed = name.endswith(("_low", "_high")), name.startswith("images_per_second")
        other = "speed/evaluation_" if is_speed else "interval/" if is_end else "evaluation/"
        if prefix := prefixes.get(name, other):
            named[prefix + name] = float(value)
    return named


def render_parent_note(result: str, table: Sequence[Sequence[str]], links: Sequence[Link]) -> str:
    """Return the description of a run with child runs in Markdown, as MLflow shows it.

    Args:
        result: the most important result.
        table: head and rows of a table of child runs. The cells may contain Markdown.
        links: pages in MLflow.
    """
    head, *rows = table
    lines = "\n".join(f"| {' | '.join(line)} |" for line in (head, ["---"] * len(head), *rows))
    parts = [result, *([lines] if rows else []), *([_join_links(links)] if links else [])]
    return "\n\n".join(parts)


def _join_links(links: Sequence[Link]) -> str:
    return " · ".join(f"[{link.title}]({link.target})" for link in links)


def render_note(
    metrics: Mapping[str, float] | None, model: Mapping[str, Any] | None, links: Sequence[Link], index: str = ""
) -> str:
    """Return the description of a run or a model version in Markdown, as MLflow shows it.

    Args:
        metrics: metrics from the evaluation, or None if there is no evaluation.
        model: `registered_model` from the catalog, or None if no version is registered.
        links: pages in MLflow.
        index: path of the run's index page on the machine that ran it.
    """
    parts = []
    if metrics is not None:
        interval = describe_interval(metrics)
        # MLflow shows the beginning of the description as plain text in its lists.
        parts.append(describe_result(metrics) + (f" (95% interval of top-1: {interval})" if interval else ""))
    if model is not None:
        decision = model["gate"]
        verdict = f"passed, {model['alias']}" if decision["passed"] else "failed"
        marks = {True: "✓", False: "✗"}
        checks = "\n".join(f"- {marks[check['passed']]} {check['finding']}" for check in decision["checks"])
        parts.append(f"**Gate: {verdict}** ({model['name']} version {model['version']})\n\n{checks}")
    if links:
        parts.append(_join_links(links))
    if index:
        parts.append(f"All pages of the run: `{index}`")
    return "\n\n".join(parts)
