"""Opens a page that a run has written in the browser, and prints where it is: `python tools/open_page.py PAGE`."""

from __future__ import annotations

import os
import sys
import webbrowser
from pathlib import Path


def main(page: Path) -> int:
    """Return the exit code: 1 where no run has written the page."""
    if not page.is_file():
        print(
            f"{page} is not there yet; `make run` writes it, or: kedro run --to-nodes validate_manifest",
            file=sys.stderr,
        )
        return 1
    print(page)
    # Without a screen a browser of text would take this terminal, or wait for one.
    if os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"):
        webbrowser.open(page.absolute().as_uri())
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
