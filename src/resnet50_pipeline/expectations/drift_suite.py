"""Validates shifts with Great Expectations: one expectation per column, with the effect sizes in its `meta`."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

import great_expectations as gx
import great_expectations.expectations as gxe
import pandas as pd

from resnet50_pipeline.expectations.drift import MAJOR, Shift
from resnet50_pipeline.expectations.validation import run_suite


def validate_shifts(shifts: Iterable[Shift]) -> dict[str, Any]:
    """Return Great Expectations' result as a JSON object. An expectation fails if its column has a major shift.

    The validated table has a single row, which contains the population stability index of each column.
    """
    shifts = list(shifts)
    expectations = [
        gxe.ExpectColumnValuesToBeBetween(
            column=shift.column,
            max_value=max(MAJOR, shift.bound),
            meta={"name": f"{shift.column} has no major shift", "shift": shift.size, **asdict(shift)},
        )
        for shift in shifts
    ]
    suite = gx.ExpectationSuite(name="drift", expectations=expectations)
    result = run_suite(suite, pd.DataFrame({shift.column: [shift.psi] for shift in shifts}))
    return dict(result.to_json_dict())
