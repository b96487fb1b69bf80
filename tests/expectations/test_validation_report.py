"""The report, the list of findings and the Data Docs: capped where people read, complete in a file, offline."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pandas as pd
import pytest

from resnet50_pipeline.exceptions import ValidationFailedError
from resnet50_pipeline.expectations.claims import CLAIMS
from resnet50_pipeline.expectations.distributions import compute_distributions
from resnet50_pipeline.expectations.docs import write_data_docs
from resnet50_pipeline.expectations.findings import Finding, read_blocking_problems, write_findings
from resnet50_pipeline.expectations.report import PROBLEMS_IN_REPORT, build_report, compute_statistics, require_valid
from resnet50_pipeline.expectations.validation import validate_manifest
from resnet50_pipeline.imagenet.digest import compute_data_digest
from resnet50_pipeline.imagenet.layout import find_layout, read_lists
from resnet50_pipeline.imagenet.scan import scan_dataset

NAMES = [name for name in CLAIMS if name != "images_are_as_they_were"]
BLOCKING = ("images_exist", "images_decode", "every_class_has_train_images")


@pytest.fixture
def manifest(digits: Path) -> pd.DataFrame:
    """The manifest of the sample."""
    lists = read_lists(find_layout(digits), class_num=10)
    return scan_dataset(digits, {split: one.entries for split, one in lists.items()}, workers=1)


@pytest.fixture
def broken_manifest(digits: Path) -> pd.DataFrame:
    """The manifest of a sample without the 36 train images of the digits 0..8, with one truncated val image."""
    for path in sorted(digits.glob("train/n0000000[0-8]/*")):
        path.unlink()
    path = min(digits.glob("val/n00000000/*"))
    path.write_bytes(path.read_bytes()[:100])
    (digits / "train" / "n00000000" / "<script>alert(1)<" / "script>").mkdir(parents=True)
    (digits / "train" / "n00000000" / "<script>alert(1)<" / "script>" / "x.JPEG").write_bytes(b"")
    lists = read_lists(find_layout(digits), class_num=10)
    return scan_dataset(digits, {split: one.entries for split, one in lists.items()}, workers=1)


def test_the_report_says_what_the_data_set_is(manifest: pd.DataFrame) -> None:
    """Verdict, digest, statistics and one entry an expectation stand in the report, and it is plain JSON."""
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


def test_the_known_images_of_imagenet_are_noticed(manifest: pd.DataFrame) -> None:
    """How many of ILSVRC2012's known PNG and CMYK images there are stands among the notices."""
    manifest.loc[0, ["path", "format"]] = ["train/n02105855/n02105855_2933.JPEG", "PNG"]
    manifest.loc[1, ["path", "mode"]] = ["train/n01739381/n01739381_1309.JPEG", "CMYK"]
    (notice,) = build_report(manifest, [])["notices"]
    assert notice.startswith("1 PNG and 1 CMYK images are those that ILSVRC2012 is known to have")


def test_what_a_scan_did_not_read_is_told_in_words(manifest: pd.DataFrame, tmp_path: Path) -> None:
    """The report names what was not checked, and the setting; the page does not say that training may begin."""
    header = manifest.assign(sha256="", scan_level="header")
    validation = validate_manifest(header, 10, BLOCKING)
    report = build_report(header, validation.findings)
    assert report["statistics"]["scan_levels"] == {"header": 60}
    (notice,) = report["notices"]
    assert notice == (
        "3 expectations were not checked, for the scan did not read that far: images_decode (blocking), "
        "splits_share_no_image, images_are_unique → set data_validation.scan.level: full"
    )
    by_name = {one["name"]: one for one in report["expectations"]}
    assert by_name["images_decode"]["observed"] == (
        "not checked at this level: the scan did not read the content of the images"
    )
    assert (by_name["images_decode"]["is_checked"], by_name["images_decode"]["unread_images"]) == (False, 60)
    write_data_docs(tmp_path, validation, report, compute_distributions(header))
    page = (tmp_path / "index.html").read_text()
    assert "Nothing speaks against training, but not everything was checked" in page
    assert "The data set may be trained on" not in page
    assert "○ not checked" in page


def test_a_scan_of_two_levels_says_of_how_many_images_a_claim_holds(manifest: pd.DataFrame) -> None:
    """Rows of a former full scan in a header scan do not let a claim about content pass for one about all images."""
    mixed = manifest.copy()
    mixed.loc[:9, "sha256"] = ""
    mixed.loc[:9, "scan_level"] = "header"
    report = build_report(mixed, validate_manifest(mixed, 10, BLOCKING).findings)
    assert report["notices"][0].startswith(
        "not all images were looked at alike (header 10, full 50): what a former scan"
    )
    by_name = {one["name"]: one for one in report["expectations"]}
    assert by_name["images_decode"]["observed"] == (
        "60 images; of 10 of 60 the scan did not read the content of the images"
    )
    assert by_name["images_decode"]["is_checked"]
    assert by_name["images_are_jpeg"]["unread_images"] == 0


def test_statistics_of_nothing_are_zero(manifest: pd.DataFrame) -> None:
    """An empty split has counts of zero, and no error."""
    assert compute_statistics(manifest.head(0))["val"]["max_images_per_class"] == 0


def test_the_report_caps_problems_and_counts_them(broken_manifest: pd.DataFrame) -> None:
    """The report has the first problems and their number; an invalid one is refused with what it has."""
    report = build_report(broken_manifest, validate_manifest(broken_manifest, 10, BLOCKING).findings)
    missing = next(one for one in report["expectations"] if one["name"] == "images_exist")
    assert report["is_valid"] is False
    assert (missing["success"], missing["observed"]) == (False, "36 of 60 images break it")
    assert missing["problem_count"] == 36
    assert len(missing["problems"]) == PROBLEMS_IN_REPORT
    with pytest.raises(ValidationFailedError, match=r"train_list\.txt:1: .* is missing → .* \[images_exist\]"):
        require_valid(report)


def test_findings_hold_every_problem_and_can_be_read_back(broken_manifest: pd.DataFrame, tmp_path: Path) -> None:
    """findings.txt has one line a problem; the first ones of the blocking problems show each kind once."""
    findings = validate_manifest(broken_manifest, 10, BLOCKING).findings
    write_findings(tmp_path / "findings.txt", findings)
    lines = (tmp_path / "findings.txt").read_text().splitlines()
    assert len(lines) == sum(len(finding.problems) for finding in findings)
    problems = read_blocking_problems(tmp_path / "findings.txt")
    assert len(problems) == 37
    assert [problem.split("[")[-1] for problem in problems[:3]] == ["images_exist]", "images_decode]", "images_exist]"]
    assert [line for line in lines if line.startswith("warning: ")] == [
        "warning: train/n00000000/<script>alert(1)</script>/x.JPEG: is in no list → add a line for it, or delete it "
        "[no_unlisted_images]"
    ]


def test_findings_without_problems_are_an_empty_file(tmp_path: Path) -> None:
    """Where all holds, there is a file without lines."""
    write_findings(tmp_path / "findings.txt", [Finding("images_exist", "…", True, True, "3 images")])
    assert (tmp_path / "findings.txt").read_bytes() == b""
    assert read_blocking_problems(tmp_path / "findings.txt") == []


class _Page(HTMLParser):
    """What a page loads or points to, its text, and its elements."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.targets: list[str] = []
        self.tags: set[str] = set()
        self.text = ""
        self.feed(html)
        self.text = re.sub(r"\s+", " ", self.text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.targets += [value for name, value in attrs if name in ("href", "src") and value]

    def handle_data(self, data: str) -> None:
        self.text += data


def write_page(manifest: pd.DataFrame, folder: Path) -> _Page:
    """Validate a manifest, write its Data Docs, and read the page."""
    folder.mkdir(exist_ok=True)
    validation = validate_manifest(manifest, 10, BLOCKING)
    write_data_docs(folder, validation, build_report(manifest, validation.findings), compute_distributions(manifest))
    return _Page((folder / "index.html").read_text(encoding="utf-8"))


def test_the_page_needs_nothing_but_itself(broken_manifest: pd.DataFrame, tmp_path: Path) -> None:
    """Data Docs load nothing from the network or from other folders, and run no scripts."""
    page = write_page(broken_manifest, tmp_path)
    assert set(page.targets) == {"findings.txt"}
    assert not page.tags & {"script", "link", "img", "iframe"}
    assert "@import" not in (tmp_path / "index.html").read_text()
    assert "url(" not in (tmp_path / "index.html").read_text()


def test_the_page_says_what_is_wrong(broken_manifest: pd.DataFrame, tmp_path: Path) -> None:
    """The verdict, the claims, the problems and Great Expectations' own rendering stand on the page."""
    page = write_page(broken_manifest, tmp_path)
    assert "The data set must not be trained on" in page.text
    assert "16 of 19 expectations of the suite imagenet_layout hold; 2 block, 1 warn." in page.text
    assert all(claim.description in page.text and claim.reason in page.text for claim in map(CLAIMS.get, NAMES))
    assert "… and 26 more in findings.txt" in page.text
    assert "Table-Level Expectations" in page.text
    assert "36 unexpected values found." in page.text


def test_the_page_of_a_good_data_set_says_so(manifest: pd.DataFrame, tmp_path: Path) -> None:
    """Nothing blocks and nothing warns in a good data set."""
    page = write_page(manifest, tmp_path)
    assert "The data set may be trained on" in page.text
    assert "19 of 19 expectations of the suite imagenet_layout hold; 0 block, 0 warn." in page.text
    assert "What blocks" not in page.text


def test_names_of_files_are_text_and_not_markup(broken_manifest: pd.DataFrame, tmp_path: Path) -> None:
    """A file whose name is HTML stands on the page as its name, in both renderings."""
    broken_manifest.loc[broken_manifest["status"] == "unlisted", "status"] = "ok"
    page = write_page(broken_manifest, tmp_path)
    assert "script" not in page.tags
    assert "<script>alert(1)</script>" in page.text


def test_the_same_findings_give_the_same_page(broken_manifest: pd.DataFrame, tmp_path: Path) -> None:
    """Data Docs hold no time and no random identifier: DVC sees a change only where there is one."""
    write_page(broken_manifest, tmp_path / "a")
    write_page(broken_manifest, tmp_path / "b")
    assert (tmp_path / "a" / "index.html").read_bytes() == (tmp_path / "b" / "index.html").read_bytes()
