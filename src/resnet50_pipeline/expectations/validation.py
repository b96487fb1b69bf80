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

from resnet50_pipeline.expectations.batch import build_batch
from resnet50_pipeline.expectations.claims import SUITES, Claim, SuiteName, check_names
from resnet50_pipeline.expectations.class_problems import (
    ABOUT_COUNTS,
    CLASS_EXPECTATIONS,
    describe_count,
    explain_absent_classes,
    explain_class_rows,
    explain_known_images,
    explain_unlike_classes,
)
from resnet50_pipeline.expectations.findings import Finding, Problem
from resnet50_pipeline.expectations.problems import explain_rows
from resnet50_pipeline.expectations.suite import build_suite
from resnet50_pipeline.imagenet.list_files import Split
from resnet50_pipeline.imagenet.manifest import select_listed

DEFAULT_LIST_NAMES: Mapping[Split, str] = {"train": "train_list.txt", "val": "val_list.txt"}


@dataclass(frozen=True)
class Validation:
    """The outcome of all expectations.

    Attributes:
        suite_name: which suite.
        findings: one for each expectation, in the order of the suite's claims; `images_are_as_they_were` has one only
            where there is an earlier manifest.
        suite: what was expected.
        result: what Great Expectations found, with every value that was not expected.
    """

    suite_name: SuiteName
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
    *,
    suite_name: SuiteName = "imagenet_layout",
    reference: pd.DataFrame | None = None,
) -> Validation:
    """Hold a manifest against all expectations of a suite.

    Args:
        manifest: as `imagenet.scan.scan_dataset` gives it.
        class_num: number of classes.
        blocking: names of the expectations that must hold.
        list_names: name of each split's list file, for the problems' places.
        suite_name: which expectations.
        reference: an earlier manifest, whose images must still have the digest that they have there.

    Raises:
        ParameterError: `blocking` has a name that is not of an expectation of the suite.
    """
    check_names(blocking, suite_name)
    manifest = manifest.reset_index(drop=True)
    batch = build_batch(manifest, reference)
    train_labels = select_listed(manifest, "train")["label"].unique().tolist()
    suite = build_suite(class_num, train_labels, blocking, suite_name, has_reference=reference is not None)
    result = _run_suite(suite, batch)
    seen = _Seen(manifest, batch, class_num, list_names)
    by_name = {one.expectation_config.meta["name"]: one for one in result.results}
    findings = []
    for name, claim in SUITES[suite_name].items():
        if name not in by_name:
            continue
        values = _require_evaluated(name, by_name[name])
        success = bool(by_name[name].success)
        observed, problems = _describe(name, values, seen)
        read, unread = _count_read(claim, batch)
        is_checked = not success or read > 0 or not unread
        if unread:
            what = f"the scan did not read the {_READ[claim.reads]}"
            of_some = f"{observed}; of {unread:,} of {read + unread:,} {what}"
            observed = of_some if is_checked else f"not checked at this level: {what}"
        findings.append(
            Finding(
                name=name,
                description=claim.description,
                is_blocking=name in blocking,
                success=success,
                observed=observed,
                problems=() if success else tuple(problems),
                is_checked=is_checked,
                unread_images=unread,
            )
        )
    return Validation(suite_name, tuple(findings), suite, result)


_READ = {"header": "headers of the images", "content": "content of the images"}


def _run_suite(suite: ExpectationSuite, batch: pd.DataFrame) -> ExpectationSuiteValidationResult:
    # In memory: nothing is written, asked of the network, or sent anywhere.
    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = ProgressBarsConfig(globally=False)
    suite = context.suites.add(suite)
    asset = context.data_sources.add_pandas("dataset").add_dataframe_asset("manifest")
    definition = gx.ValidationDefinition(
        name=suite.name, data=asset.add_batch_definition_whole_dataframe("all images"), suite=suite
    )
    return context.validation_definitions.add(definition).run(
        batch_parameters={"dataframe": batch},
        result_format={"result_format": "COMPLETE", "return_unexpected_index_query": False},
    )


def _count_read(claim: Claim, batch: pd.DataFrame) -> tuple[int, int]:
    """Return of how many readable images the scan read what the claim is about, and of how many it did not."""
    is_readable = batch["status"] == "ok"
    if claim.reads == "folders":
        return int(is_readable.sum()), 0
    is_read = is_readable & (batch["format" if claim.reads == "header" else "sha256"] != "")
    return int(is_read.sum()), int(is_readable.sum() - is_read.sum())


def _require_evaluated(name: str, result: ExpectationValidationResult) -> Mapping[str, Any]:
    """Return the values of a result; one that could not be evaluated is a fault here, and says nothing of the data."""
    if result.exception_info.get("raised_exception", True):
        raise RuntimeError(f"expectation {name} could not be evaluated: {result.exception_info}")
    values: Mapping[str, Any] = result.result
    return values


@dataclass(frozen=True)
class _Seen:
    """What problems are explained from: the tables, and what surrounds them."""

    manifest: pd.DataFrame
    batch: pd.DataFrame
    class_num: int
    list_names: Mapping[Split, str]


def _describe(name: str, values: Mapping[str, Any], seen: _Seen) -> tuple[str, list[Problem]]:
    """Return what was seen, and the problems if the expectation does not hold."""
    if "unexpected_index_list" not in values:
        return _describe_whole(name, values, seen)
    rows = values["unexpected_index_list"] or []
    if name in CLASS_EXPECTATIONS:
        count, noun = seen.class_num, "classes"
        problems = explain_class_rows(name, seen.manifest, seen.batch, rows, seen.list_names)
    else:
        count, noun = values["element_count"], "images"
        problems = explain_rows(name, seen.manifest, rows, seen.class_num, seen.list_names)
    if name == "synsets_are_those_of_ilsvrc2012":
        return "another set of synsets" if rows else "the thousand", problems
    return f"{len(rows):,} of {count:,} {noun} break it" if rows else f"{count:,} {noun}", problems


def _describe_whole(name: str, values: Mapping[str, Any], seen: _Seen) -> tuple[str, list[Problem]]:
    """Do the same for an expectation that is about the data set as a whole, and not about rows."""
    if name in ABOUT_COUNTS:
        return describe_count(name, int(values["observed_value"]), seen.list_names)
    if name == "every_class_has_train_images":
        problems = explain_absent_classes(seen.manifest, seen.class_num, seen.list_names)
        return f"{seen.class_num - len(problems)} of {seen.class_num} classes have images", problems
    if name == "val_has_the_classes_of_train":
        problems = explain_unlike_classes(seen.manifest, seen.list_names)
        return f"{len(problems)} classes are in one split only", problems
    problems = explain_known_images(name, seen.manifest, seen.batch, seen.list_names)
    return f"{len(problems)} are not there as they are known" if problems else "all are there", problems
