"""MkDocs hook that adds reference pages generated from the code, and replaces links to files outside docs/.

The site does not know the repository's address, so links to project files are replaced with the files' paths.
"""

from __future__ import annotations

import os
import re
from functools import partial
from pathlib import Path, PurePosixPath

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page
from reference_commands import render_commands
from reference_errors import render_errors
from reference_events import render_events
from reference_library import ROOMS, render_index, render_room
from reference_parameters import render_parameters

PROJECT = Path(__file__).parents[2]
PAGES = {
    "reference/parameters.md": render_parameters,
    "reference/commands.md": render_commands,
    "reference/errors.md": render_errors,
    "reference/events.md": render_events,
    "reference/library/index.md": render_index,
} | {f"reference/library/{room}.md": partial(render_room, room) for room in ROOMS}
_SHIM, _OWN_SHIM = "https://unpkg.com/iframe-worker/shim", "javascripts/iframe-worker.js"
# In the repository, pages link to the code; on the site, to the pages that are generated from it.
_GENERATED = {
    "../src/resnet50_pipeline/parameters": "reference/parameters.md",
    "../src/resnet50_pipeline/commands": "reference/commands.md",
    "../src/resnet50_pipeline/exceptions.py": "reference/errors.md",
    "../src/resnet50_pipeline/events.py": "reference/events.md",
    "../src/resnet50_pipeline": "reference/library/index.md",
}
# A link to a parent folder.
_OUTSIDE = re.compile(r"\[(?P<text>[^\]]+)\]\((?P<target>\.\./[^)#\s]+)(#[^)]*)?\)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the generated pages."""
    started = Path.cwd()
    os.chdir(PROJECT)  # paths in conf/ are relative to the project
    try:
        for name, render in PAGES.items():
            files.append(File.generated(config, name, content=render()))
    finally:
        os.chdir(started)
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Replace links to project files with the generated pages, or with the files' paths."""

    def name_file(link: re.Match[str]) -> str:
        if link["target"] in _GENERATED:
            return f"[{link['text']}]({_GENERATED[link['target']]})"
        path = PurePosixPath(os.path.normpath(PurePosixPath(page.file.src_uri).parent / link["target"]))
        if not str(path).startswith("../"):
            return link[0]  # a page in the parent folder, still inside docs/
        shown = f"`{str(path).removeprefix('../')}`"
        return shown if link["text"].strip("`") in shown else f"{link['text']} ({shown})"

    return _OUTSIDE.sub(name_file, markdown)


def on_post_page(output: str, page: Page, config: MkDocsConfig) -> str:
    """Load the script for offline search from the site instead of the host that Material's `offline` plugin uses."""
    return output.replace(_SHIM, "../" * page.url.count("/") + _OWN_SHIM)


def on_post_template(output_content: str, template_name: str, config: MkDocsConfig) -> str:
    """Apply `on_post_page` to the 404 page."""
    return output_content.replace(_SHIM, f"/{_OWN_SHIM}")
