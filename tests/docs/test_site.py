"""The documentation site builds without warnings, contains every page and loads nothing from other hosts."""

from __future__ import annotations

import itertools
import json
import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Literal, get_origin
from urllib.parse import urlparse

import pytest
import yaml
from command_blocks import PROJECT

from chromium import CHROMIUM, VIEWS, open_chromium
from resnet50_pipeline import parameters
from resnet50_pipeline.frozen_model import models_of

GENERATED = "reference/"
# Elements whose addresses a browser loads without being asked to.
LOADED = {
    "script": "src",
    "link": "href",
    "img": "src",
    "iframe": "src",
    "source": "src",
    "video": "src",
    "use": "href",
}


def test_every_page_is_in_the_navigation() -> None:
    """`nav` in mkdocs.yml contains all pages in docs/, and only existing pages."""
    named = {path for path in _paths(_read_configuration()["nav"]) if not path.startswith(GENERATED)}
    pages = {str(path.relative_to(PROJECT / "docs")) for path in (PROJECT / "docs").rglob("*.md")}
    assert pages - named == set(), "add these to nav in mkdocs.yml"
    assert named - pages == set(), "there are no such pages"


@pytest.mark.parametrize("group", [name for name in parameters.__all__ if name.endswith("Parameters")])
def test_every_parameter_has_a_description(group: str) -> None:
    """Every parameter has a description, except groups and names of variants, whose model has a docstring."""
    waiting = [getattr(parameters, group)]
    while waiting:
        model = waiting.pop()
        for name, field in model.model_fields.items():
            groups = models_of(field.annotation)
            assert groups or get_origin(field.annotation) is Literal or field.description, f"{model.__name__}.{name}"
            waiting += groups


def test_links_work_in_the_repository() -> None:
    """Every relative link in README.md and docs/ leads to a file or folder of the repository."""
    for page in [PROJECT / "README.md", *(PROJECT / "docs").rglob("*.md")]:
        for target in re.findall(r"\]\(([^)#\s]+)", page.read_text(encoding="utf-8")):
            assert urlparse(target).scheme or (page.parent / target).exists(), f"{page.name}: {target}"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site that `make docs` builds."""
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [str(Path(sys.executable).with_name("mkdocs")), "build", "--strict", "--site-dir", str(folder)],
        cwd=PROJECT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1", "PYTHONPATH": str(PROJECT / "src")},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    assert "WARNING" not in done.stdout
    return folder


@pytest.mark.slow
def test_no_page_loads_anything_from_another_host(site: Path) -> None:
    """Pages and style sheets load scripts, styles, fonts and images only from the site."""
    for page in site.rglob("*.html"):
        for address in _loaded(page):
            assert not urlparse(address).netloc, f"{page.name} loads {address}"
    for style in site.rglob("*.css"):
        for address in re.findall(r"url\(([^)]+)\)", style.read_text(encoding="utf-8")):
            assert not urlparse(address.strip("'\"")).netloc, f"{style.name} loads {address}"


@pytest.mark.slow
def test_the_site_has_every_file_that_a_page_loads(site: Path) -> None:
    """The site contains every script, style sheet and image that its pages load."""
    for page in site.rglob("*.html"):
        for address in _loaded(page):
            path = urlparse(address).path
            if address.startswith("data:") or not path:
                continue
            assert (site / path[1:] if path.startswith("/") else page.parent / path).exists(), f"{page.name}: {address}"


@pytest.mark.slow
def test_the_reference_has_every_parameter_command_and_event(site: Path) -> None:
    """The generated pages contain every parameter, every command and every event."""
    from resnet50_pipeline.cli import COMMANDS
    from resnet50_pipeline.imagenet.scan.manifest import MANIFEST_COLUMNS

    page = (site / "reference/parameters.html").read_text(encoding="utf-8")
    for model in (parameters.TrainingParameters, parameters.LaunchParameters):
        for name in model.model_fields:
            assert name in page
    for file in (PROJECT / "conf/base").glob("parameters_*.yml"):
        for group in yaml.safe_load(file.read_text(encoding="utf-8")):
            assert f'id="{group}"' in page, f"add {group} to GROUPS in tools/site/reference_parameters.py"
    commands = (site / "reference/commands.html").read_text(encoding="utf-8")
    for command in COMMANDS:
        assert f"kedro {command.name}" in commands
    events = (site / "reference/events.html").read_text(encoding="utf-8")
    assert all(f"<code>{kind}</code>" in events for kind in ("train_step", "eval_end", "checkpoint_saved", "finished"))
    formats = (PROJECT / "docs/formats.md").read_text(encoding="utf-8")
    assert all(f"`{column}`" in formats for column in MANIFEST_COLUMNS)


@pytest.mark.slow
def test_search_index_has_every_page(site: Path) -> None:
    """The search index contains both written and generated pages."""
    script = (site / "search/search_index.js").read_text(encoding="utf-8")
    index = json.loads(script[script.index("{") : script.rindex("}") + 1])
    places = {entry["location"].partition("#")[0] for entry in index["docs"]}
    assert {"reference/parameters.html", "serving.html", "reference/library/imagenet.html"} <= places


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed; run: apt-get install chromium")
def test_pages_fit_in_every_window(site: Path) -> None:
    """In every view, pages have no errors, load nothing from other hosts, and cut neither pages nor code.

    In narrow windows, output can be scrolled.
    """
    pages = ("index", "tutorial-sample", "preflight", "evaluation", "logs")
    with open_chromium() as chromium:
        for (width, scheme), name in itertools.product(VIEWS, pages):
            view = chromium.show((site / f"{name}.html").as_uri(), width=width, scheme=scheme)
            assert (view.errors, view.outside) == ([], []), name
            assert not view.is_wider_than_window(), (name, width)
            assert view.evaluate("document.body.dataset.mdColorScheme") == {"light": "default", "dark": "slate"}[scheme]
            wide = "[...document.querySelectorAll('pre code')].filter(one => one.scrollWidth > one.clientWidth + 1)"
            if width < 500:
                wide += ".filter(one => !one.closest('.language-text') || getComputedStyle(one).overflowX !== 'auto')"
            assert view.evaluate(f"{wide}.length") == 0, (name, width)
            if name == "index":
                assert view.count_visible("img[src$='report.png'], img[src$='pipeline.svg']") == 2
            view.evaluate("localStorage.clear()")  # the site remembers the scheme of the first visit


class _Addresses(HTMLParser):
    """Collects the addresses that a page loads."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag == "link" and given.get("rel") in ("canonical", "next", "prev"):
            return
        address = given.get(LOADED.get(tag, ""))
        if address:
            self.found.append(address)


def _loaded(page: Path) -> list[str]:
    parser = _Addresses()
    parser.feed(page.read_text(encoding="utf-8"))
    return parser.found


def _read_configuration() -> dict:
    return yaml.safe_load((PROJECT / "mkdocs.yml").read_text(encoding="utf-8"))


def _paths(nav: object) -> list[str]:
    if isinstance(nav, str):
        return [nav]
    if isinstance(nav, dict):
        return [path for value in nav.values() for path in _paths(value)]
    assert isinstance(nav, list)
    return [path for entry in nav for path in _paths(entry)]
