"""Chromium without a window, told what to do over its debugging pipe (the DevTools protocol): JSON between NULs."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import select
import shutil
import signal
import tempfile
import time
from collections.abc import Iterator
from typing import Any

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)
PATIENCE = 30.0  # seconds for anything; the machine may be busy


class Page:
    """One tab. *complaints*: what its console said in anger; *asked*: the addresses it asked for."""

    def __init__(self, browser: Browser, session: str) -> None:
        self.browser, self.session = browser, session
        self.complaints: list[str] = []
        self.asked: list[str] = []
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        return self.browser.call(method, params, self.session)

    def size(self, width: int, height: int, *, dark: bool = False) -> None:
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])

    def open(self, url: str) -> None:
        self.call("Page.navigate", url=url)
        self.until(f"location.href === {json.dumps(url)} && document.readyState === 'complete'")

    def value(self, expression: str) -> Any:
        """What *expression* comes to in the page, as JSON."""
        found = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def text(self, element_id: str) -> str:
        return str(self.value(f"document.getElementById({json.dumps(element_id)}).textContent"))

    def until(self, expression: str) -> Any:
        """The value of *expression* once it is true."""
        end = time.monotonic() + PATIENCE
        while not (found := self.value(expression)):
            assert time.monotonic() < end, f"never true: {expression}"
            time.sleep(0.02)
        return found

    def press(self, key: str) -> None:
        """A key, as from a keyboard: ``ArrowLeft``, ``Tab``, ``Enter``."""
        codes = {"ArrowLeft": 37, "ArrowRight": 39, "Home": 36, "End": 35, "Tab": 9, "Enter": 13}
        of = {
            "key": key,
            "code": key,
            "windowsVirtualKeyCode": codes[key],
            **({"text": "\r"} if key == "Enter" else {}),
        }
        self.call("Input.dispatchKeyEvent", type="keyDown", **of)
        self.call("Input.dispatchKeyEvent", type="keyUp", **{name: of[name] for name in of if name != "text"})

    def type(self, text: str) -> None:
        self.call("Input.insertText", text=text)

    def picture(self, *, whole: bool = True) -> bytes:
        """A PNG of the page."""
        return base64.b64decode(self.call("Page.captureScreenshot", captureBeyondViewport=whole)["data"])

    def heard(self, method: str, params: dict[str, Any]) -> None:
        if method == "Runtime.exceptionThrown":
            self.complaints.append(str(params["exceptionDetails"]))
        elif method == "Runtime.consoleAPICalled" and params["type"] in ("error", "warning", "assert"):
            self.complaints.append(str(params["args"]))
        elif method == "Log.entryAdded" and params["entry"]["level"] in ("error", "warning"):
            self.complaints.append(str(params["entry"]))
        elif method == "Network.requestWillBeSent":
            self.asked.append(params["request"]["url"])
        elif method == "Page.javascriptDialogOpening":
            self.complaints.append(f"dialog: {params['message']}")
            self.browser.send("Page.handleJavaScriptDialog", {"accept": True}, self.session)


class Browser:
    """The process and its pipe."""

    def __init__(self, pid: int, told: int, says: int) -> None:
        self.pid, self.told, self.says = pid, told, says
        self.last, self.buffer = 0, b""
        self.pages: dict[str, Page] = {}

    def page(self, width: int = 1440, height: int = 900, *, dark: bool = False) -> Page:
        target = self.call("Target.createTarget", {"url": "about:blank"})["targetId"]
        session = self.call("Target.attachToTarget", {"targetId": target, "flatten": True})["sessionId"]
        self.pages[session] = page = Page(self, session)
        page.size(width, height, dark=dark)
        return page

    def send(self, method: str, params: dict[str, Any], session: str | None = None) -> int:
        self.last += 1
        message = {"id": self.last, "method": method, "params": params, **({"sessionId": session} if session else {})}
        os.write(self.told, json.dumps(message).encode() + b"\0")
        return self.last

    def call(self, method: str, params: dict[str, Any], session: str | None = None) -> dict[str, Any]:
        sent, end = self.send(method, params, session), time.monotonic() + PATIENCE
        while True:
            message = self.read(end)
            if message.get("id") == sent:
                assert "error" not in message, (method, message["error"])
                return dict(message["result"])
            if (page := self.pages.get(message.get("sessionId", ""))) and "method" in message:
                page.heard(message["method"], message["params"])

    def read(self, end: float) -> dict[str, Any]:
        while b"\0" not in self.buffer:
            ready, _, _ = select.select([self.says], [], [], max(0.0, end - time.monotonic()))
            assert ready, "Chromium does not answer"
            more = os.read(self.says, 1 << 20)
            assert more, "Chromium has gone"
            self.buffer += more
        message, _, self.buffer = self.buffer.partition(b"\0")
        return dict(json.loads(message))


@contextlib.contextmanager
def browser() -> Iterator[Browser]:
    """A browser with a profile of its own, gone with its children at the end."""
    assert CHROMIUM is not None
    told, tell = os.pipe()
    hear, says = os.pipe()
    os.set_inheritable(told, True)
    os.set_inheritable(says, True)
    with tempfile.TemporaryDirectory(prefix="pilotfish-chromium-", ignore_cleanup_errors=True) as profile:
        options = [
            "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
            "--disable-extensions", "--disable-background-networking", "--disable-component-update",
            "--disable-sync", "--hide-scrollbars", "--remote-debugging-pipe", f"--user-data-dir={profile}",
        ]  # fmt: skip
        # the pipe lies at 3 and 4; the shell moves it there whatever numbers it had
        silent = os.open(os.devnull, os.O_RDWR)
        moves = [(os.POSIX_SPAWN_DUP2, told, 103), (os.POSIX_SPAWN_DUP2, says, 104)]
        moves += [(os.POSIX_SPAWN_DUP2, 103, 3), (os.POSIX_SPAWN_DUP2, 104, 4)]
        moves += [(os.POSIX_SPAWN_DUP2, silent, place) for place in (0, 1, 2)]
        moves += [(os.POSIX_SPAWN_CLOSE, place) for place in (103, 104)]
        pid = os.posix_spawn(
            CHROMIUM, [CHROMIUM, *options], {**os.environ, "TMPDIR": profile}, file_actions=moves, setpgroup=0
        )
        for place in (told, says, silent):
            os.close(place)
        found = Browser(pid, tell, hear)
        try:
            yield found
        finally:
            with contextlib.suppress(AssertionError, OSError):
                found.call("Browser.close", {})
            with contextlib.suppress(ProcessLookupError):
                os.killpg(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            os.close(tell)
            os.close(hear)
