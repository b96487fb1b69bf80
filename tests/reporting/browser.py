"""Drives headless Chromium over its DevTools pipe: opens pages, clicks, and takes screenshots.

    python tests/reporting/browser.py data/sample/08_reporting/evaluation_report.html docs/images/report.png

writes the screenshot in the README (`make screenshot`).
"""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
# Without these options, Chromium contacts update servers every time it starts.
OFFLINE = [
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-quic",
    "--no-first-run",
]
README_SIZE = 1200, 2500
_SECONDS = 60


class Browser:
    """A page in headless Chromium. `console` and `requests` collect what the page logs and loads."""

    def __init__(self, to_chromium: int, from_chromium: int) -> None:
        self.console: list[str] = []
        self.requests: list[str] = []
        self._out, self._in = to_chromium, from_chromium
        self._buffer, self._number, self._session = b"", 0, ""
        target = self._call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self._call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self._call(f"{domain}.enable")

    def open(self, page: Path, *, scheme: str = "light", width: int = 1200, height: int = 900) -> None:
        """Open a page in a window of this size, and wait until it has loaded and its script has drawn it."""
        self._call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        self._call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        self.console.clear()
        self.requests.clear()
        self._call("Page.navigate", url=page.absolute().as_uri())
        self.wait_for("document.readyState === 'complete' && location.protocol === 'file:'")
        self.wait_for("!document.querySelector('#report-data') || document.documentElement.dataset.ready === 'yes'")

    def evaluate(self, expression: str) -> Any:
        """Return the value of a JavaScript expression, which may be a promise."""
        answer = self._call("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        if "exceptionDetails" in answer:
            raise RuntimeError(answer["exceptionDetails"].get("exception", {}).get("description", str(answer)))
        return answer["result"].get("value")

    def wait_for(self, expression: str) -> None:
        """Wait until a JavaScript expression is true."""
        end = time.monotonic() + _SECONDS
        while not self.evaluate(expression):
            if time.monotonic() > end:
                raise TimeoutError(f"after {_SECONDS} s, still not true: {expression}; console: {self.console}")
            time.sleep(0.02)

    def click(self, selector: str) -> None:
        """Click the first element that matches the CSS selector."""
        self.evaluate(f"document.querySelector({json.dumps(selector)}).click()")

    def press(self, key: str) -> None:
        """Press and release a key, such as `ArrowRight`."""
        text = {"Enter": "\r"}.get(key, "")
        codes = {"Enter": 13, "Escape": 27, "ArrowLeft": 37, "ArrowUp": 38, "ArrowRight": 39, "ArrowDown": 40}
        for kind in ("keyDown", "keyUp"):
            self._call(
                "Input.dispatchKeyEvent", type=kind, key=key, code=key, text=text if kind == "keyDown" else "",
                windowsVirtualKeyCode=codes.get(key, 0),
            )  # fmt: skip

    def move_mouse(self, x: float, y: float) -> None:
        """Move the mouse to a point of the window."""
        self._call("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)

    def drag_mouse(self, left: float, right: float, y: float) -> None:
        """Drag the mouse from left to right."""
        for kind, x, buttons in (("mousePressed", left, 1), ("mouseMoved", right, 1), ("mouseReleased", right, 0)):
            self._call(
                "Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", buttons=buttons, clickCount=1
            )  # fmt: skip

    def screenshot(self, path: Path, *, whole: bool = False) -> None:
        """Write a PNG of the window, or of the whole page."""
        options: dict[str, Any] = {"captureBeyondViewport": whole}
        if whole:
            size = self._call("Page.getLayoutMetrics")["cssContentSize"]
            options["clip"] = {"x": 0, "y": 0, "width": size["width"], "height": size["height"], "scale": 1}
        path.write_bytes(base64.b64decode(self._call("Page.captureScreenshot", **options)["data"]))

    def _call(self, method: str, **params: Any) -> dict[str, Any]:
        self._number += 1
        message = {"id": self._number, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._out, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._read()
            if answer.get("id") == self._number:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']['message']}")
                result: dict[str, Any] = answer["result"]
                return result
            self._note(answer.get("method", ""), answer.get("params", {}))

    def _read(self) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            part = os.read(self._in, 1 << 20)
            if not part:
                raise RuntimeError("Chromium has exited")
            self._buffer += part
        message, _, self._buffer = self._buffer.partition(b"\0")
        answer: dict[str, Any] = json.loads(message)
        return answer

    def _note(self, method: str, params: dict[str, Any]) -> None:
        if method == "Runtime.consoleAPICalled":
            self.console.append(" ".join(str(one.get("value", one.get("description"))) for one in params["args"]))
        elif method == "Runtime.exceptionThrown":
            details = params["exceptionDetails"]
            self.console.append(details.get("exception", {}).get("description", details["text"]))
        elif method == "Log.entryAdded":
            self.console.append(params["entry"]["text"])
        elif method == "Network.requestWillBeSent" and not params["request"]["url"].startswith(("data:", "file:")):
            self.requests.append(params["request"]["url"])


@contextmanager
def start_browser() -> Iterator[Browser]:
    """Start Chromium with a new profile, and stop it at the end."""
    if CHROMIUM is None:
        raise FileNotFoundError("Chromium is not installed; run: apt-get install chromium")
    # Chromium reads commands from file descriptor 3 and writes answers to file descriptor 4.
    read_command, write_command = os.pipe()
    read_answer, write_answer = os.pipe()
    with tempfile.TemporaryDirectory(prefix="chromium-", ignore_cleanup_errors=True) as profile:
        started = subprocess.Popen(
            [
                "/bin/bash", "-c", f'exec "$0" "$@" 3<&{read_command} 4>&{write_answer}', CHROMIUM, "--headless",
                "--no-sandbox", "--disable-gpu", *OFFLINE, "--hide-scrollbars", "--remote-debugging-pipe",
                f"--user-data-dir={profile}",
            ],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, pass_fds=(read_command, write_answer),
        )  # fmt: skip
        os.close(read_command)
        os.close(write_answer)
        try:
            yield Browser(write_command, read_answer)
        finally:
            os.close(write_command)
            started.terminate()
            started.wait(30)
            os.close(read_answer)


if __name__ == "__main__":
    given, target = map(Path, sys.argv[1:])
    with start_browser() as chromium:
        chromium.open(given, width=README_SIZE[0], height=README_SIZE[1])
        chromium.screenshot(target)
        sys.exit("\n".join(chromium.console) or None)
