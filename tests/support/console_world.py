"""Something of everything that the console shows: for its tests, and for pictures of it."""

import base64
import struct
import zlib
from dataclasses import dataclass
from typing import Any, Final

from server_process import ServerApi, completed, failed, manifest
from stigmer_contract.identifiers import INPUT_PREFIX, new_id

DIFF = """--- a/prices.py
+++ b/prices.py
@@ -1,3 +1,3 @@
 def total(items):
-    return sum(item.price for item in items)
+    return sum(item.price * item.count for item in items)
"""
TEXT = """The total ignored how many of each were bought. I changed `prices.py`:

- `total` now multiplies by `count`
- both tests pass

| test | before | after |
|---|---|---|
| `test_total` | failed | passed |
| `test_empty` | passed | passed |
"""
COLOURS = "\x1b[32m2 passed\x1b[0m in 0.03s\n\x1b[1;31mno failures\x1b[0m\n"

VIEWS: Final = {
    "": "document.querySelectorAll('.glance .value').length === 4 && document.querySelector('.row')",
    "inbox": "document.querySelectorAll('.decision').length >= 2",
    "executions": "document.querySelectorAll('.virtual .row').length >= 7",
    "executions/{worked}": (
        "document.querySelector('.conversation table') && document.querySelector('.composer')"
    ),
    "executions/{worked}?show=timeline": "document.querySelectorAll('.step').length >= 9",
    "executions/{worked}?show=events": "document.querySelectorAll('.event').length >= 15",
    "executions/{worked}?show=files": "document.querySelectorAll('main h2').length === 2",
    "executions/{worked}?show=fork&at=4": "document.querySelector('.fork .chosen .call')",
    "executions/{forked}?show=compare": (
        "document.querySelectorAll('.sides .conversation .item').length >= 3 && "
        "document.querySelector('main').textContent.includes('The first 4 steps are the same')"
    ),
    "executions/{waits}": "document.querySelectorAll('.decision').length === 2",
    "sessions": "document.querySelectorAll('.row').length >= 7",
    "sessions/{session}": "document.querySelector('.conversation table')",
    "sessions/new": "document.querySelector('.composer select')?.options.length === 3",
    "agents": "document.querySelectorAll('.row').length === 3",
    "agents/fix-tests?owner=administrator": (
        "document.querySelector('.editor')?.shadowRoot?.querySelector('.cm-content') && "
        "document.querySelector('.note.good')"
    ),
    "usage": "document.querySelectorAll('.share').length >= 5",
    "stack": "document.querySelectorAll('table').length >= 4",
}
"""Each view's address within the console, and what is true once it shows what there is."""


@dataclass(frozen=True)
class World:
    """The ids of what was made."""

    worked: str
    """An execution that did all kinds of things, lost a runner, and completed."""
    waits: str
    failed: str
    works: str
    session: str
    forked: str
    """Goes another way behind the fourth step of the one that worked."""


def _picture() -> str:
    """A small PNG, in base64."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        checked = kind + content
        return struct.pack(">I", len(content)) + checked + struct.pack(">I", zlib.crc32(checked))

    rows = b"".join(b"\0" + bytes((40 + 3 * x, 160 - y, 120) * 1)[0:3] * 60 for y in range(30) for x in (y,))
    png = (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", struct.pack(">IIBBBBB", 60, 30, 8, 2, 0, 0, 0))
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )
    return base64.b64encode(png).decode()


def answered(turn: int, *parts: dict[str, Any], cost: str = "0.0123", seconds: float = 1.5) -> dict[str, Any]:
    """The JSON of a model's answer of these parts."""
    return {
        "type": "model.responded",
        "turn": turn,
        "model": "openai:gpt-5",
        "response": {"kind": "inline", "value": {"version": 1, "parts": list(parts)}},
        "usage": {
            "requests": 1,
            "input_tokens": 1200 + 900 * turn,
            "cache_read_tokens": 800 * (turn - 1),
            "output_tokens": 60 + 30 * turn,
            "cost_usd": cost,
        },
        "duration_seconds": seconds,
    }


def said(text: str) -> dict[str, Any]:
    """A part of an answer."""
    return {"kind": "text", "text": text}


def called(
    turn: int, tool: str, arguments: dict[str, Any], content: list[dict[str, Any]], outcome: str = "succeeded"
) -> list[dict[str, Any]]:
    """The JSON of a call's two events."""
    call = {"turn": turn, "call_id": f"c{turn}-{tool}", "toolset": "shell", "tool": tool}
    result = {"version": 1, "outcome": outcome, "content": content}
    return [
        {
            "type": "tool.started",
            **call,
            "arguments": {"kind": "inline", "value": arguments},
            "side_effects": True,
        },
        {
            "type": "tool.finished",
            **call,
            "outcome": outcome,
            "result": {"kind": "inline", "value": result},
            "duration_seconds": 0.4,
        },
    ]


def asked(turn: int, kind: str, title: str, content: dict[str, Any], **more: Any) -> dict[str, Any]:
    """The JSON of something that a person is asked."""
    return {
        "type": "input.requested",
        "input_id": new_id(INPUT_PREFIX),
        "kind": kind,
        "turn": turn,
        "call_id": f"c{turn}-{kind}",
        "toolset": "shell",
        "tool": "run_command" if kind == "approval" else "ask_user",
        "title": title,
        "content": {"kind": "inline", "value": content},
        **more,
    }


def make_world(api: ServerApi) -> World:
    """Fill a server without Temporal."""

    def begin(agent: str, text: str, **request: Any) -> tuple[str, int, dict[str, Any]]:
        execution = api.create_execution(agent=agent, input=text, **request)
        execution_id: str = execution["execution_id"]
        return execution_id, api.start_leg(execution_id)["attempt"], execution

    def append(execution_id: str, attempt: int, *events: dict[str, Any]) -> None:
        answer = api.append(execution_id, events, attempt=attempt)
        assert answer.is_success, answer.text

    for name, description in (
        ("fix-tests", "Finds out why tests fail, and mends what is wrong."),
        ("report-writer", "Turns a CSV file into a short report."),
        ("release-notes", "Writes what has changed since the last release."),
    ):
        spec: dict[str, Any] = {
            "description": description,
            "instructions": "Work in small steps.\nSay what you did.",
            "tools": ["shell", "files"],
            "limits": {"turns": 40, "costUsd": 2},
        }
        api.http.put(f"/v1/agents/{name}", json=manifest(name, **spec)).raise_for_status()
    api.http.put("/v1/secrets/GITHUB_TOKEN", json={"value": "a-value-of-some-length"}).raise_for_status()
    policy = {"max_cost_per_day_usd": "5"}
    api.http.post("/v1/tokens", json={"name": "ci", "scope": "user", "policy": policy}).raise_for_status()

    worked, attempt, execution = begin(
        "fix-tests", "Make the **tests** of `prices.py` pass", model="openai:gpt-5"
    )
    thought = {"kind": "thinking", "text": "First I look at what fails, then at the code that it tests."}
    append(worked, attempt, answered(1, thought, said("I look at what fails.")))
    append(
        worked,
        attempt,
        *called(1, "run_command", {"command": "pytest -q"}, [{"kind": "text", "text": COLOURS}], "failed"),
        answered(2, said("The sum leaves out the count."), cost="0.0145"),
        *called(
            2, "read_file", {"path": "prices.py"}, [{"kind": "text", "text": "def total(items):\n    …"}]
        ),
    )
    attempt = api.start_leg(worked)["attempt"]
    append(
        worked,
        attempt,
        answered(3, said("I change it."), cost="0.0191"),
        *called(3, "edit_file", {"path": "prices.py"}, [{"kind": "text", "text": DIFF}]),
        answered(4, said("I run the tests again, and draw a picture."), cost="0.0171"),
        *called(
            4,
            "run_command",
            {"command": "pytest -q"},
            [
                {"kind": "text", "text": COLOURS},
                {"kind": "file", "media_type": "image/png", "data": _picture(), "name": "plot.png"},
            ],
        ),
        answered(5, said(TEXT), cost="0.0203"),
        completed(TEXT),
    )
    for number in range(3):
        more, attempt, _ = begin(
            "report-writer", f"Turn sales-{number}.csv into a report", model="openai:gpt-5-mini"
        )
        append(more, attempt, answered(1, said("Done."), cost="0.0041"), completed("Done."))
    wrong, attempt, _ = begin("report-writer", "Turn figures.csv into a report")
    append(wrong, attempt, answered(1, said("I read it."), cost="0.002"), failed())
    waits, attempt, _ = begin("release-notes", "Write the notes of 1.4 and push them")
    append(
        waits,
        attempt,
        answered(1, said("The notes are written. May I push them?")),
        asked(
            1,
            "approval",
            "run_command git push origin main",
            {
                "toolset": "shell",
                "tool": "run_command",
                "arguments": {"command": "git push origin main"},
                "rule": "shell: git push*",
                "diff": DIFF,
            },
        ),
        asked(
            1,
            "question",
            "Which version is it?",
            {"text": "Which version is it?", "choices": ["1.4", "2.0"]},
            answer_schema={"type": "string"},
        ),
    )
    works, attempt, _ = begin("fix-tests", "Find out why the nightly build is slow")
    append(works, attempt, answered(1, said("I measure it first.")))
    fork = api.http.post(f"/v1/executions/{worked}/fork", json={"at": 4, "message": "Try it with Decimal"})
    forked: str = fork.raise_for_status().json()["execution_id"]
    attempt = api.start_leg(forked)["attempt"]
    append(forked, attempt, answered(2, said("I use Decimal instead.")), completed("Decimal it is."))
    return World(worked, waits, wrong, works, execution["session_id"], forked)
