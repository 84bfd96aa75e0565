"""A Chromium without a screen, steered through its DevTools protocol on a pipe: no driver, no port."""

import base64
import json
import os
import shutil
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Final

import pytest

WAIT_SECONDS: Final = 120.0
_POLL_SECONDS: Final = 0.05
_PROGRAMS: Final = ("chromium", "chromium-browser", "google-chrome")
_PIPE_IN, _PIPE_OUT = 3, 4
"""The descriptors on which `--remote-debugging-pipe` reads and writes."""

_MOST_TABS: Final = 150
_KEYS: Final[dict[str, dict[str, Any]]] = {
    "Tab": {"code": "Tab", "windowsVirtualKeyCode": 9},
    "Enter": {"code": "Enter", "windowsVirtualKeyCode": 13, "text": "\r"},
    " ": {"code": "Space", "windowsVirtualKeyCode": 32, "text": " "},
    "Escape": {"code": "Escape", "windowsVirtualKeyCode": 27},
    "ArrowDown": {"code": "ArrowDown", "windowsVirtualKeyCode": 40},
    "ArrowUp": {"code": "ArrowUp", "windowsVirtualKeyCode": 38},
}


def find_browser() -> str | None:
    """The machine's own browser, or the one that `CHROMIUM` names."""
    return os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, _PROGRAMS)), None)


class Browser:
    """One browser with a profile of its own; a context manager that starts and ends it."""

    def __init__(self, program: str, profile: Path) -> None:
        """Nothing is started yet."""
        self._program = program
        self._profile = profile
        self._sent = 0
        self._unread = b""
        self.events: list[dict[str, Any]] = []
        """What the browser has told of its own accord."""

    def __enter__(self) -> "Browser":
        to_browser, self._write = os.pipe()
        self._read, from_browser = os.pipe()
        # Clear of 3 and 4, onto which the shell puts them for the browser.
        ends = {name: os.dup(end) for name, end in (("in", to_browser), ("out", from_browser))}
        for end in (to_browser, from_browser):
            os.close(end)
        options = [
            "--headless=new",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--no-first-run",
            "--no-sandbox",  # root has none, and the pages are the test's own
            "--remote-debugging-pipe",
            f"--user-data-dir={self._profile}",
            "about:blank",
        ]
        plumbing = f'exec "$@" {_PIPE_IN}<&{ends["in"]} {_PIPE_OUT}>&{ends["out"]}'
        self._process = subprocess.Popen(
            ["bash", "-c", plumbing, "bash", self._program, *options],
            pass_fds=tuple(ends.values()),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for end in ends.values():
            os.close(end)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.wait()
        os.close(self._write)
        os.close(self._read)

    def call(self, method: str, session: str | None = None, **params: Any) -> dict[str, Any]:
        """A command of the protocol; gives its result."""
        self._sent += 1
        message: dict[str, Any] = {"id": self._sent, "method": method, "params": params}
        if session is not None:
            message["sessionId"] = session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._receive()
            if answer.get("id") == self._sent:
                assert "error" not in answer, f"{method}: {answer['error']}"
                result: dict[str, Any] = answer["result"]
                return result
            self.events.append(answer)

    def open_tab(self) -> "Tab":
        """An empty tab."""
        return Tab(self)

    def _receive(self) -> dict[str, Any]:
        while b"\0" not in self._unread:
            read = os.read(self._read, 65_536)
            assert read, "the browser ended"
            self._unread += read
        message, _, self._unread = self._unread.partition(b"\0")
        parsed: dict[str, Any] = json.loads(message)
        return parsed


class Tab:
    """One page of a browser."""

    def __init__(self, browser: Browser) -> None:
        self._browser = browser
        self._target: str = browser.call("Target.createTarget", url="about:blank")["targetId"]
        attached = browser.call("Target.attachToTarget", targetId=self._target, flatten=True)
        self._session: str = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            browser.call(f"{domain}.enable", self._session)

    def go(self, address: str) -> None:
        """Open an address."""
        self._browser.call("Page.navigate", self._session, url=address)

    def run(self, expression: str) -> Any:
        """The value of an expression in the page, waited for where it is a promise."""
        answer = self._browser.call(
            "Runtime.evaluate",
            self._session,
            expression=expression,
            awaitPromise=True,
            returnByValue=True,
        )
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def wait_for(self, condition: str) -> None:
        """Wait until an expression is true."""
        deadline = time.monotonic() + WAIT_SECONDS
        while not self._holds(condition):
            if time.monotonic() > deadline:
                pytest.fail(f"waited in vain for {condition}; the page shows:\n{self.text()}")
            time.sleep(_POLL_SECONDS)

    def type_text(self, text: str) -> None:
        """As somebody types it where the cursor is."""
        self._browser.call("Input.insertText", self._session, text=text)

    def run_first(self, script: str) -> None:
        """Run a script in each page that the tab opens from now on, before the page's own."""
        self._browser.call("Page.addScriptToEvaluateOnNewDocument", self._session, source=script)

    def press(self, key: str, *, shift: bool = False) -> None:
        """Press a key, by its name of the DOM: `Tab`, `Enter`, `ArrowDown`, or a single character."""
        event: dict[str, Any] = {"key": key, "modifiers": 8 if shift else 0}
        event |= _KEYS.get(key, {"code": key, "text": key})
        kind = "keyDown" if "text" in event else "rawKeyDown"
        self._browser.call("Input.dispatchKeyEvent", self._session, type=kind, **event)
        event.pop("text", None)
        self._browser.call("Input.dispatchKeyEvent", self._session, type="keyUp", **event)

    def reach(self, what: str, *, shift: bool = False) -> None:
        """Go on by Tab alone, until that has the focus of which an expression of `each` is true."""
        has_it = f"((each) => {what})(document.activeElement)"
        for _ in range(_MOST_TABS):
            self.press("Tab", shift=shift)
            if self._holds(has_it):
                return
        pytest.fail(f"Tab does not lead to {what}; the page shows:\n{self.text()}")

    def allow(self, origin: str, *permissions: str) -> None:
        """What the browser asks its user for, such as `notifications`, is granted to an origin."""
        self._browser.call("Browser.grantPermissions", origin=origin, permissions=list(permissions))

    def close(self) -> None:
        """Close the tab."""
        self._browser.call("Target.closeTarget", targetId=self._target)

    def show_as(self, scheme: str, width: int = 1440, height: int = 900) -> None:
        """As a screen of that size shows it, `light` or `dark`."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self._browser.call("Emulation.setDeviceMetricsOverride", self._session, **size)
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self._browser.call("Emulation.setEmulatedMedia", self._session, features=features)

    def hide_scrollbars(self) -> None:
        """For pictures: on most screens they show only while somebody scrolls."""
        self._browser.call("Emulation.setScrollbarsHidden", self._session, hidden=True)

    def picture(self, kind: str = "png", **options: int) -> bytes:
        """What the screen shows, as PNG or in another format that the browser knows."""
        shot = self._browser.call("Page.captureScreenshot", self._session, format=kind, **options)
        return base64.b64decode(shot["data"])

    def text(self) -> str:
        """What the page shows."""
        shown: str = self.run("document.body.innerText")
        return shown

    def complaints(self) -> list[str]:
        """What the console of the page and its policy have to say, but for calls that failed."""
        found: list[str] = []
        for event in self._browser.events:
            params = event.get("params", {})
            if event.get("method") == "Log.entryAdded" and params["entry"]["source"] != "network":
                found.append(params["entry"]["text"])
            elif event.get("method") in ("Runtime.exceptionThrown", "Page.javascriptDialogOpening"):
                found.append(json.dumps(params))
            elif event.get("method") == "Runtime.consoleAPICalled":
                found.append(json.dumps(params["args"]))
        return found

    def _holds(self, condition: str) -> bool:
        # Meanwhile the page may have gone to another address.
        answer = self._browser.call(
            "Runtime.evaluate", self._session, expression=f"Boolean({condition})", returnByValue=True
        )
        return answer["result"].get("value") is True
