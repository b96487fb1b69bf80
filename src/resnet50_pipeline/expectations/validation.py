"""Runs the suite over a manifest with Great Expectations, in memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import great_expectations as gx
import pandas as pd
from great_expectations.core import ExpectationSuiteValidationResult, ExpectationValidationResult
from great_expectations.core.expectation_suite import ExpectationSuite
from great_expectations.data_context.types.base import ProgressBarsConfig

from resnet50_pipeline.expectations.findings import Finding
from resnet50_pipeline.expectations.problems import explain_absent_classes, explain_rows, explain_unlike_classes
from resnet50_pipeline.expectations.suite import CLAIMS, add_known_images, build_suite, check_names
from resnet50_pipeline.imagenet.list_files import Split
from resnet50_pipeline.imagenet.manifest import select_listed

DEFAULT_LIST_NAMES: Mapping[Split, str] = {"train": "train_list.txt", "val": "val_list.txt"}


@dataclass(frozen=True)
class Validation:
    """The outcome of all expectations.

    Attributes:
        findings: one for each expectation, in the order of `CLAIMS`.
        suite: what was expected.
        result: what Great Expectations found, with every value that was not expected.
    """

    findings: tuple[Finding, ...]
    suite: ExpectationSuite
    result: ExpectationSuiteValidationResult

    @property
    def is_valid(self) -> bool:
        """Whether every blocking expectation holds."""
        return all(finding.success for finding in self.findings if finding.is_blocking)


def validate_manifest(
    manifest: pd.DataFrame,
    class_num: int,
    blocking: Sequence[str],
    list_names: Mapping[Split, str] = DEFAULT_LIST_NAMES,
) -> Validation:
    """Hold a manifest against all expectations.

    Args:
        manifest: as `imagenet.scan.scan_dataset` gives it.
        class_num: number of classes.
        blocking: names of the expectations that must hold.
        list_names: name of each split's list file, for the problems' places.

    Raises:
        ParameterError: `blocking` has a name that is not an expectation's.
    """
    check_names(blocking)
    manifest = manifest.reset_index(drop=True)
    train = select_listed(manifest, "train")
    # In memory: nothing is written, asked of the network, or sent anywhere.
    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = ProgressBarsConfig(globally=False)
    suite = context.suites.add(build_suite(class_num, train["label"].astype(int), blocking))
    batch = context.data_sources.add_pandas("dataset").add_dataframe_asset("manifest")
    definition = gx.ValidationDefinition(
        name=suite.name, data=batch.add_batch_definition_whole_dataframe("all images"), suite=suite
    )
    result = context.validation_definitions.add(definition).run(
        batch_parameters={"dataframe": add_known_images(manifest)},
        result_format={"result_format": "COMPLETE", "return_unexpected_index_query": False},
    )
    by_name = {one.expectation_config.meta["name"]: one for one in result.results}
    findings = []
    for name, claim in CLAIMS.items():
        values = _require_evaluated(name, by_name[name])
        success = bool(by_name[name].success)
        observed, problems = _describe(name, values, manifest, class_num, list_names)
        findings.append(
            Finding(name, claim.description, name in blocking, success, observed, () if success else tuple(problems))
        )
    return Validation(tuple(findings), suite, result)


def _require_evaluated(name: str, result: ExpectationValidationResult) -> Mapping[str, Any]:
    """Return the values of a result; one that could not be evaluated is a fault here, and says nothing of the data."""
    if result.exception_info.get("raised_exception", True):
        raise RuntimeError(f"expectation {name} could not be evaluated: {result.exception_info}")
    values: Mapping[str, Any] = result.result
    return values


def _describe(
    name: str, values: Mapping[str, Any], manifest: pd.DataFrame, class_num: int, list_names: Mapping[Split, str]
) -> tuple[str, list[str]]:
    """Return what was seen, and the problems if the expectation does not hold."""
    if name in ("train_is_not_empty", "val_is_not_empty"):
        split = name.partition("_")[0]
        return f"{values['observed_value']} images", [f"{split}: the list names no image → give it at least one line"]
    if name == "every_class_has_train_images":
        problems = explain_absent_classes(manifest, class_num)
        return f"{class_num - len(problems)} of {class_num} classes have images", problems
    if name == "val_has_the_classes_of_train":
        problems = explain_unlike_classes(manifest)
        return f"{len(problems)} classes are in one split only", problems
    rows = values["unexpected_index_list"] or []
    problems = explain_rows(name, manifest, rows, class_num, list_names)
    observed = (
        f"{len(rows)} of {values['element_count']} images break it" if rows else f"{values['element_count']} images"
    )
    return observed, problems
