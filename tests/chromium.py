"""Opens pages in headless Chromium, and records their errors, their requests and what they show.

with open_chromium() as chromium:
    view = chromium.show("file:///…/index.html", width=390, scheme="dark")
    assert view.errors == view.outside == []
    view.take_screenshot(Path("page.png"))
"""

from __future__ import annotations

import base64
import contextlib
import itertools
import json
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlparse

from websockets.sync.client import ClientConnection, connect

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
Scheme = Literal["light", "dark"]
VIEWS: tuple[tuple[int, Scheme], ...] = tuple(itertools.product((1440, 1300, 390), ("light", "dark")))
"""The widths and color schemes in which every page is tested."""
# Without these options, Chromium contacts update servers every time it starts.
_OPTIONS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--no-first-run", "--disable-quic"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync", "--remote-debugging-port=0"),
)
_START_SECONDS = 120
_QUIET_SECONDS = 0.4


@dataclass
class View:
    """A page at one width and in one color scheme.

    Attributes:
        errors: errors and warnings in the console, and uncaught exceptions.
        requests: addresses that the page requested.
    """

    chromium: Chromium
    errors: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)
    host: str = ""

    @property
    def outside(self) -> list[str]:
        """Requested addresses on other hosts than the page's own."""
        local = ("", self.host)
        return [one for one in self.requests if urlparse(one).netloc not in local]

    def evaluate(self, script: str) -> Any:
        """Return the value of a JavaScript expression."""
        answer = self.chromium.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def wait_for(self, *texts: str) -> str:
        """Return the text of the page, once it contains all of these texts."""
        for _ in range(_START_SECONDS):
            shown = str(self.evaluate("document.body.innerText"))
            if all(text in shown for text in texts):
                return shown
            self.chromium.listen(1)
        raise AssertionError(f"{texts} are not in: {shown}")

    def count_visible(self, selector: str) -> int:
        """Return the number of elements that match a CSS selector and have an area."""
        return int(
            self.evaluate(
                f"[...document.querySelectorAll({json.dumps(selector)})].filter(one => {{"
                "const box = one.getBoundingClientRect(); return box.width > 1 && box.height > 1;}).length"
            )
        )

    def is_wider_than_window(self) -> bool:
        """Return whether the page scrolls sideways."""
        return bool(self.evaluate("document.documentElement.scrollWidth > window.innerWidth"))

    def take_screenshot(self, path: Path, *, full: bool = True) -> None:
        """Write a PNG of the whole page, or of its visible part."""
        answer = self.chromium.call("Page.captureScreenshot", captureBeyondViewport=full, **self._clip(full=full))
        path.write_bytes(base64.b64decode(answer["data"]))

    def _clip(self, *, full: bool) -> dict[str, Any]:
        if not full:
            return {}
        size = self.chromium.call("Page.getLayoutMetrics")["cssContentSize"]
        return {"clip": {"x": 0, "y": 0, "width": size["width"], "height": size["height"], "scale": 1}}


class Chromium:
    """One tab of a headless browser."""

    def __init__(self, tab: ClientConnection) -> None:
        self._tab, self._numbers = tab, itertools.count(1)
        self._view = View(self)
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.call(f"{domain}.enable")

    def show(self, url: str, *, width: int, scheme: Scheme = "light", height: int = 1000, settle: float = 0) -> View:
        """Open a page, and wait until it is loaded and has been quiet for a moment.

        Args:
            url: address of the page.
            width: width of the window in pixels.
            scheme: color scheme that the user prefers.
            height: height of the window in pixels.
            settle: additional seconds to wait, for pages that draw in the background.
        """
        self._navigate("about:blank")
        self._view = View(self, host=urlparse(url).netloc)
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 500
        )
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        self._navigate(url)
        self.listen(settle)
        return self._view

    def listen(self, seconds: float) -> None:
        """Record what the page does for a number of seconds."""
        end = time.monotonic() + seconds
        while (remaining := end - time.monotonic()) > 0:
            with contextlib.suppress(TimeoutError):
                self._record(json.loads(self._tab.recv(timeout=remaining)))

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Call a method of the DevTools protocol, and return its result."""
        number = next(self._numbers)
        self._tab.send(json.dumps({"id": number, "method": method, "params": parameters}))
        while True:
            message = json.loads(self._tab.recv(timeout=_START_SECONDS))
            if message.get("id") == number:
                assert "error" not in message, message["error"]
                result: dict[str, Any] = message["result"]
                return result
            self._record(message)

    def _navigate(self, url: str) -> None:
        self.call("Page.navigate", url=url)
        waiting = True
        while waiting:
            message = json.loads(self._tab.recv(timeout=_START_SECONDS))
            self._record(message)
            waiting = message.get("method") != "Page.loadEventFired"
        self.listen(_QUIET_SECONDS)

    def _record(self, message: dict[str, Any]) -> None:
        view, event = self._view, message.get("params", {})
        match message.get("method"):
            case "Network.requestWillBeSent":
                address = event["request"]["url"]
                if not address.startswith(("data:", "blob:", "about:")):
                    view.requests.append(address)
            case "Runtime.exceptionThrown":
                details = event["exceptionDetails"]
                view.errors.append(details.get("exception", {}).get("description") or details["text"])
            case "Runtime.consoleAPICalled" if event["type"] in ("error", "warning", "assert"):
                view.errors.append(" ".join(str(one.get("value", one.get("description"))) for one in event["args"]))
            case "Log.entryAdded" if event["entry"]["level"] in ("error", "warning"):
                view.errors.append(f"{event['entry']['text']} {event['entry'].get('url', '')}")


@contextlib.contextmanager
def open_chromium() -> Iterator[Chromium]:
    """Start a browser with a new profile, and stop it at the end.

    Raises:
        FileNotFoundError: if Chromium is not installed.
    """
    if CHROMIUM is None:
        raise FileNotFoundError("Chromium is not installed; run: apt-get install chromium")
    with tempfile.TemporaryDirectory(prefix="chromium-", ignore_cleanup_errors=True) as profile:
        process = subprocess.Popen(
            [CHROMIUM, *_OPTIONS, f"--user-data-dir={profile}", "about:blank"], stderr=subprocess.DEVNULL
        )
        try:
            with connect(_find_tab(Path(profile)), max_size=None, open_timeout=_START_SECONDS) as tab:
                yield Chromium(tab)
        finally:
            process.terminate()
            process.wait(timeout=_START_SECONDS)


def _find_tab(profile: Path) -> str:
    """Return the address of the first tab, once the browser has started."""
    port_file, end = profile / "DevToolsActivePort", time.monotonic() + _START_SECONDS
    while not port_file.is_file() or not port_file.read_text().strip():
        assert time.monotonic() < end, "Chromium did not start"
        time.sleep(0.1)
    port, browser = port_file.read_text().split()
    with connect(f"ws://127.0.0.1:{port}{browser}", open_timeout=_START_SECONDS) as control:
        control.send(json.dumps({"id": 1, "method": "Target.getTargets"}))
        while True:
            message = json.loads(control.recv(timeout=_START_SECONDS))
            if message.get("id") == 1:
                break
    (target, *_) = (one["targetId"] for one in message["result"]["targetInfos"] if one["type"] == "page")
    return f"ws://127.0.0.1:{port}/devtools/page/{target}"
