"""Data Docs: one HTML page that says whether a data set may be trained on, and why not.

Great Expectations' own page loads its styles from five places on the network. Here its sections are rendered by its
own templates, into a page that needs nothing but itself.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from great_expectations.core import ExpectationSuiteValidationResult, ExpectationValidationResult
from great_expectations.render.renderer import ValidationResultsPageRenderer
from great_expectations.render.view import DefaultJinjaPageView

from resnet50_pipeline.expectations.claims import SUITES
from resnet50_pipeline.expectations.distributions import Distributions
from resnet50_pipeline.expectations.findings import (
    FINDINGS_FILE,
    FINDINGS_JSON_FILE,
    write_findings,
    write_findings_json,
)
from resnet50_pipeline.expectations.pictures import draw_pictures
from resnet50_pipeline.expectations.validation import Validation
from resnet50_pipeline.files import write_text

INDEX_FILE = "index.html"
_TEMPLATES = Path(__file__).parent / "templates"


def write_data_docs(
    folder: Path, validation: Validation, report: Mapping[str, Any], distributions: Distributions
) -> None:
    """Write `index.html`, `findings.txt` and `findings.jsonl`, which both hold every problem, into `folder`.

    The same findings give the same bytes.

    Args:
        folder: exists.
        validation: what the expectations came to.
        report: of the same validation, as `expectations.report.build_report` gives it.
        distributions: of the same manifest, for the pictures.
    """
    write_findings(folder / FINDINGS_FILE, validation.findings)
    write_findings_json(folder / FINDINGS_JSON_FILE, validation.findings)
    page = ValidationResultsPageRenderer(run_info_at_end=True).render(_shorten(validation))
    # The first section repeats the head of the page, with links to pages that are not there. The last holds times and
    # identifiers of this run, which would make a new page of the same findings.
    page.sections = page.sections[1:-1]
    view = DefaultJinjaPageView(custom_views_directory=str(_TEMPLATES))
    html = view.render(
        page,
        template="data_docs.j2",
        report=report,
        pictures=draw_pictures(distributions),
        reasons={name: claim.reason for name, claim in SUITES[validation.suite_name].items()},
    )
    write_text(folder / INDEX_FILE, html)


def _shorten(validation: Validation) -> ExpectationSuiteValidationResult:
    """Return the result without its lists of every value that was not expected: millions, perhaps."""
    observed = {finding.name: finding.observed for finding in validation.findings}
    result = copy.copy(validation.result)
    result.results = [
        _shorten_one(one, observed[one.expectation_config.meta["name"]]) for one in validation.result.results
    ]
    return result


def _shorten_one(result: ExpectationValidationResult, observed: str) -> ExpectationValidationResult:
    values = {
        key: value
        for key, value in result.result.items()
        if key not in ("unexpected_list", "unexpected_index_list", "partial_unexpected_index_list")
    }
    # The renderer of great_expectations 1.24 divides by what an expectation about sets does not give.
    if "unexpected_percent" not in values:
        values = {"observed_value": observed}
    shortened = copy.copy(result)
    shortened.result = values
    return shortened
