"""Takes screenshots of HTML pages with headless Chromium, and reads their consoles.

    python tests/reporting/browser.py data/sample/08_reporting/evaluation_report.html docs/images/report.png

writes the screenshot in the README (`make screenshot`).
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
# Without these options, Chromium contacts update servers every time it starts.
OFFLINE = [
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-quic",
    "--no-first-run",
]
SCHEMES = {"dark": 0, "light": 1}
README_SIZE = 1200, 2500


def take_screenshot(page: Path, screenshot: Path, *, scheme: str, width: int, height: int) -> list[str]:
    """Write a PNG of the top `height` pixels of a page, and return the lines in its console."""
    if CHROMIUM is None:
        raise FileNotFoundError("Chromium is not installed; run: apt-get install chromium")
    with tempfile.TemporaryDirectory(prefix="chromium-", ignore_cleanup_errors=True) as profile:
        finished = subprocess.run(
            [
                CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", *OFFLINE, "--hide-scrollbars",
                f"--user-data-dir={profile}", f"--window-size={width},{height}",
                f"--blink-settings=preferredColorScheme={SCHEMES[scheme]}", "--enable-logging=stderr",
                f"--screenshot={screenshot}", page.absolute().as_uri(),
            ],
            check=True, capture_output=True, text=True, timeout=120,
        )  # fmt: skip
    return [line for line in finished.stderr.splitlines() if "CONSOLE" in line]


if __name__ == "__main__":
    given, target = map(Path, sys.argv[1:])
    said = take_screenshot(given, target, scheme="light", width=README_SIZE[0], height=README_SIZE[1])
    sys.exit("\n".join(said) or None)
