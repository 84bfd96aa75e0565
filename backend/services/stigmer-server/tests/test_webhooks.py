"""Webhooks: signed messages that something waits, and links that answer it once."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any

import httpx
import pytest
from standardwebhooks import Webhook

from server_process import ServerApi, ServerProcess, manifest, responded, wait_until
from stigmer_contract.identifiers import INPUT_PREFIX, new_id
from webhook_receiver import Received, WebhookReceiver

NAMES = count()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server whose webhooks may be on this machine."""
    home = tmp_path_factory.mktemp("webhooks")
    environment = {
        "STIGMER_WEBHOOK_HOSTS": "127.0.0.1",
        "STIGMER_PUBLIC_URL": "https://stigmer.example.com/",
        "LOG_LEVEL": "debug",
    }
    with ServerProcess(home, environment=environment) as process:
        yield process


def add(api: ServerApi, url: str, **more: Any) -> dict[str, Any]:
    body = {"name": f"hook-{next(NAMES)}", "url": url, **more}
    answer = api.http.post("/v1/webhooks", json=body)
    assert answer.status_code == 201, answer.text
    created: dict[str, Any] = answer.json()
    return created


def ask(api: ServerApi, kind: str = "approval", **fields: Any) -> tuple[str, str]:
    """An execution that asks; its id, and the input's."""
    execution_id: str = api.create_execution(manifest=manifest(askUser=True))["execution_id"]
    attempt = api.start_leg(execution_id)["attempt"]
    content: dict[str, Any] = {"text": "Which <b>one</b>?"}
    if kind == "approval":
        content = {"toolset": "shell", "tool": "run_command", "arguments": {"command": "<script>git push"}}
    input_id = new_id(INPUT_PREFIX)
    event = {
        "type": "input.requested",
        "input_id": input_id,
        "kind": kind,
        "turn": 1,
        "call_id": "call_1",
        "tool": "run_command",
        "title": "Push <i>it</i>?",
        "content": {"kind": "inline", "value": content},
        "answer_schema": {"type": "string", "minLength": 1} if kind == "question" else None,
        **fields,
    }
    answer = api.append(execution_id, [responded(), event], attempt=attempt)
    assert answer.is_success, answer.text
    return execution_id, input_id


def message_of(received: Received, secret: str) -> dict[str, Any]:
    """What a message says, once its signature was found right."""
    message: dict[str, Any] = Webhook(secret).verify(received.body, received.headers)
    return message


def link_in(message: dict[str, Any], server: ServerProcess) -> str:
    link: str = message["data"]["link"]
    assert link.startswith("https://stigmer.example.com/answer/")
    return link.replace("https://stigmer.example.com", server.url)


def open_link(link: str, **form: str) -> httpx.Response:
    if form:
        return httpx.post(link, data=form, trust_env=False)
    return httpx.get(link, trust_env=False)


def resolutions(api: ServerApi, execution_id: str) -> list[dict[str, Any]]:
    return [each["event"] for each in api.read_log(execution_id) if each["event"]["type"] == "input.resolved"]


def test_what_is_asked_is_told_once_and_its_link_answers_it_once(
    api: ServerApi, server: ServerProcess
) -> None:
    with WebhookReceiver() as receiver:
        hook = add(api, receiver.url, events=["input.requested", "input.resolved"])
        execution_id, input_id = ask(api)
        [received] = receiver.wait_for(1)
        message = message_of(received, hook["secret"])
        assert (received.path, message["type"]) == ("/hook", "input.requested")
        told = message["data"]
        link = link_in(message, server)
        assert (told["input_id"], told["execution_id"], told["kind"]) == (input_id, execution_id, "approval")

        # Whoever opens the link decides nothing, however often.
        for _ in range(2):
            page = open_link(link)
            assert (page.status_code, page.headers["referrer-policy"]) == (200, "no-referrer")
            assert "&lt;script&gt;git push" in page.text and "<script>" not in page.text
            assert page.headers["content-security-policy"].startswith("default-src 'none';")
        assert resolutions(api, execution_id) == []
        assert open_link(link, outcome="nonsense").status_code == 422
        assert resolutions(api, execution_id) == []

        assert open_link(link, outcome="denied", reason="Not today.").status_code == 200
        again = open_link(link, outcome="approved")
        assert (again.status_code, "denied" in again.text) == (410, True)
        assert open_link(link).status_code == 410
        [event] = resolutions(api, execution_id)
        assert (event["outcome"], event["reason"]) == ("denied", "Not today.")
        assert event["resolved_by"] == f"link to webhook {hook['name']}"

        _, second = receiver.wait_for(2)
        ended = message_of(second, hook["secret"])
        assert (ended["type"], ended["data"]["outcome"]) == ("input.resolved", "denied")
        assert "link" not in ended["data"]
        api.http.delete(f"/v1/webhooks/{hook['name']}").raise_for_status()
    secret = link.rpartition("/")[2]
    for file in [server.log_file, *(server.home / "data").glob("stigmer.db*")]:
        content = file.read_bytes()
        assert secret.encode() not in content and hook["secret"].encode() not in content


def test_a_question_is_answered_in_own_words_or_by_choice(api: ServerApi, server: ServerProcess) -> None:
    with WebhookReceiver() as receiver:
        hook = add(api, receiver.url)
        execution_id, _ = ask(api, "question")
        choices = {"text": "Which?", "choices": ["red", "blue"], "own_words": False}
        chosen_id, _ = ask(api, "question", content={"kind": "inline", "value": choices})
        messages = [message_of(each, hook["secret"]) for each in receiver.wait_for(2)]
        links = {each["data"]["execution_id"]: link_in(each, server) for each in messages}

        assert "Which &lt;b&gt;one&lt;/b&gt;?" in open_link(links[execution_id]).text
        empty = open_link(links[execution_id], outcome="answered", words="")
        assert (empty.status_code, resolutions(api, execution_id)) == (422, [])
        assert open_link(links[execution_id], outcome="answered", words="grün & blau").status_code == 200
        assert open_link(links[chosen_id], outcome="answered", choice="7").status_code == 422
        assert open_link(links[chosen_id], outcome="answered", choice="1").status_code == 200

        answers = [resolutions(api, each)[0]["answer"]["value"] for each in (execution_id, chosen_id)]
        assert answers == ["grün & blau", "blue"]
        api.http.delete(f"/v1/webhooks/{hook['name']}").raise_for_status()


def test_a_link_is_dead_with_its_input_s_expiry_and_with_its_webhook(
    api: ServerApi, server: ServerProcess
) -> None:
    with WebhookReceiver() as receiver:
        hook = add(api, receiver.url)

        def links() -> dict[str, str]:
            messages = [message_of(each, hook["secret"]) for each in receiver.wait_for(0)]
            return {each["data"]["execution_id"]: link_in(each, server) for each in messages}

        execution_id = ""
        # On a busy machine the first may expire before it is told, which then it never is.
        for seconds in (8, 60):
            soon = (datetime.now(UTC) + timedelta(seconds=seconds)).isoformat()
            execution_id, _ = ask(api, expires_at=soon)
            wait_until(
                lambda this=execution_id: this in links() or bool(resolutions(api, this)), "the input is told"
            )
            if execution_id in links():
                break
        other_id, _ = ask(api)
        wait_until(lambda: other_id in links(), "the other input is told")
        link, other_link = links()[execution_id], links()[other_id]

        wait_until(lambda: bool(resolutions(api, execution_id)), "the input has expired")
        assert open_link(link).status_code in (404, 410)
        assert open_link(link, outcome="approved").status_code in (404, 410)
        assert [each["outcome"] for each in resolutions(api, execution_id)] == ["expired"]

        api.http.delete(f"/v1/webhooks/{hook['name']}").raise_for_status()
        assert open_link(other_link, outcome="approved").status_code == 404
        assert resolutions(api, other_id) == []


def test_webhooks_are_reminded_of_what_is_open_and_the_one_that_it_is_escalated_to_in_any_case(
    api: ServerApi, server: ServerProcess
) -> None:
    with WebhookReceiver() as receiver, WebhookReceiver() as of_boss:
        told = add(api, receiver.url, events=["input.reminded"])
        quiet, boss = add(api, receiver.url, events=["input.resolved"]), add(api, of_boss.url, events=[])
        past = (datetime.now(UTC) - timedelta(seconds=1)).isoformat()
        execution_id, input_id = ask(api, remind_at=past, escalate={"webhook": boss["name"]})

        for where, hook in ((receiver, told), (of_boss, boss)):
            message = message_of(where.wait_for(1)[0], hook["secret"])
            assert (message["type"], message["data"]["input_id"]) == ("input.reminded", input_id)
            assert open_link(link_in(message, server)).status_code == 200

        answered = open_link(link_in(message, server), outcome="denied", reason="No.")
        assert answered.status_code == 200
        # That it is resolved is the next thing that is said there: each was reminded once.
        resolved = message_of(receiver.wait_for(2)[1], quiet["secret"])
        assert (resolved["type"], resolved["data"]["input_id"]) == ("input.resolved", input_id)
        assert [each["resolved_by"] for each in resolutions(api, execution_id)] == [
            f"link to webhook {boss['name']}"
        ]
        assert len(of_boss.wait_for(1)) == 1
        for hook in (told, quiet, boss):
            api.http.delete(f"/v1/webhooks/{hook['name']}").raise_for_status()


def test_nobody_is_reminded_of_what_was_answered_meanwhile(api: ServerApi) -> None:
    # The first message is not taken; when it is tried again the input is resolved.
    with WebhookReceiver(500) as receiver:
        hook = add(api, receiver.url, events=["input.reminded"])
        past = (datetime.now(UTC) - timedelta(seconds=1)).isoformat()
        _, input_id = ask(api, remind_at=past)
        receiver.wait_for(1)
        decided = api.http.post(f"/v1/inputs/{input_id}", json={"outcome": "approved"})
        assert decided.is_success

        def left() -> int:
            listed = api.http.get("/v1/webhooks").json()["items"]
            return next(each["waiting"] for each in listed if each["name"] == hook["name"])

        wait_until(lambda: left() == 0, "the message is of no use any more")
        assert len(receiver.wait_for(1)) == 1
        api.http.delete(f"/v1/webhooks/{hook['name']}").raise_for_status()


def test_a_message_that_is_not_taken_is_sent_again_with_the_same_id(api: ServerApi) -> None:
    with WebhookReceiver(500) as receiver:
        hook = add(api, receiver.url)
        ask(api)
        first, second = receiver.wait_for(2)
        assert first.headers["webhook-id"] == second.headers["webhook-id"]
        bodies = [message_of(each, hook["secret"])["data"] for each in (first, second)]
        assert bodies[0]["input_id"] == bodies[1]["input_id"]

        def state() -> dict[str, Any]:
            listed = api.http.get("/v1/webhooks").json()["items"]
            return next(each for each in listed if each["name"] == hook["name"])

        wait_until(lambda: state()["waiting"] == 0, "the message is delivered")
        assert state()["last_problem"] is None
        assert "secret" not in state()
        api.http.delete(f"/v1/webhooks/{hook['name']}").raise_for_status()


def test_a_test_says_what_became_of_it_and_follows_no_redirect(api: ServerApi) -> None:
    with WebhookReceiver(302, 204) as receiver:
        hook = add(api, receiver.url, events=[])
        path = f"/v1/webhooks/{hook['name']}/test"
        assert api.http.post(path).json() == {"delivered": False, "problem": "it answered 302"}
        assert api.http.post(path).json() == {"delivered": True, "problem": None}
        received = receiver.wait_for(2)
        assert [each.path for each in received] == ["/hook", "/hook"]
        assert message_of(received[1], hook["secret"])["type"] == "webhook.test"
    refused = api.http.post(path).json()
    assert refused["delivered"] is False and refused["problem"].startswith("the connection failed: ")
    api.http.delete(f"/v1/webhooks/{hook['name']}").raise_for_status()


def test_a_webhook_that_cannot_be_is_refused_and_a_secret_of_one_is_nobody_s(api: ServerApi) -> None:
    for body in (
        {"name": "x", "url": "https://localhost:1/"},
        {"name": "x", "url": "http://example.com/"},
        {"name": "X y", "url": "https://example.com/"},
        {"name": "x", "url": "https://example.com/", "events": ["everything"]},
    ):
        answer = api.http.post("/v1/webhooks", json=body)
        if answer.is_success:  # what localhost means is looked at when it is connected to
            assert api.http.post("/v1/webhooks/x/test").json()["problem"] == (
                "the host 'localhost' has an address that is not public"
            )
            assert api.http.post("/v1/webhooks", json=body).status_code == 409
            kept = api.http.get("/v1/secrets").json()["items"]
            assert "x" not in [each["name"] for each in kept]
            api.http.delete("/v1/webhooks/x").raise_for_status()
        else:
            assert answer.status_code == 422
    assert api.http.delete("/v1/webhooks/missing").status_code == 404
    assert open_link(f"{api.http.base_url}/answer/nonsense").status_code == 404
