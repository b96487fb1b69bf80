"""Defines the two custom expectations, which compare each row with other rows.

The `type: ignore` comments are needed because mypy skips the source of great_expectations (see pyproject.toml).
"""

from __future__ import annotations

from typing import Any, ClassVar

import pandas as pd
from great_expectations.execution_engine import PandasExecutionEngine
from great_expectations.expectations.expectation import MulticolumnMapExpectation
from great_expectations.expectations.metrics.map_metric_provider import (
    MulticolumnMapMetricProvider,
    multicolumn_condition_partial,
)

from resnet50_pipeline.expectations.row_rules import follows_folder, is_in_one_split


class _LabelFollowsFolder(MulticolumnMapMetricProvider):  # type: ignore[misc]
    """Metric for `ExpectLabelsToFollowFolders`."""

    condition_metric_name = "multicolumn_values.label_follows_folder"
    condition_domain_keys = ("batch_id", "table", "column_list", "row_condition", "condition_parser", "ignore_row_if")

    @multicolumn_condition_partial(engine=PandasExecutionEngine)  # type: ignore[untyped-decorator]
    def _pandas(cls, column_list: pd.DataFrame, **_: Any) -> pd.Series[bool]:  # noqa: N805 - Great Expectations passes the class
        return follows_folder(column_list)


class _ContentInOneSplit(MulticolumnMapMetricProvider):  # type: ignore[misc]
    """Metric for `ExpectContentToBeInOneSplit`."""

    condition_metric_name = "multicolumn_values.content_in_one_split"
    condition_domain_keys = ("batch_id", "table", "column_list", "row_condition", "condition_parser", "ignore_row_if")

    @multicolumn_condition_partial(engine=PandasExecutionEngine)  # type: ignore[untyped-decorator]
    def _pandas(cls, column_list: pd.DataFrame, **_: Any) -> pd.Series[bool]:  # noqa: N805 - as above
        return is_in_one_split(column_list)


class ExpectLabelsToFollowFolders(MulticolumnMapExpectation):  # type: ignore[misc]
    """Expect each class folder to have one label in both splits, and no other folder to have the same label."""

    column_list: list[str] = ["split", "synset", "label"]  # noqa: RUF012 - a field of a pydantic model
    map_metric: ClassVar[str] = "multicolumn_values.label_follows_folder"


class ExpectContentToBeInOneSplit(MulticolumnMapExpectation):  # type: ignore[misc]
    """Expect no image in val/ to have the same content as an image in train/."""

    column_list: list[str] = ["split", "sha256"]  # noqa: RUF012 - as above
    map_metric: ClassVar[str] = "multicolumn_values.content_in_one_split"
