"""The console's page in a browser: its main paths, and that what agents write never runs.

Where it was not built (`make web`), or the machine has no Chromium, nothing is tested; in CI that fails.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from browser import Browser, Tab, find_browser
from hostile_answers import ATTACKS
from needed import skip_outside_ci
from server_process import TOKEN, ServerApi, ServerProcess, completed, responded
from stigmer_contract.identifiers import INPUT_PREFIX, new_id
from stigmer_server.console_files import PAGE_DIRECTORY

PROGRAM: Final = find_browser()


@pytest.fixture(scope="module")
def page_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server without Temporal: executions are taken and written by the test."""
    if PROGRAM is None or not (PAGE_DIRECTORY / "index.html").is_file():
        skip_outside_ci("the console's page was not built, or there is no Chromium")
    with ServerProcess(tmp_path_factory.mktemp("console")) as process:
        yield process


@pytest.fixture
def admin(page_server: ServerProcess) -> Iterator[ServerApi]:
    with page_server.client() as client:
        yield client


@pytest.fixture
def tab(page_server: ServerProcess, admin: ServerApi, tmp_path: Path) -> Iterator[Tab]:
    """A tab that is signed in, with the executions before it."""
    assert PROGRAM is not None
    with Browser(PROGRAM, tmp_path / "profile") as browser:
        tab = browser.open_tab()
        secret = admin.http.post("/v1/console/links").json()["secret"]
        tab.go(f"{page_server.url}/console/#sign-in={secret}")
        tab.wait_for("document.querySelector('nav button')")
        yield tab


def begin(api: ServerApi, **request: Any) -> tuple[str, int]:
    """An execution that a runner has in hand; gives its id and the attempt."""
    execution_id: str = api.create_execution(**request)["execution_id"]
    return execution_id, api.start_leg(execution_id)["attempt"]


def answer(turn: int, *parts: dict[str, Any]) -> dict[str, Any]:
    """A model's answer of these parts."""
    return responded(turn) | {
        "response": {"kind": "inline", "value": {"version": 1, "parts": list(parts)}},
        "usage": {"requests": 1, "input_tokens": 1200, "output_tokens": 50, "cost_usd": "0.0123"},
    }


def test_somebody_watches_answers_and_signs_out(
    page_server: ServerProcess, admin: ServerApi, tab: Tab
) -> None:
    execution_id, attempt = begin(admin, input="Paint the **door**")
    assert tab.run("location.hash + document.cookie") == ""

    tab.wait_for(f"document.querySelector('.list a[href$=\"{execution_id}\"]')")
    tab.run(f"document.querySelector('.list a[href$=\"{execution_id}\"]').click()")
    tab.wait_for("document.querySelector('.said strong')?.textContent === 'door'")
    tab.wait_for("document.querySelector('.stream.live')")
    admin.publish(execution_id, [{"type": "model.delta", "turn": 1, "text": "I am **thinking**"}])
    tab.wait_for("document.querySelector('.answered strong')?.textContent === 'thinking'")
    input_id = new_id(INPUT_PREFIX)
    asked: dict[str, Any] = {
        "type": "input.requested",
        "input_id": input_id,
        "kind": "question",
        "turn": 1,
        "call_id": "call",
        "tool": "ask_user",
        "title": "Which colour?",
        "content": {"kind": "inline", "value": {"text": "Which?", "choices": ["red", "blue"]}},
        "answer_schema": {"type": "string", "enum": ["red", "blue"]},
    }
    assert admin.append(execution_id, [responded(1, "I ask."), asked], attempt=attempt).is_success
    tab.wait_for("document.title.startsWith('(1) ')")
    tab.run("document.querySelector('nav a[href=\"/console/inbox\"]').click()")
    tab.wait_for("document.querySelectorAll('.decision input[type=radio]').length === 2")
    tab.run("document.querySelectorAll('.decision input[type=radio]')[1].click()")
    # What waits is asked for again and again; what somebody has begun to fill in stays.
    asks = (
        "performance.getEntriesByType('resource').filter((each) => each.name.includes('/v1/inputs?')).length"
    )
    before = tab.run(asks)
    tab.wait_for(f"{asks} > {before} + 1")
    assert tab.run("document.querySelectorAll('.decision input[type=radio]')[1].checked") is True
    tab.run("document.querySelector('.decision form').requestSubmit()")
    tab.wait_for("document.title === 'Inbox · Stigmer'")
    resolved = admin.http.get(f"/v1/inputs/{input_id}").json()["resolution"]
    tab.go(f"{page_server.url}/console/executions/{execution_id}")
    tab.wait_for("document.querySelector('.stream.live')")
    page_server.stop()
    tab.wait_for("document.querySelector('.stream.away')")
    page_server.start()
    assert admin.append(execution_id, [completed()], attempt=attempt).is_success
    tab.wait_for("document.querySelector('.stream.ended')")
    tab.wait_for("document.querySelector('.conversation').textContent.includes('Completed')")
    # Not innerText, which leaves out what lies outside the window.
    items = "[...document.querySelectorAll('.item')]"
    shown = tab.run(f"{items}.map((item) => item.textContent.trim()).join('|')")
    tab.run("[...document.querySelectorAll('nav button')].at(-1).click()")
    tab.wait_for("document.querySelector('#token')")

    assert resolved["outcome"] == "answered"
    assert shown.count("I ask.") == shown.count("Completed") == shown.count("Paint the door") == 1
    assert tab.run("localStorage.length") == 0
    assert tab.complaints() == []


def test_a_pasted_token_signs_in_and_a_bad_link_signs_nobody_out(tab: Tab) -> None:
    tab.run("[...document.querySelectorAll('nav button')].at(-1).click()")
    for token, shown in (("wrong", ".problem"), (TOKEN, "nav button")):
        tab.wait_for("document.querySelector('#token')")
        tab.run(
            f"{{const field = document.querySelector('#token'); field.value = {json.dumps(token)};"
            "field.dispatchEvent(new Event('input', {bubbles: true})); field.form.requestSubmit()}"
        )
        tab.wait_for(f"document.querySelector('{shown}')")

    tab.run("location.hash = 'sign-in=no-link'")
    tab.wait_for("location.hash === ''")
    tab.run("fetch('/console/')")

    assert tab.run("Boolean(document.querySelector('nav button'))") is True
    assert TOKEN not in tab.run("JSON.stringify(localStorage) + JSON.stringify(sessionStorage)")


def test_who_decides_first_decides_and_the_other_is_told(
    page_server: ServerProcess, admin: ServerApi, tab: Tab
) -> None:
    execution_id, attempt = begin(admin, input="Ask twice")
    asked = [approval(call) for call in ("first", "second")]
    assert admin.append(execution_id, asked, attempt=attempt).is_success
    elsewhere, both = (each["input_id"] for each in asked)
    tab.go(f"{page_server.url}/console/inbox")
    tab.wait_for("document.querySelectorAll('.decision button.main').length === 2")
    in_terminal = admin.http.post(f"/v1/inputs/{elsewhere}", json={"outcome": "denied"}).raise_for_status()
    who = in_terminal.json()["resolution"]["resolved_by"]
    # The administrator's own token is named after a variable, which says nothing to anybody.
    denied = "denied" if who in (None, "administrator") else f"denied by {who}"
    tab.wait_for(f"document.querySelector('.decision [role=status]')?.textContent === {json.dumps(denied)}")
    # Now both at once: the page is on its way when the terminal answers.
    tab.run("document.querySelector('.decision button.main').click()")
    terminal = admin.http.post(f"/v1/inputs/{both}", json={"outcome": "denied"})
    tab.wait_for("document.querySelectorAll('.decision [role=status]').length === 2")
    # Ids of one moment are in no order: the card is known by its title.
    card = ".decision[aria-label='run_command echo second'] [role=status]"
    told: str = tab.run(f"document.querySelector({json.dumps(card)}).textContent")
    outcome = admin.http.get(f"/v1/inputs/{both}").json()["resolution"]["outcome"]

    if terminal.is_success:
        assert outcome == "denied"
        assert told.startswith("Somebody was first: ") or told == denied
    else:
        assert (terminal.status_code, terminal.json()["code"]) == (409, "input_resolved")
        assert (outcome, told) == ("approved", "approved")
    resolved = [each["event"] for each in admin.read_log(execution_id)]
    assert [each["type"] for each in resolved].count("input.resolved") == 2


def test_a_token_that_is_revoked_ends_what_its_page_shows(
    page_server: ServerProcess, admin: ServerApi, tab: Tab
) -> None:
    made = admin.http.post("/v1/tokens", json={"name": "leaves", "scope": "user"}).raise_for_status().json()
    with page_server.client(made["token"]) as person:
        execution_id: str = person.create_execution(input="Mine")["execution_id"]
        attempt = admin.start_leg(execution_id)["attempt"]
        secret = person.http.post("/v1/console/links").json()["secret"]
    tab.go(f"{page_server.url}/console/executions/{execution_id}#sign-in={secret}")
    tab.wait_for("document.querySelector('.account .who')?.textContent === 'leaves'")
    tab.wait_for("document.querySelector('.stream.live')")
    admin.http.delete("/v1/tokens/leaves").raise_for_status()
    assert admin.append(execution_id, [responded(1, "Not for you.")], attempt=attempt).is_success
    tab.wait_for("document.querySelector('#token')")

    assert "You are signed out" in tab.text()
    assert "Not for you." not in tab.text()
    assert tab.run("localStorage.length") == 0
    assert tab.complaints() == []


def approval(call_id: str) -> dict[str, Any]:
    """An event that asks for a person's word on a call."""
    arguments = {"command": f"echo {call_id}"}
    content = {"toolset": "shell", "tool": "run_command", "arguments": arguments, "rule": "shell: echo*"}
    return {
        "type": "input.requested",
        "input_id": new_id(INPUT_PREFIX),
        "kind": "approval",
        "turn": 1,
        "call_id": call_id,
        "toolset": "shell",
        "tool": "run_command",
        "title": f"run_command echo {call_id}",
        "content": {"kind": "inline", "value": content},
    }


def test_nothing_that_an_agent_or_a_tool_writes_runs(
    page_server: ServerProcess, admin: ServerApi, tab: Tab
) -> None:
    execution_id, attempt = begin(admin, input="\n\n".join(ATTACKS[:10]))
    for turn, attack in enumerate(ATTACKS, start=1):
        call = {"turn": turn, "call_id": f"c{turn}", "toolset": attack[:50], "tool": attack[:200]}
        arguments = {"kind": "inline", "value": {attack[:500]: attack}}
        content = [{"kind": "text", "text": attack}, {"kind": "link", "url": attack[:1000]}]
        result = {"version": 1, "outcome": "succeeded", "content": content}
        events: list[dict[str, Any]] = [
            answer(turn, {"kind": "thinking", "text": attack}, {"kind": "text", "text": attack}),
            {"type": "tool.started", **call, "arguments": arguments, "side_effects": True},
            {
                "type": "tool.finished",
                **call,
                "outcome": "succeeded",
                "result": {"kind": "inline", "value": result},
                "duration_seconds": 0.1,
            },
        ]
        answered = admin.append(execution_id, events, attempt=attempt)
        assert answered.is_success, answered.text

    tab.go(f"{page_server.url}/console/executions/{execution_id}")
    tab.wait_for(f"document.querySelectorAll('.outcome.succeeded').length === {len(ATTACKS)}")
    tab.run("document.querySelectorAll('details').forEach((each) => { each.open = true; })")
    tab.wait_for(f"document.querySelectorAll('.call pre').length === {2 * len(ATTACKS)}")
    links = (
        "[...document.querySelectorAll('.conversation a:not(.back)')]"
        ".map((link) => [link.protocol, link.origin, link.rel])"
    )
    named = "script, img, svg, iframe, object, embed, style, link, base, meta, video, form, input, math"

    assert tab.run(f"document.querySelectorAll('.conversation :is({named})').length") == 0
    assert (
        tab.run("document.querySelectorAll('main [onerror], main [onload], .conversation [style]').length")
        == 0
    )
    for protocol, origin, rel in tab.run(links):
        assert protocol in ("http:", "https:")
        assert origin != page_server.url
        assert rel == "noopener noreferrer nofollow"
    assert not {"\u202e", "\u200b", "\x1b", "\x00"} & set(tab.text())
    assert tab.complaints() == []
