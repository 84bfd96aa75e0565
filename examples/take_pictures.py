"""`make pictures`: what the console shows of the examples, as the pictures that stand in README and docs.

Runs the demo, whose runner is killed, and some more of the examples in a stack of its own, and looks at them
with the machine's own Chromium, or the one that `CHROMIUM` names. Whoever commits them looks at them first.
"""

import json
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from demo import EXAMPLE, DemoFailed, Stigmer, watch_and_kill
from run import EXAMPLES, run_arguments

from browser import Browser, Tab, find_browser

PICTURES: Final = EXAMPLES.parent / "docs" / "pictures"
MOST_BYTES: Final = 150_000
TIMEOUT_SECONDS: Final = 120
WIDE: Final = (1280, 800)
NARROW: Final = (390, 844)
_BOTH: Final = (("light", WIDE, ""), ("dark", WIDE, "-dark"))
LOOKS: Final = {
    "home": (*_BOTH, ("light", NARROW, "-phone")),
    "recovery": _BOTH,
    "conversation": _BOTH[:1],
    "inbox": (*_BOTH[:1], ("light", NARROW, "-phone")),
}
"""Of each view the colours, the size in pixels, and what is added to the picture's name."""


def main() -> int:
    """Run what is looked at, look, and write it down."""
    program = find_browser()
    if program is None:
        print("error: there is no Chromium; set CHROMIUM=/path/to/it", file=sys.stderr)
        return 3
    # Not in the checkout: pages show where a workspace is.
    folder = Path(tempfile.mkdtemp(prefix="stigmer-pictures-"))
    stigmer = Stigmer(folder)
    try:
        with stigmer.running_stack():
            recovered = _run_examples(stigmer, folder)
            with Browser(program, folder / "profile") as browser:
                _take_pictures(stigmer, folder, browser.open_tab(), recovered)
    except DemoFailed as failure:
        print(f"error: {failure}", file=sys.stderr)
        return 1
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return 0


def _run_examples(stigmer: Stigmer, folder: Path) -> str:
    """Gives the id of the execution that lost its runner."""
    for example in ("todo-plan", "order-desk", "release-notes", "stock-room"):
        stigmer.run(*_arguments(example, folder), shown=True)
    for example in ("fix-tests", "release-notes", EXAMPLE):
        stigmer.run("apply", "--file", str(EXAMPLES / example))
    events = watch_and_kill(stigmer, stigmer.runner_pid(), _workspace(EXAMPLE, folder))
    asking = stigmer.run(*_arguments("fix-tests", folder), "--approve", "ask", "--detach", shown=True).strip()
    _until(lambda: _approve_up_to(stigmer, asking, "edit_file"), "a change waits for approval")
    return str(events[0]["execution_id"])


def _approve_up_to(stigmer: Stigmer, execution_id: str, tool: str) -> bool:
    """Approve what waits of an execution, until it is a call of that tool."""
    inbox: list[dict[str, str]] = json.loads(stigmer.run("inbox", "--json"))
    waiting = [each for each in inbox if each["execution_id"] == execution_id]
    if any(each["title"].startswith(tool) for each in waiting):
        return True
    for each in waiting:
        stigmer.run("executions", "approve", each["input_id"])
    return False


def _take_pictures(stigmer: Stigmer, folder: Path, tab: Tab, recovered: str) -> None:
    link = stigmer.run("console", "--no-open").strip().splitlines()[-1]
    console = link.split("#", maxsplit=1)[0]
    tab.hide_scrollbars()
    tab.go(link)
    tab.wait_for("document.querySelector('.account button')")
    again = shutil.copytree(EXAMPLES / EXAMPLE / "input", folder / "again")
    arguments = run_arguments(EXAMPLE, again, None)
    stigmer.run(*arguments, "--detach", shown=True)  # is at work while Home is looked at
    views = {
        "home": (
            "",
            "document.querySelector('.phase.in_progress') && document.querySelector('.phase.completed')",
        ),
        "recovery": (
            f"executions/{recovered}?show=timeline",
            "document.querySelectorAll('.step').length > 5",
        ),
        "conversation": (f"executions/{recovered}", "document.querySelectorAll('.call').length > 5"),
        "inbox": ("inbox", "document.querySelectorAll('.decision .line.added').length >= 3"),
    }
    for name, (address, condition) in views.items():
        tab.go(console + address)
        tab.wait_for(condition)
        for scheme, size, suffix in LOOKS[name]:
            tab.show_as(scheme, *size)
            tab.wait_for(condition)
            _write(PICTURES / f"{name}{suffix}.webp", tab)
    complaints = tab.complaints()
    if complaints:
        raise DemoFailed(f"the console complained: {complaints}")


def _write(path: Path, tab: Tab) -> None:
    picture = tab.picture("webp", quality=82)
    if len(picture) > MOST_BYTES:
        raise DemoFailed(f"{path.name} has {len(picture)} bytes, more than {MOST_BYTES}")
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(picture)
    print(f"{path.relative_to(EXAMPLES.parent)}: {len(picture)} bytes")


def _arguments(example: str, folder: Path) -> list[str]:
    return run_arguments(example, _workspace(example, folder), None)


def _workspace(example: str, folder: Path) -> Path:
    return shutil.copytree(EXAMPLES / example / "input", folder / example)


def _until(holds: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + TIMEOUT_SECONDS
    while not holds():
        if time.monotonic() > deadline:
            raise DemoFailed(f"waited in vain until {what}")
        time.sleep(0.2)


if __name__ == "__main__":
    sys.exit(main())
