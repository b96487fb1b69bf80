"""Opens a page from a run in the browser and prints its path: `python tools/open_page.py PAGE`."""

from __future__ import annotations

import os
import sys
import webbrowser
from pathlib import Path


def main(page: Path) -> int:
    """Open the page and return the exit code, which is 1 if the page does not exist."""
    if not page.is_file():
        print(
            f"{page} does not exist; create it with `make run`, or: kedro run --to-nodes validate_manifest",
            file=sys.stderr,
        )
        return 1
    print(page)
    # Without a display, webbrowser would start a text browser in the terminal.
    if os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"):
        webbrowser.open(page.absolute().as_uri())
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
