"""Writes Data Docs: one HTML page that shows whether a dataset is ready for training and lists any problems.

Great Expectations' default page loads styles and scripts from five hosts. This page loads nothing from the network,
because it embeds Great Expectations' section templates in a page template with inline styles and images.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from resnet50_pipeline.expectations.claims import SUITES
from resnet50_pipeline.expectations.distributions import Distributions
from resnet50_pipeline.expectations.findings import (
    FINDINGS_FILE,
    FINDINGS_JSON_FILE,
    write_findings,
    write_findings_json,
)
from resnet50_pipeline.expectations.near_duplicates import OTHER_LABEL, OTHER_SPLIT
from resnet50_pipeline.expectations.pictures import draw_pictures
from resnet50_pipeline.expectations.thumbnails import Gallery
from resnet50_pipeline.expectations.validation import Validation
from resnet50_pipeline.files import write_text
from resnet50_pipeline.imagenet.lists.fixes import ReviewCommands
from resnet50_pipeline.text import format_bytes

if TYPE_CHECKING:
    from great_expectations.core import ExpectationSuiteValidationResult, ExpectationValidationResult

INDEX_FILE = "index.html"
_TEMPLATES = Path(__file__).parent / "templates"


def write_data_docs(
    folder: Path,
    validation: Validation,
    report: Mapping[str, Any],
    distributions: Distributions,
    gallery: Gallery,
    *,
    review: ReviewCommands | None = None,
) -> None:
    """Write `index.html`, `findings.txt` and `findings.jsonl` to `folder`. The `findings` files list every problem.

    The same findings always produce the same bytes, so DVC detects a change only when the findings have changed.

    Args:
        folder: an existing folder.
        validation: results of the expectations.
        report: report that `expectations.report.build_report` built from the same validation.
        distributions: distributions of the manifest, shown in the figures.
        gallery: thumbnails of the classes and of the images that failed an expectation.
        review: commands that review the findings and apply the decisions, or None if there are no images to review.
    """
    from great_expectations.render.renderer import ValidationResultsPageRenderer
    from great_expectations.render.view import DefaultJinjaPageView

    write_findings(folder / FINDINGS_FILE, validation.findings, review)
    write_findings_json(folder / FINDINGS_JSON_FILE, validation.findings)
    page = ValidationResultsPageRenderer(run_info_at_end=True).render(_shorten(validation))
    # Drop the first section, which repeats the page header and links to pages that do not exist. Drop the last section,
    # which contains times and run identifiers and would change the page even if the findings are the same.
    page.sections = page.sections[1:-1]
    view = DefaultJinjaPageView(custom_views_directory=str(_TEMPLATES))
    html = view.render(
        page,
        template="data_docs.j2",
        report=report,
        picture_groups=draw_pictures(distributions),
        gallery=gallery,
        review=review,
        near_names=(OTHER_SPLIT, OTHER_LABEL),
        examples={finding.name: finding.shown_paths for finding in validation.findings},
        galleries={finding.name: finding.gallery for finding in validation.findings},
        format_bytes=format_bytes,
        reasons={name: claim.reason for name, claim in SUITES[validation.suite_name].items()},
    )
    write_text(folder / INDEX_FILE, html)


def _shorten(validation: Validation) -> ExpectationSuiteValidationResult:
    """Return a copy without the full lists of unexpected values, which can contain millions of entries."""
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
    # The renderer in great_expectations 1.24 divides by `unexpected_percent`, which set expectations do not report.
    if "unexpected_percent" not in values:
        values = {"observed_value": observed}
    shortened = copy.copy(result)
    shortened.result = values
    return shortened
