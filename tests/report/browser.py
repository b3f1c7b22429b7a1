"""A headless Chromium, driven over its debugging pipe: no port, no further package.

The protocol is JSON messages that end with a NUL, https://chromedevtools.github.io/devtools-protocol.
"""

from __future__ import annotations

import base64
import json
import os
import select
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome")
SECONDS = 60.0


def executable() -> str | None:
    """Path of a Chromium; None where there is none."""
    return next((found for name in NAMES if (found := shutil.which(name))), None)


class Browser:
    """One page of a browser; ``events`` has what it told unasked: errors, requests, messages."""

    def __init__(self, process: subprocess.Popen[bytes], write: int, read: int) -> None:
        self._process, self._write, self._read = process, write, read
        self._rest, self._number, self._session = b"", 0, ""
        self.events: list[dict[str, Any]] = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        attached = self.call("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Answer of the browser to a command."""
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._next()
            if answer.get("id") == self._number:
                assert "error" not in answer, f"{method}: {answer['error']}"
                result: dict[str, Any] = answer["result"]
                return result
            self.events.append(answer)

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._rest:
            ready, _, _ = select.select([self._read], [], [], SECONDS)
            assert ready, "the browser does not answer"
            data = os.read(self._read, 1 << 20)
            assert data, f"the browser ended with {self._process.wait()}"
            self._rest += data
        line, self._rest = self._rest.split(b"\0", 1)
        answer: dict[str, Any] = json.loads(line)
        return answer

    def look(self, width: int, height: int, scheme: str = "light", *, scale: float = 1) -> None:
        """Take this size in pixels and colour scheme from now on."""
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height,
                  deviceScaleFactor=scale, mobile=width < 600)  # fmt: skip
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.call("Emulation.setEmulatedMedia", features=features)

    def open(self, url: str) -> float:
        """Open a page of a report and return the seconds until it is drawn."""
        began = time.monotonic()
        self.call("Page.navigate", url=url)
        self.run(
            "new Promise((done) => { const look = () => {"
            " const over = document.querySelector('[data-ready] .plot svg, main > .bad');"
            " if (over) requestAnimationFrame(() => requestAnimationFrame(done));"
            " else setTimeout(look, 20); }; look(); })"
        )
        return time.monotonic() - began

    def run(self, script: str) -> Any:
        """Value of an expression in the page, a promise's included."""
        found = self.call("Runtime.evaluate", expression=script, awaitPromise=True,
                          returnByValue=True)  # fmt: skip
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def settle(self) -> None:
        """Wait until what was changed is drawn."""
        self.run("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame("
                 "() => requestAnimationFrame(done))))")  # fmt: skip

    def picture(self, path: Path, selector: str = "", *, margin: int = 0) -> None:
        """Write a PNG of what is seen, or of an element with so many pixels around it."""
        more: dict[str, Any] = {}
        if selector:
            x, y, width, height = self.run(
                f"(() => {{ const node = document.querySelector({selector!r}),"
                " box = node.getBoundingClientRect();"
                " return [box.x + scrollX, box.y + scrollY, box.width, box.height]; })()"
            )
            clip = {"x": x - margin, "y": y - margin, "scale": 1,
                    "width": width + 2 * margin, "height": height + 2 * margin}  # fmt: skip
            more = {"clip": clip, "captureBeyondViewport": True}
        found = self.call("Page.captureScreenshot", format="png", **more)
        path.write_bytes(base64.b64decode(found["data"]))

    def faults(self) -> list[str]:
        """Errors and warnings of the console, exceptions, and whatever was asked of a network."""
        self.run("0")
        found = []
        for event in self.events:
            method, about = event.get("method"), event.get("params", {})
            if method == "Runtime.exceptionThrown":
                found.append(str(about["exceptionDetails"]))
            elif method == "Runtime.consoleAPICalled" and about["type"] in ("error", "warning"):
                found.append(str(about["args"]))
            elif method == "Log.entryAdded" and about["entry"]["level"] != "verbose":
                found.append(str(about["entry"]))
            elif method == "Network.requestWillBeSent":
                url = about["request"]["url"]
                if not url.startswith(("file://", "about:")):
                    found.append(f"fetched {url}")
        return found

    def fetched(self) -> list[str]:
        """Addresses of all that was loaded."""
        return [
            event["params"]["request"]["url"]
            for event in self.events
            if event.get("method") == "Network.requestWillBeSent"
        ]


@contextmanager
def browser() -> Iterator[Browser]:
    """Hold a browser with a profile of its own, and end it."""
    program = executable()
    assert program is not None
    ours, theirs = os.pipe(), os.pipe()  # what it reads, what it writes
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:

        def place() -> None:
            # From copies above both, or the one would close the other.
            read, write = os.dup(ours[0]), os.dup(theirs[1])
            os.dup2(read, 3)
            os.dup2(write, 4)

        process = subprocess.Popen(
            [program, "--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars",
             "--no-first-run", "--disable-extensions", "--disable-background-networking",
             "--disable-component-update", "--force-color-profile=srgb",
             "--remote-debugging-pipe", f"--user-data-dir={profile}"],
            close_fds=False, preexec_fn=place,
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        os.close(ours[0])
        os.close(theirs[1])
        try:
            yield Browser(process, ours[1], theirs[0])
        finally:
            process.kill()
            process.wait()
            os.close(ours[1])
            os.close(theirs[0])
