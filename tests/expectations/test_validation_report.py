"""The report and Data Docs show the first problems, the findings files list them all, and the page works offline."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pandas as pd
import pytest

from faulty_dataset import encode
from resnet50_pipeline.exceptions import ValidationFailedError
from resnet50_pipeline.expectations.claims import CLAIMS
from resnet50_pipeline.expectations.distributions import compute_distributions
from resnet50_pipeline.expectations.docs import write_data_docs
from resnet50_pipeline.expectations.findings import PROBLEMS_SHOWN, Finding, read_blocking_problems, write_findings
from resnet50_pipeline.expectations.near_duplicates import OTHER_LABEL, OTHER_SPLIT
from resnet50_pipeline.expectations.odd_images import ODD_EXPECTATIONS
from resnet50_pipeline.expectations.report import build_report, compute_statistics, require_valid
from resnet50_pipeline.expectations.thumbnails import Gallery, make_gallery
from resnet50_pipeline.expectations.validation import validate_manifest
from resnet50_pipeline.imagenet.layout import find_layout, read_lists
from resnet50_pipeline.imagenet.lists.fixes import ReviewCommands
from resnet50_pipeline.imagenet.scan.digest import compute_data_digest
from resnet50_pipeline.imagenet.scan.scan import scan_dataset

NAMES = [name for name in CLAIMS if name not in ("images_are_as_they_were", OTHER_SPLIT, OTHER_LABEL)]
BLOCKING = ("images_exist", "images_decode", "every_class_has_train_images")
NO_IMAGES = Gallery((), 0, {})


@pytest.fixture
def manifest(digits: Path) -> pd.DataFrame:
    """The manifest of the sample."""
    lists = read_lists(find_layout(digits), class_num=10)
    return scan_dataset(digits, {split: one.entries for split, one in lists.items()}, workers=1)


@pytest.fixture
def broken_manifest(digits: Path) -> pd.DataFrame:
    """The manifest of a sample that lacks the 36 training images of the digits 0..8 and has a truncated val image."""
    for path in sorted(digits.glob("train/n0000000[0-8]/*")):
        path.unlink()
    path = min(digits.glob("val/n00000000/*"))
    path.write_bytes(path.read_bytes()[:100])
    (digits / "train" / "n00000000" / "<script>alert(1)<" / "script>").mkdir(parents=True)
    (digits / "train" / "n00000000" / "<script>alert(1)<" / "script>" / "x.JPEG").write_bytes(b"")
    lists = read_lists(find_layout(digits), class_num=10)
    return scan_dataset(digits, {split: one.entries for split, one in lists.items()}, workers=1)


def test_the_report_describes_the_dataset(manifest: pd.DataFrame) -> None:
    """The report is plain JSON with a verdict, a digest, statistics and one entry per expectation."""
    validation = validate_manifest(manifest, 10, BLOCKING)
    report = build_report(manifest, validation.findings, ["train_list.txt: a byte-order mark was stripped"])
    assert json.loads(json.dumps(report)) == report
    assert report["is_valid"] is True
    assert report["data_digest"] == compute_data_digest(manifest)
    assert report["notices"] == ["train_list.txt: a byte-order mark was stripped"]
    assert report["statistics"]["train"] == {
        "images": 40,
        "classes": 10,
        "min_images_per_class": 4,
        "max_images_per_class": 4,
        "bytes": int(manifest.query("split == 'train'")["bytes"].sum()),
    }
    assert report["statistics"]["formats"] == {"JPEG": 60}
    assert report["statistics"]["suffixes"] == {".JPEG": 60}
    assert [one["name"] for one in report["expectations"]] == NAMES
    assert {one["name"] for one in report["expectations"] if one["is_blocking"]} == set(BLOCKING)
    require_valid(report)


def test_a_notice_counts_the_known_images_of_imagenet(manifest: pd.DataFrame) -> None:
    """A notice gives the number of known PNG and CMYK images from ILSVRC2012."""
    manifest.loc[0, ["path", "format"]] = ["train/n02105855/n02105855_2933.JPEG", "PNG"]
    manifest.loc[1, ["path", "mode"]] = ["train/n01739381/n01739381_1309.JPEG", "CMYK"]
    (notice,) = build_report(manifest, [])["notices"]
    assert "1 PNG and 1 CMYK" in notice


def test_unchecked_expectations_are_reported(manifest: pd.DataFrame, tmp_path: Path) -> None:
    """The report lists the unchecked expectations and the setting, and the page does not say `Ready for training`."""
    header = manifest.assign(sha256="", scan_level="header")
    validation = validate_manifest(header, 10, BLOCKING)
    report = build_report(header, validation.findings)
    assert report["statistics"]["scan_levels"] == {"header": 60}
    (notice,) = report["notices"]
    unchecked = {one["name"] for one in report["expectations"] if not one["is_checked"]}
    content = {"images_decode", "copies_have_one_label", "splits_share_no_image", "images_are_unique"}
    assert content | set(ODD_EXPECTATIONS[:5]) == unchecked
    assert all(name in notice for name in (*unchecked, "images_decode (blocking)", "scan.level: full"))
    by_name = {one["name"]: one for one in report["expectations"]}
    assert "not checked" in by_name["images_decode"]["observed"]
    assert (by_name["images_decode"]["is_checked"], by_name["images_decode"]["unread_images"]) == (False, 60)
    write_data_docs(tmp_path, validation, report, compute_distributions(header), NO_IMAGES)
    page = (tmp_path / "index.html").read_text()
    assert "Ready for training" not in page
    assert "1 blocking check" in page
    assert "Not checked" in page


def test_a_mixed_scan_counts_the_unread_images(manifest: pd.DataFrame) -> None:
    """If only some images were fully read, the result of a claim about content gives the number of unread images."""
    mixed = manifest.copy()
    mixed.loc[:9, "sha256"] = ""
    mixed.loc[:9, "scan_level"] = "header"
    report = build_report(mixed, validate_manifest(mixed, 10, BLOCKING).findings)
    assert "(header 10, full 50)" in report["notices"][0]
    by_name = {one["name"]: one for one in report["expectations"]}
    assert "10 of 60" in by_name["images_decode"]["observed"]
    assert by_name["images_decode"]["is_checked"]
    assert by_name["images_are_jpeg"]["unread_images"] == 0


def test_statistics_of_an_empty_split_are_zero(manifest: pd.DataFrame) -> None:
    """An empty split has counts of zero and does not cause an error."""
    assert compute_statistics(manifest.head(0))["val"]["max_images_per_class"] == 0


def test_the_report_caps_problems_and_counts_them(broken_manifest: pd.DataFrame) -> None:
    """The report contains the first problems and the total number, and require_valid raises an error with both."""
    report = build_report(broken_manifest, validate_manifest(broken_manifest, 10, BLOCKING).findings)
    missing = next(one for one in report["expectations"] if one["name"] == "images_exist")
    assert report["is_valid"] is False
    assert (missing["success"], missing["observed"]) == (False, "36 of 60 images fail")
    assert missing["problem_count"] == 36
    assert len(missing["problems"]) == PROBLEMS_SHOWN
    with pytest.raises(ValidationFailedError, match=r"train_list\.txt:1: .* → .* \[images_exist\]"):
        require_valid(report)


def test_findings_have_all_problems_and_can_be_read_back(broken_manifest: pd.DataFrame, tmp_path: Path) -> None:
    """findings.txt contains one line per problem, and its first lines show every kind of blocking problem."""
    findings = validate_manifest(broken_manifest, 10, BLOCKING).findings
    write_findings(tmp_path / "findings.txt", findings)
    lines = (tmp_path / "findings.txt").read_text().splitlines()
    assert len(lines) == sum(len(finding.problems) for finding in findings)
    problems = read_blocking_problems(tmp_path / "findings.txt")
    assert len(problems) == 37
    assert [problem.split("[")[-1] for problem in problems[:3]] == ["images_exist]", "images_decode]", "images_exist]"]
    (warning,) = (line for line in lines if line.startswith("warning: "))
    assert warning.startswith("warning: train/n00000000/<script>alert(1)</script>/x.JPEG ")
    assert warning.endswith("[no_unlisted_images]")


def test_findings_without_problems_are_an_empty_file(tmp_path: Path) -> None:
    """If all expectations pass, findings.txt exists and is empty."""
    write_findings(tmp_path / "findings.txt", [Finding("images_exist", "…", True, True, "3 images")])
    assert (tmp_path / "findings.txt").read_bytes() == b""
    assert read_blocking_problems(tmp_path / "findings.txt") == []


def test_findings_name_the_next_commands(broken_manifest: pd.DataFrame, tmp_path: Path) -> None:
    """findings.txt and Data Docs contain the full commands that review the images and apply the decisions."""
    review = ReviewCommands("kedro review a/findings.jsonl --env photos", "kedro data-fix a/b.csv --env photos")
    validation = validate_manifest(broken_manifest, 10, BLOCKING)
    report, distributions = build_report(broken_manifest, validation.findings), compute_distributions(broken_manifest)
    write_data_docs(tmp_path, validation, report, distributions, NO_IMAGES, review=review)
    first, second, *_ = (tmp_path / "findings.txt").read_text().splitlines()
    assert first == f"# review the images: {review.review}; apply the decisions: {review.fix}"
    assert second.startswith("blocking: ")
    page = _Page((tmp_path / "index.html").read_text())
    assert f"Review the images with {review.review}, then apply your decisions with {review.fix}." in page.text


class _Page(HTMLParser):
    """The text, elements and link targets of a page."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.targets: list[str] = []
        self.tags: set[str] = set()
        self.headings: list[str] = []
        self.text = ""
        self.feed(html)
        self.text = re.sub(r"\s+", " ", self.text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.targets += [value for name, value in attrs if name in ("href", "src", "srcset") and value]

    def handle_data(self, data: str) -> None:
        self.text += data
        if self.lasttag == "h2" and data.strip():
            self.headings.append(data.strip())


def write_page(manifest: pd.DataFrame, folder: Path) -> _Page:
    """Validate a manifest, write its Data Docs and return the parsed page."""
    folder.mkdir(exist_ok=True)
    validation = validate_manifest(manifest, 10, BLOCKING)
    distributions = compute_distributions(manifest)
    gallery = make_gallery(manifest, distributions.class_counts, validation.findings, lambda _: encode("L"))
    write_data_docs(folder, validation, build_report(manifest, validation.findings), distributions, gallery)
    return _Page((folder / "index.html").read_text(encoding="utf-8"))


def test_the_page_is_self_contained(broken_manifest: pd.DataFrame, tmp_path: Path) -> None:
    """Data Docs load nothing from the network or from other files, and run no scripts."""
    page = write_page(broken_manifest, tmp_path)
    others = [target for target in page.targets if not target.startswith("data:")]
    assert {target for target in others if not target.startswith("#")} == {"findings.txt"}
    assert not page.tags & {"script", "iframe"}
    assert "@import" not in (tmp_path / "index.html").read_text()
    assert "url(" not in (tmp_path / "index.html").read_text()


def test_the_page_of_valid_data_links_only_to_its_own_files(manifest: pd.DataFrame, tmp_path: Path) -> None:
    """The page has no links to other pages, because the folder may be copied or have no index page next to it."""
    page = write_page(manifest, tmp_path)
    assert all(target.startswith(("data:", "#")) or (tmp_path / target).is_file() for target in page.targets)


def test_the_page_shows_the_problems(broken_manifest: pd.DataFrame, tmp_path: Path) -> None:
    """The page shows the number of errors, the claims, the problems and Great Expectations' own rendering."""
    page = write_page(broken_manifest, tmp_path)
    assert "Blocked: fix 2 errors before training" in page.text
    assert f"{len(NAMES) - 3} of {len(NAMES)} expectations" in page.text
    assert "2 errors and 1 warning" in page.text
    assert all(heading in page.headings for heading in ("Errors", "Warnings", "Passed"))
    assert all(claim.description in page.text and claim.reason in page.text for claim in map(CLAIMS.get, NAMES))
    assert "26 more" in page.text
    assert "Not met: Every listed image exists." in page.text
    assert page.text.count("Not met: ") == 3
    assert "Table-Level Expectations" in page.text
    assert "36 unexpected values found." in page.text


def test_the_page_of_a_valid_dataset_says_ready_for_training(manifest: pd.DataFrame, tmp_path: Path) -> None:
    """The page of a valid dataset has no headings for errors and warnings."""
    page = write_page(manifest, tmp_path)
    assert "Ready for training" in page.text
    assert f"{len(NAMES)} of {len(NAMES)} expectations" in page.text
    assert not {"Errors", "Warnings"} & set(page.headings)
    assert "0.0 MiB" not in page.text


def test_names_of_files_are_text_and_not_markup(broken_manifest: pd.DataFrame, tmp_path: Path) -> None:
    """A file name that contains HTML is shown as text in both renderings."""
    broken_manifest.loc[broken_manifest["status"] == "unlisted", "status"] = "ok"
    page = write_page(broken_manifest, tmp_path)
    assert "script" not in page.tags
    assert "<script>alert(1)</script>" in page.text


def test_the_same_findings_give_the_same_page(broken_manifest: pd.DataFrame, tmp_path: Path) -> None:
    """Data Docs contain no times or random identifiers, so DVC detects a change only if there is one."""
    write_page(broken_manifest, tmp_path / "a")
    write_page(broken_manifest, tmp_path / "b")
    assert (tmp_path / "a" / "index.html").read_bytes() == (tmp_path / "b" / "index.html").read_bytes()
