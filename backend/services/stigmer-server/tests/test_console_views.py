"""Every view of the console: what it shows, that anybody can use it, and that many tabs share one stream."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from browser import Browser, Tab, find_browser
from console_world import VIEWS, World, answered, asked, make_world, said
from hostile_answers import hostile_fetch, inspection
from needed import skip_outside_ci
from server_process import ServerApi, ServerProcess, completed, wait_until
from stigmer_server.console_files import PAGE_DIRECTORY

AXE: Final = Path(__file__).parents[4] / "client-apps/web/node_modules/axe-core/axe.min.js"
FOCUS: Final = Path(__file__).parents[4] / "tests/support/walk_focus.js"
pytestmark = pytest.mark.xdist_group("console views")


@pytest.fixture(scope="module")
def page_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server without Temporal: executions are taken and written by the test."""
    if find_browser() is None or not (PAGE_DIRECTORY / "index.html").is_file() or not AXE.is_file():
        skip_outside_ci("the console's page was not built, or there is no Chromium")
    with ServerProcess(tmp_path_factory.mktemp("views")) as process:
        yield process


@pytest.fixture(scope="module")
def admin(page_server: ServerProcess) -> Iterator[ServerApi]:
    with page_server.client() as client:
        yield client


@pytest.fixture(scope="module")
def world(admin: ServerApi) -> World:
    return make_world(admin)


@pytest.fixture(scope="module")
def browser(page_server: ServerProcess, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    program = find_browser()
    assert program is not None
    with Browser(program, tmp_path_factory.mktemp("browser") / "profile") as started:
        yield started


@pytest.fixture(scope="module")
def tab(page_server: ServerProcess, admin: ServerApi, browser: Browser) -> Tab:
    """A tab that is signed in, as all others of its browser then are."""
    tab = browser.open_tab()
    secret = admin.http.post("/v1/console/links").json()["secret"]
    tab.go(f"{page_server.url}/console/#sign-in={secret}")
    tab.wait_for("document.querySelector('nav button')")
    return tab


@pytest.mark.parametrize("view", VIEWS)
def test_a_view_shows_what_there_is_and_anybody_can_use_it(
    page_server: ServerProcess, tab: Tab, world: World, view: str
) -> None:
    address = view.format_map(vars(world))
    tab.go(f"{page_server.url}/console/{address}")
    tab.wait_for(VIEWS[view])
    assert not tab.run("document.querySelector('.problem')?.textContent ?? ''")
    tab.run(AXE.read_text(encoding="utf-8") + ";0")
    for scheme in ("light", "dark"):
        tab.show_as(scheme)
        found = tab.run(
            "axe.run(document, {resultTypes: ['violations']})"
            ".then((result) => result.violations.map((each) => [each.id, "
            "each.help, each.nodes.map((node) => node.html + ' ' + node.failureSummary)]))"
        )
        assert found == [], json.dumps(found, indent=1)
    tab.show_as("light", 390)
    assert tab.run("document.documentElement.scrollWidth <= 390")
    tab.show_as("light")
    assert tab.complaints() == []


@pytest.fixture(scope="module")
def hostile_tab(browser: Browser, admin: ServerApi, tab: Tab, world: World) -> Tab:
    """A tab to which the server answers with attacks alone."""
    hostile = browser.open_tab()
    hostile.run_first(hostile_fetch(admin.http.get("/openapi.json").raise_for_status().json()))
    return hostile


@pytest.mark.parametrize("view", VIEWS)
def test_whatever_texts_a_view_is_given_none_runs_hides_or_breaks_it(
    page_server: ServerProcess, hostile_tab: Tab, world: World, view: str
) -> None:
    tab = hostile_tab
    tab.go(f"{page_server.url}/console/{view.format_map(vars(world))}")
    settled = (
        "window.answersOnTheirWay === 0 && document.querySelector('main')?.innerText.includes('alert(1)')"
    )
    tab.wait_for(settled)
    tab.run("document.querySelectorAll('details').forEach((each) => { each.open = true; })")
    tab.run(
        "[...document.querySelectorAll('main button')]"
        ".filter((each) => each.textContent.trim() === 'Edit the arguments').forEach((each) => each.click())"
    )
    tab.run("new Promise((done) => requestAnimationFrame(() => setTimeout(done)))")
    tab.wait_for(settled)
    for width in (1440, 390):
        tab.show_as("light", width)
        assert tab.run(inspection()) == []
    assert tab.complaints() == []
    # It must not hold the stream of the tabs of other tests.
    tab.go("about:blank")


@pytest.mark.parametrize("view", VIEWS)
def test_tab_leads_through_all_of_a_view_and_everybody_sees_where_it_is(
    page_server: ServerProcess, tab: Tab, world: World, view: str
) -> None:
    tab.show_as("light")
    tab.go("about:blank")
    tab.go(f"{page_server.url}/console/{view.format_map(vars(world))}")
    tab.wait_for(VIEWS[view])
    tab.run(FOCUS.read_text(encoding="utf-8") + ";0")
    # What is loaded meanwhile adds to it, and at the end of a page Tab leaves it once.
    for _ in range(2 * tab.run("walk.reachable().length") + 20):
        tab.press("Tab")
        if tab.run("Boolean(document.activeElement.shadowRoot)"):
            tab.press("Escape")  # in the editor Tab indents, but behind this
        if not tab.run("walk.missed().length"):
            break

    assert tab.run("walk.missed()") == []
    assert tab.run("[...walk.wrong]") == []


def test_somebody_runs_an_agent_approves_answers_and_looks_back_by_keys_alone(
    page_server: ServerProcess, admin: ServerApi, tab: Tab, world: World
) -> None:
    tab.go(f"{page_server.url}/console/")
    tab.wait_for("document.querySelector('main .row')")
    tab.reach("each.className === 'skip'")
    tab.press("Enter")
    tab.wait_for("document.activeElement.id === 'content'")
    tab.reach("each.textContent === 'New conversation'")
    tab.press("Enter")
    tab.wait_for(
        "document.querySelector('.composer select')?.value && document.activeElement.id === 'content'"
    )
    tab.reach("each.localName === 'select'")
    chosen = tab.run("document.activeElement.value")
    tab.press("ArrowDown")
    tab.wait_for(f"document.activeElement.value !== {json.dumps(chosen)}")
    agent = tab.run("document.activeElement.value")
    tab.reach("each.localName === 'textarea'")
    tab.type_text("Close the doors")
    tab.press("Enter")
    tab.wait_for("/sessions.ses_/.test(location.pathname) && document.activeElement.localName === 'textarea'")
    session_id = tab.run("location.pathname.split('/').at(-1)")
    [execution] = admin.http.get("/v1/executions", params={"session_id": session_id}).json()["items"]
    execution_id = execution["execution_id"]
    attempt = admin.start_leg(execution_id)["attempt"]
    call = {"toolset": "shell", "tool": "run_command", "arguments": {"command": "lock"}, "rule": "shell: *"}
    question = {"text": "Which door?", "choices": ["front", "back"]}
    approval = asked(1, "approval", "run_command lock", call)
    choice = asked(1, "question", "Which door?", question, answer_schema={"type": "string"})
    events = [answered(1, said("May I?")), approval, choice]
    assert admin.append(execution_id, events, attempt=attempt).is_success
    tab.wait_for("document.querySelectorAll('main .decision').length === 2")
    card = "each.closest('.decision')?.getAttribute('aria-label') === "
    tab.reach(f"{card}'run_command lock' && each.textContent === 'Approve'", shift=True)
    tab.press("Enter")
    tab.wait_for("document.querySelectorAll('main .decision button').length <= 2")
    tab.reach(f"{card}'Which door?' && each.type === 'radio'")
    tab.press(" ")
    tab.wait_for("document.activeElement.checked")
    door = tab.run("document.activeElement.closest('label').textContent.trim()")
    tab.reach(f"{card}'Which door?' && each.textContent === 'Answer'")
    tab.press("Enter")
    resolved = [approval["input_id"], choice["input_id"]]
    wait_until(
        lambda: all(admin.http.get(f"/v1/inputs/{each}").json()["resolution"] for each in resolved),
        "both are resolved",
    )
    assert admin.append(execution_id, [completed("Locked.")], attempt=attempt).is_success
    # Back to it through the list.
    tab.reach("each.getAttribute('href') === '/console/executions'", shift=True)
    tab.press("Enter")
    tab.wait_for("document.querySelector('.virtual .row') && document.activeElement.id === 'content'")
    tab.reach("each.type === 'search'")
    tab.type_text(execution_id)
    tab.wait_for("document.querySelectorAll('.virtual .row').length === 1")
    tab.reach("each.matches('.virtual .row')")
    tab.press("Enter")
    tab.wait_for("document.querySelector('.tabs') && document.activeElement.id === 'content'")
    tab.reach("each.textContent === 'Events'")
    tab.press("Enter")
    tab.wait_for("document.querySelector('.event')")
    tab.reach("each.matches('.event')")
    tab.press(" ")
    tab.wait_for("document.querySelector('main pre')?.textContent.includes('execution.started')")

    assert agent == execution["agent_name"]
    log = [each["event"] for each in admin.read_log(execution_id)]
    outcomes = {each["input_id"]: each for each in log if each["type"] == "input.resolved"}
    assert outcomes[approval["input_id"]]["outcome"] == "approved"
    assert outcomes[choice["input_id"]]["answer"]["value"] == door
    assert tab.complaints() == []


def test_whoever_asked_for_it_is_notified_of_what_begins_to_wait_while_they_look_elsewhere(
    page_server: ServerProcess, admin: ServerApi, browser: Browser, tab: Tab, world: World
) -> None:
    execution_id: str = admin.create_execution(input="Ask me")["execution_id"]
    attempt = admin.start_leg(execution_id)["attempt"]
    elsewhere = browser.open_tab()
    elsewhere.allow(page_server.url, "notifications")
    elsewhere.run_first(
        "window.told = []; window.Notification = class extends Notification {"
        "constructor(title, options) { super(title, options); "
        "told.push([title, options.body, options.tag, this]); } };"
        "Object.defineProperty(document, 'hidden', { get: () => window.looksElsewhere ?? false });"
    )
    elsewhere.go(f"{page_server.url}/console/usage")
    elsewhere.wait_for("document.querySelector('nav .count')")
    elsewhere.run("looksElsewhere = true")
    question = {"text": "Which door?", "choices": ["front", "back"]}
    events = [
        asked(turn, "question", f"Door \u202e{turn}?", question, answer_schema={"type": "string"})
        for turn in (1, 2)
    ]
    for event in events:
        assert admin.append(execution_id, [event], attempt=attempt).is_success
    elsewhere.wait_for("told.length === 2")
    told = elsewhere.run("told.map((each) => each.slice(0, 3))")
    elsewhere.run("told[0][3].onclick()")
    elsewhere.wait_for(
        "location.pathname === '/console/inbox' && document.querySelectorAll('.decision').length >= 3"
    )
    before: int = elsewhere.run("told.length")
    admin.http.post(f"/v1/executions/{execution_id}/cancel", json={}).raise_for_status()
    elsewhere.close()

    assert before == 2
    assert [title for title, *_ in told] == ["worker waits for you"] * 2
    # What waited before is not told of; who is told sees no character that turns the text around.
    assert {tag: body for _, body, tag in told} == {
        event["input_id"]: f"Door ⟨202E⟩{event['turn']}?" for event in events
    }


def test_a_wrong_manifest_is_told_where_it_is_wrong_and_a_right_one_is_applied(
    page_server: ServerProcess, admin: ServerApi, tab: Tab, world: World
) -> None:
    apply = "[...document.querySelectorAll('button')].find((each) => each.textContent === 'Apply')"
    tab.go(f"{page_server.url}/console/agents/new")
    tab.wait_for("document.querySelector('.note.good')")
    content = "document.querySelector('.editor').shadowRoot.querySelector('.cm-content')"
    tab.run(f"{content}.focus()")
    tab.type_text("tols: [shell]\n")
    tab.wait_for("document.querySelector('.findings')?.textContent.includes('tols')")
    assert tab.run(
        "[...document.querySelectorAll('button')].find((each) => each.textContent === 'Apply').disabled"
    )
    tab.go(f"{page_server.url}/console/agents/new?again")
    tab.wait_for("document.querySelector('.note.good')")
    tab.run(f"{apply}.click()")
    tab.wait_for("location.pathname.endsWith('/agents/librarian')")
    assert admin.http.get("/v1/agents/librarian").json()["manifest"]["spec"]["tools"] == ["shell", "files"]


def test_a_conversation_is_begun_and_gone_on_with(
    page_server: ServerProcess, admin: ServerApi, tab: Tab, world: World
) -> None:
    tab.go(f"{page_server.url}/console/sessions/new?agent=fix-tests")
    tab.wait_for("document.querySelector('.composer select')?.value === 'fix-tests'")
    say(tab, "Look at the build")
    tab.wait_for("document.querySelector('.said')?.textContent.includes('Look at the build')")
    session_id = tab.run("location.pathname.split('/').at(-1)")
    [execution] = admin.http.get("/v1/executions", params={"session_id": session_id}).json()["items"]
    execution_id = execution["execution_id"]
    attempt = admin.start_leg(execution_id)["attempt"]
    assert admin.append(execution_id, [answered(1, said("It is slow."))], attempt=attempt).is_success
    tab.wait_for("document.querySelector('.answered')?.textContent.includes('It is slow.')")
    say(tab, "Why?")
    tab.wait_for("document.querySelectorAll('.said').length === 2")
    log = admin.read_log(execution_id)

    assert [event["event"]["type"] for event in log].count("message.received") == 1


def test_somebody_pauses_an_execution_and_forks_it_where_they_choose(
    page_server: ServerProcess, admin: ServerApi, tab: Tab, world: World
) -> None:
    execution_id: str = admin.create_execution(input="Count the doors")["execution_id"]
    attempt = admin.start_leg(execution_id)["attempt"]
    answer = said("There are three.")
    assert admin.append(execution_id, [answered(1, answer)], attempt=attempt).is_success
    tab.go(f"{page_server.url}/console/executions/{execution_id}")
    for button, then in (("Pause", "Resume"), ("Resume", "Pause")):
        tab.wait_for(button_named(button))
        tab.run(f"{button_named(button)}.click()")
        tab.wait_for(button_named(then))
    tab.wait_for("document.querySelector('.conversation').textContent.includes('Resumed')")
    # No name where it would say nothing: the administrator's token is named after a variable.
    assert "STIGMER_TOKEN" not in tab.text()
    assert admin.get_execution(execution_id)["paused_at"] is None
    tab.run("document.querySelector('.answered .back').click()")
    tab.wait_for("document.querySelector('.fork .chosen')?.textContent.includes('There are three.')")
    fill_in(tab, ".fork textarea", "And the windows?")
    tab.run("document.querySelector('form.fork').requestSubmit()")
    tab.wait_for(f"location.pathname !== '/console/executions/{execution_id}'")
    tab.wait_for(f"document.querySelector('.conversation')?.textContent.includes('step 1 of {execution_id}')")
    forked = tab.run("location.pathname.split('/').at(-1)")
    first, *_, message = admin.read_log(forked)

    assert first["event"]["fork"]["execution_id"] == execution_id
    assert message["event"]["message"]["value"] == "And the windows?"


def test_a_file_goes_along_with_what_is_said_first(
    page_server: ServerProcess, admin: ServerApi, tab: Tab, world: World
) -> None:
    tab.go(f"{page_server.url}/console/sessions/new?agent=fix-tests&again")
    tab.wait_for("document.querySelector('.composer select')?.value === 'fix-tests'")
    tab.run(
        "{const chosen = new DataTransfer(); chosen.items.add(new File(['three'], 'doors.txt'));"
        "const field = document.querySelector('.composer input[type=file]'); field.files = chosen.files;"
        "field.dispatchEvent(new Event('change', {bubbles: true}))}"
    )
    tab.wait_for("document.querySelector('.composer .attached')?.textContent.includes('doors.txt')")
    say(tab, "Read it")
    tab.wait_for("document.querySelector('.said .attached')?.textContent.includes('doors.txt')")
    session_id = tab.run("location.pathname.split('/').at(-1)")
    [execution] = admin.http.get("/v1/executions", params={"session_id": session_id}).json()["items"]
    [attached] = admin.read_log(execution["execution_id"])[0]["event"]["attachments"]

    assert (attached["name"], attached["size_bytes"]) == ("doors.txt", 5)
    assert admin.http.get(f"/v1/blobs/{attached['sha256']}").content == b"three"


def test_eight_tabs_share_one_stream_and_go_on_when_the_one_that_holds_it_is_closed(
    page_server: ServerProcess, admin: ServerApi, browser: Browser, tab: Tab, world: World
) -> None:
    execution_id: str = admin.create_execution(input="for many")["execution_id"]
    attempt = admin.start_leg(execution_id)["attempt"]
    tabs = [browser.open_tab() for _ in range(8)]
    for each in tabs:
        each.go(f"{page_server.url}/console/executions/{execution_id}")
    for each in tabs:
        each.wait_for("document.querySelector('.stream.live')")
    assert admin.append(execution_id, [answered(1, said("To all of you."))], attempt=attempt).is_success
    for each in tabs:
        each.wait_for("document.querySelector('.answered')?.textContent.includes('To all of you.')")
    # The first that came holds it: the tab of the tests before, then one of these.
    tab.go("about:blank")
    tabs[0].close()
    assert admin.append(
        execution_id, [answered(2, said("Once more.")), completed()], attempt=attempt
    ).is_success
    for each in tabs[1:]:
        each.wait_for("document.querySelector('.stream.ended')")
        each.wait_for("document.querySelector('.conversation').textContent.includes('Once more.')")
        text: str = each.run("document.querySelector('.conversation').textContent")
        assert (text.count("To all of you."), text.count("Once more.")) == (1, 1)
        each.close()


def say(tab: Tab, text: str) -> None:
    """Type something into the composer, and send it."""
    fill_in(tab, ".composer textarea", text)
    tab.run("document.querySelector('.composer form').requestSubmit()")


def fill_in(tab: Tab, field: str, text: str) -> None:
    """Type something into a field."""
    tab.run(
        f"{{const field = document.querySelector({json.dumps(field)}); "
        f"field.value = {json.dumps(text)}; field.dispatchEvent(new Event('input', {{bubbles: true}}))}}"
    )


def button_named(text: str) -> str:
    """The expression for a button with that text."""
    named = f"(each) => each.textContent.trim() === {json.dumps(text)}"
    return f"[...document.querySelectorAll('main button')].find({named})"


def test_a_search_finds_what_was_said(page_server: ServerProcess, tab: Tab, world: World) -> None:
    tab.go(f"{page_server.url}/console/executions?text=nightly")
    tab.wait_for("document.querySelectorAll('.virtual .row').length === 1")
    shown: Any = tab.run("document.querySelector('.virtual .row').getAttribute('href')")
    assert shown.endswith(world.works)
