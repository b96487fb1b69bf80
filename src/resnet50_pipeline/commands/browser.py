"""Opens pages in the user's browser."""

from __future__ import annotations

import os
import webbrowser

import click


def show_page(url: str, *, open_page: bool) -> None:
    """Print an address, and open it if there is a display. Without one, a text browser could take over the terminal."""
    click.echo(url)
    if open_page and (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        webbrowser.open(url)
