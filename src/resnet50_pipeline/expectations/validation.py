"""Validates a manifest with Great Expectations, in memory."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pandas as pd

from resnet50_pipeline.expectations.batch import build_batch
from resnet50_pipeline.expectations.claims import SUITES, Claim, SuiteName, require_known_names
from resnet50_pipeline.expectations.class_problems import (
    CLASS_EXPECTATIONS,
    COUNT_EXPECTATIONS,
    describe_count,
    explain_class_rows,
    explain_classes_in_one_split,
    explain_known_images,
    explain_missing_classes,
)
from resnet50_pipeline.expectations.findings import PROBLEMS_SHOWN, Finding, Problem
from resnet50_pipeline.expectations.near_duplicates import (
    OTHER_LABEL,
    OTHER_SPLIT,
    NearDuplicates,
    explain_near_duplicates,
)
from resnet50_pipeline.expectations.odd_images import (
    GALLERY_IMAGES,
    OddImages,
    explain_odd_images,
    find_odd_images,
)
from resnet50_pipeline.expectations.problems import explain_rows
from resnet50_pipeline.imagenet.lists.files import Split
from resnet50_pipeline.imagenet.scan.manifest import select_listed
from resnet50_pipeline.text import pluralize

# Importing Great Expectations takes seconds, so only the functions that call it import it.
if TYPE_CHECKING:
    from great_expectations.core import ExpectationSuiteValidationResult, ExpectationValidationResult
    from great_expectations.core.expectation_suite import ExpectationSuite

_SYNSET = re.compile("n[0-9]{8}")
DEFAULT_LIST_NAMES: Mapping[Split, str] = {"train": "train_list.txt", "val": "val_list.txt"}


@dataclass(frozen=True)
class Validation:
    """Results of all expectations.

    Attributes:
        suite_name: name of the suite.
        findings: one finding per expectation, in the order of the suite's claims. Without an earlier manifest,
            `images_are_as_they_were` is omitted.
        suite: the suite that was run.
        result: the result from Great Expectations, including all unexpected values.
    """

    suite_name: SuiteName
    findings: tuple[Finding, ...]
    suite: ExpectationSuite
    result: ExpectationSuiteValidationResult


def validate_manifest(
    manifest: pd.DataFrame,
    class_num: int,
    blocking: Sequence[str],
    list_names: Mapping[Split, str] = DEFAULT_LIST_NAMES,
    *,
    suite_name: SuiteName = "imagenet_layout",
    reference: pd.DataFrame | None = None,
    class_folders: Mapping[int, str] | None = None,
    near: NearDuplicates | None = None,
) -> Validation:
    """Validate a manifest against all expectations in a suite.

    Args:
        manifest: result of `imagenet.scan.scan_dataset`.
        class_num: number of classes.
        blocking: names of the expectations that must pass.
        list_names: file name of each split's list, used in the problem descriptions; "" if there is no file.
        suite_name: name of the suite.
        reference: an earlier manifest. Images that are in both manifests must have the same digest.
        class_folders: class folder of each label, if the lists were generated from folders.
        near: near-duplicates in the manifest. If None, the expectations about near-duplicates are omitted.

    Raises:
        ParameterError: if `blocking` contains a name that is not in the suite.
    """
    from resnet50_pipeline.expectations.suite import build_suite

    require_known_names(blocking, suite_name)
    manifest = manifest.reset_index(drop=True)
    odd = find_odd_images(manifest)
    batch = build_batch(manifest, reference, near, odd)
    train_labels = select_listed(manifest, "train")["label"].unique().tolist()
    suite = build_suite(
        class_num,
        train_labels,
        blocking,
        suite_name,
        has_reference=reference is not None,
        has_near_duplicates=near is not None,
        has_synsets=suite_name == "ilsvrc2012" or has_synset_names(manifest),
    )
    result = run_suite(suite, batch)
    context = _Context(manifest, batch, class_num, list_names, class_folders or {}, near, odd)
    by_name = {one.expectation_config.meta["name"]: one for one in result.results}
    findings = tuple(
        _make_finding(claim, by_name[name], context, is_blocking=name in blocking)
        for name, claim in SUITES[suite_name].items()
        if name in by_name
    )
    return Validation(suite_name, findings, suite, result)


def has_synset_names(manifest: pd.DataFrame) -> bool:
    """Return whether all class folders of the training images have the names of synsets, such as n01440764."""
    names = select_listed(manifest, "train")["synset"].astype(str).unique()
    return len(names) > 0 and all(_SYNSET.fullmatch(name) for name in names)


_READ = {"header": "headers", "content": "content"}


def run_suite(suite: ExpectationSuite, batch: pd.DataFrame) -> ExpectationSuiteValidationResult:
    """Validate a table with a suite. Nothing is written."""
    import great_expectations as gx
    from great_expectations.data_context.types.base import ProgressBarsConfig

    # An ephemeral context writes no files and sends no usage statistics.
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


def _make_finding(
    claim: Claim, result: ExpectationValidationResult, context: _Context, *, is_blocking: bool
) -> Finding:
    success = bool(result.success)
    observed, problems = _describe(claim.name, _require_evaluated(claim.name, result), context)
    read, unread = _count_read(claim, context.batch)
    is_checked = not success or read > 0 or not unread
    if unread:
        what = _READ[claim.reads]
        partly = f"{observed}; the scan did not read the {what} of {unread:,} of {read + unread:,} images"
        observed = partly if is_checked else f"not checked, because the scan did not read the {what} of the images"
    return Finding(
        name=claim.name,
        description=claim.description,
        is_blocking=is_blocking,
        success=success,
        observed=observed,
        problems=() if success else tuple(problems),
        is_checked=is_checked,
        unread_images=unread,
        examples=_list_examples(result, context.manifest),
        gallery=tuple(problem.path for problem in problems[:GALLERY_IMAGES]) if claim.name in context.odd else (),
    )


def _list_examples(result: ExpectationValidationResult, manifest: pd.DataFrame) -> tuple[str, ...]:
    rows = result.result.get("unexpected_index_list") or []
    return tuple(manifest.loc[rows[:PROBLEMS_SHOWN], "path"])


def _count_read(claim: Claim, batch: pd.DataFrame) -> tuple[int, int]:
    """Count the readable images.

    Return the number of images for which the claim can be checked, and the number of images for which it cannot,
    because the scan read too little of them.
    """
    is_readable = batch["status"] == "ok"
    if claim.reads == "folders":
        return int(is_readable.sum()), 0
    is_read = is_readable & (batch["format" if claim.reads == "header" else "sha256"] != "")
    return int(is_read.sum()), int(is_readable.sum() - is_read.sum())


def _require_evaluated(name: str, result: ExpectationValidationResult) -> Mapping[str, Any]:
    """Return the values of a result.

    Raise RuntimeError if Great Expectations failed to compute the values, which is a bug.
    """
    if result.exception_info.get("raised_exception", True):
        raise RuntimeError(f"expectation {name} could not be evaluated, which is a bug: {result.exception_info}")
    values: Mapping[str, Any] = result.result
    return values


@dataclass(frozen=True)
class _Context:
    """Tables and parameters that are needed to explain problems."""

    manifest: pd.DataFrame
    batch: pd.DataFrame
    class_num: int
    list_names: Mapping[Split, str]
    class_folders: Mapping[int, str]
    near: NearDuplicates | None
    odd: Mapping[str, OddImages]


def _describe(name: str, values: Mapping[str, Any], context: _Context) -> tuple[str, list[Problem]]:
    """Return the observed result as text, and the problems."""
    if "unexpected_index_list" not in values:
        return _describe_whole(name, values, context)
    rows = values["unexpected_index_list"] or []
    if name in (OTHER_SPLIT, OTHER_LABEL) and context.near is not None:
        count, noun = values["element_count"], "images"
        problems = explain_near_duplicates(name, context.near, context.manifest, context.list_names)
    elif name in context.odd:
        count, noun = values["element_count"], "images"
        problems = explain_odd_images(context.odd[name], context.manifest, context.list_names)
    elif name in CLASS_EXPECTATIONS:
        count, noun = context.class_num, "classes"
        problems = explain_class_rows(name, context.manifest, context.batch, rows, context.list_names)
    else:
        count, noun = values["element_count"], "images"
        problems = explain_rows(name, context.manifest, rows, context.class_num, context.list_names)
    if name == "synsets_are_those_of_ilsvrc2012":
        return "a different set of synsets" if rows else "the 1000 synsets of ILSVRC2012", problems
    if not rows:
        return f"{count:,} {noun}", problems
    pairs = int(context.near.select(name).sum()) if context.near and name in (OTHER_SPLIT, OTHER_LABEL) else 0
    in_pairs = f", in {pluralize(pairs, 'pair')}" if pairs else ""
    return f"{len(rows):,} of {count:,} {noun} fail{in_pairs}", problems


def _describe_whole(name: str, values: Mapping[str, Any], context: _Context) -> tuple[str, list[Problem]]:
    """Return the observed result (as text) and the problems for a dataset-wide expectation."""
    if name in COUNT_EXPECTATIONS:
        return describe_count(name, int(values["observed_value"]), context.list_names)
    if name == "every_class_has_train_images":
        problems = explain_missing_classes(
            context.manifest, context.class_num, context.list_names, context.class_folders
        )
        return f"{context.class_num - len(problems)} of {context.class_num} classes have images", problems
    if name == "val_has_the_classes_of_train":
        problems = explain_classes_in_one_split(context.manifest, context.list_names, context.class_folders)
        return (
            f"{len(problems)} classes are in only one split" if problems else "both splits have the same classes",
            problems,
        )
    problems = explain_known_images(name, context.manifest, context.batch, context.list_names)
    return f"{len(problems)} are missing or converted" if problems else "all are present", problems
