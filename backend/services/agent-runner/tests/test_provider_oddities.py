"""What odd providers send, and what an execution makes of it: the rows of `provider_oddities.yaml`.

And whatever they send: no defect, no more requests than a failure is worth, and a session that goes on.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any, Final, cast

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic_ai.messages import (
    ModelMessage,
    ModelRequest,
    ModelResponse,
    TextPart,
    ThinkingPart,
    ToolCallPart,
    ToolReturnPart,
    UserPromptPart,
)

from agent_runner.journal import patience
from agent_runner.models.event_stream import EndOfStream, EventStream
from one_answer_server import PATIENCE, WIRES, Answering, Ending, Reply, answering, execute
from stigmer_contract.conversation import ModelAnswer
from stigmer_contract.error_codes import ErrorCode
from stigmer_contract.events import HistoryRepaired, InlinePayload, ModelResponded
from stigmer_contract.manifest import Limits

Row = dict[str, Any]

ROWS: Final = Path(__file__).with_name("provider_oddities.yaml")
DONE: Final[dict[str, Row]] = {
    "chat": {"wire": "chat", "chunks": [{"content": "done"}]},
    "responses": {
        "wire": "responses",
        "json": {
            "object": "response",
            "status": "completed",
            "output": [{"type": "message", "content": [{"type": "output_text", "text": "done"}]}],
        },
    },
    "messages": {
        "wire": "messages",
        "json": {"type": "message", "content": [{"type": "text", "text": "done"}], "stop_reason": "end_turn"},
    },
}


def rows() -> Iterator[Row]:
    """All of them, with a row for each value of `for`."""
    for row in cast("list[Row]", yaml.safe_load(ROWS.read_text(encoding="utf-8"))):
        values = row.pop("for", None)
        for number, value in enumerate([None] if values is None else values):
            filled = row if values is None else cast("Row", _fill(row, value))
            name = str(filled["name"])
            yield {
                **filled,
                "name": name if values is None or "{}" in row["name"] else f"{name} {number + 1}",
            }


def _fill(template: object, value: object) -> object:
    """The row with the value in place of `{}`; a text that is nothing else becomes the value itself."""
    if isinstance(template, dict):
        named = _named(cast("dict[str, object]", template), value)
        return {key: _fill(item, value) for key, item in named.items()}
    if isinstance(template, list):
        return [_fill(item, value) for item in cast("list[object]", template)]
    if template == "{}":
        return value
    if isinstance(template, str):
        return re.sub(r"(?<!\{)\{\}(?!\})", lambda _: str(value), template)
    return template


def _named(named: dict[str, object], value: object) -> dict[str, object]:
    return {str(value) if key == "{}" else key: item for key, item in named.items()}


def reply_of(row: Row) -> Reply:
    """The response that a row describes."""
    made = _reply_of(row)
    deep = b"[" * int(row.get("deep", 0)) + b"]" * int(row.get("deep", 0))
    body = made.body.replace(b"DEEP", deep).replace(b"DIGITS", b"1" * 5000)
    return replace(made, body=body)


def _reply_of(row: Row) -> Reply:
    headers = {str(key): str(item) for key, item in row.get("headers", {}).items()}
    status = int(row.get("status", 200))
    if "json" in row:
        body = json.dumps(row["json"]).replace("LONG", "long " * 1000)
        return Reply(body.encode(), status, {"Content-Type": "application/json", **headers})
    if "body" in row:
        encoding = "latin-1" if row.get("latin1") else "utf-8"
        return Reply(row["body"].encode(encoding), status, headers, bool(row.get("cut")))
    chunks = row["chunks"] if "letters" not in row else [{"content": letter} for letter in row["letters"]]
    if row.get("wire", "chat") == "chat":
        chunks = [_chunk(each) for each in chunks]
        if row.get("finish", "stop") is not None:
            chunks.append(
                {"choices": [{"index": 0, "delta": {}, "finish_reason": row.get("finish", "stop")}]}
            )
    text = "".join(f"data: {json.dumps(chunk)}\n\n" for chunk in chunks)
    if row.get("done", True) and row.get("wire", "chat") == "chat":
        text += "data: [DONE]\n\n"
    return Reply(text.encode(), status, headers, bool(row.get("cut")))


def _chunk(each: Row) -> Row:
    if each.keys() & {"choices", "usage", "error"}:
        return each
    return {"id": "c", "choices": [{"index": 0, "delta": each, "finish_reason": None}]}


def answering_row(row: Row) -> Answering:
    wire, then = row.get("wire", "chat"), row.get("then", [])
    further = [] if then == "same" else [reply_of({"wire": wire, **each}) for each in then]
    replies = [reply_of(row), *further]
    end = replies[0] if then == "same" else reply_of(DONE[wire])

    def answer(number: int, body: dict[str, Any]) -> Reply:
        return replies[number] if number < len(replies) else end

    return answer


@pytest.fixture(autouse=True)
def a_model_that_is_away_is_asked_nine_times(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "backoff_seconds", _an_eighth_of_patience)


def _an_eighth_of_patience(failure_count: int, retry_after_seconds: float | None) -> float:
    return PATIENCE.total_seconds() / 8


def first_answer(ending: Ending) -> ModelResponded | None:
    return next((event for event in ending.events if isinstance(event, ModelResponded)), None)


def thinking_of(ending: Ending) -> str:
    event = first_answer(ending)
    assert event is not None
    assert isinstance(event.response, InlinePayload)
    answer = ModelAnswer.model_validate(event.response.value)
    return "".join(part.text for part in answer.parts if part.kind == "thinking")


ALL_ROWS: Final = list(rows())


def test_the_file_holds_enough_rows_and_no_name_twice() -> None:
    names = [row["name"] for row in ALL_ROWS]

    assert len(names) >= 250
    assert len(names) == len(set(names))


@pytest.mark.parametrize("row", ALL_ROWS, ids=lambda row: row["name"])
async def test_what_an_odd_provider_sends(row: Row) -> None:
    limits = Limits.model_validate({"turns": 12, **row.get("limits", {})})
    async with answering(answering_row(row)) as server:
        ending = await execute(row.get("wire", "chat"), server, limits=limits)

    told = f"{ending.code}: {ending.message}"
    assert (ending.code or None) == row.get("code"), told
    requests = row.get("requests", 2 if row.get("noted") else 1)
    assert len(server.bodies) == requests, told
    if "output" in row:
        assert ending.output == row["output"]
    if "noted" in row:
        assert ending.noted == row["noted"]
    if "thinking" in row:
        assert thinking_of(ending) == row["thinking"]
    assert row.get("says", "") in ending.message
    assert row.get("says_hint", "") in (ending.hint or "")
    assert len(ending.message) < 500
    assert "\n" not in ending.message
    if "never_says" in row:
        assert row["never_says"] not in ending.message
    sent = json.dumps(server.bodies[-1], ensure_ascii=False)
    assert row.get("sent", "") in sent
    if "never" in row:
        assert row["never"] not in sent
    answer = first_answer(ending)
    if "usage" in row:
        assert answer is not None
        assert [answer.usage.input_tokens, answer.usage.output_tokens] == row["usage"]
    if row.get("estimated"):
        assert answer is not None
        assert answer.usage.estimated
        assert answer.usage.total_tokens > 0


# --- what is sent back ------------------------------------------------------------------------------

_NAME: Final = re.compile(r"[a-zA-Z0-9_-]{1,64}")


def calls_in(message: Row) -> list[Row]:
    """The tool calls of a message."""
    return cast("list[Row]", message.get("tool_calls") or [])


def refusal_of(body: dict[str, Any]) -> str | None:
    """What a strict server finds wrong with a conversation in the words of Chat Completions."""
    asked: list[str] = []
    for message in body["messages"]:
        content = message.get("content")
        if isinstance(content, str) and content and not content.strip():
            return "text of white space"
        for call in calls_in(message):
            if not _NAME.fullmatch(call["function"]["name"]):
                return "a tool's name"
            if not isinstance(json.loads(call["function"]["arguments"]), dict):
                return "arguments that are no object"
            if call["id"] in asked:
                return "an id twice"
            asked.append(call["id"])
        if message["role"] == "tool" and message["tool_call_id"] not in asked:
            return "a result of no call"
    return None


def strictly(body: dict[str, Any]) -> Reply:
    """`done`, or a refusal."""
    problem = refusal_of(body)
    return refusing(problem) if problem else reply_of(DONE["chat"])


def refusing(problem: str) -> Reply:
    """A refusal with these words."""
    return reply_of({"status": 400, "json": {"error": {"message": problem}}})


ODD_HISTORY: Final[list[ModelMessage]] = [
    ModelRequest(parts=[UserPromptPart("go")]),
    ModelResponse(
        parts=[
            ThinkingPart("hm", id="r", signature="s", provider_name="anthropic"),
            TextPart(" \n"),
            ToolCallPart("no such tool!<|x|>", '{"broken', "id with spaces"),
        ]
    ),
    ModelRequest(parts=[ToolReturnPart("no such tool!<|x|>", "no", "id with spaces")]),
    ModelResponse(parts=[TextPart("so it is")]),
]


@pytest.mark.parametrize("wire", WIRES)
async def test_what_an_older_log_holds_is_sent_so_that_a_provider_takes_it(wire: str) -> None:
    async with answering(lambda number, body: reply_of(DONE[wire])) as server:
        ending = await execute(wire, server, history=ODD_HISTORY)

    assert ending.output == "done"
    sent = json.dumps(server.bodies[-1])
    assert "<|" not in sent
    assert "unreadable_arguments" in sent
    assert "id with spaces" not in sent
    assert not any(isinstance(event, HistoryRepaired) for event in ending.events)


async def test_a_conversation_that_is_refused_is_repaired_and_the_log_says_so() -> None:
    """Of a server that takes no ids but of nine letters and digits, as Mistral's."""

    def answer(number: int, body: dict[str, Any]) -> Reply:
        ids = [str(call["id"]) for message in body["messages"] for call in calls_in(message)]
        if any(not re.fullmatch("[a-zA-Z0-9]{9}", each) for each in ids):
            return reply_of(
                {"status": 400, "json": {"error": {"message": "Tool call id has to be 9 letters"}}}
            )
        return reply_of(DONE["chat"])

    async with answering(answer) as server:
        ending = await execute("chat", server, history=ODD_HISTORY)

    assert ending.output == "done"
    assert len(server.bodies) == 2
    [repaired] = [event for event in ending.events if isinstance(event, HistoryRepaired)]
    assert "Tool call id has to be 9 letters" in repaired.message


async def test_a_conversation_with_calls_that_a_server_takes_in_no_form_is_told_as_text() -> None:
    def answer(number: int, body: dict[str, Any]) -> Reply:
        if any(message.get("tool_calls") for message in body["messages"]):
            return reply_of({"status": 422, "json": {"error": {"message": "no"}}})
        return reply_of(DONE["chat"])

    async with answering(answer) as server:
        ending = await execute("chat", server, history=ODD_HISTORY)

    assert (ending.output, len(server.bodies)) == ("done", 3)


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (404, "Item with id 'rs_1' not found. Items are not persisted when `store` is set to false."),
        (400, "Item 'rs_1' of type 'reasoning' was provided without its required following item."),
        (500, "Jinja Exception: Conversation roles must alternate user/assistant/user/assistant/..."),
    ],
)
async def test_a_session_heals_whatever_status_a_server_refuses_its_conversation_with(
    status: int, words: str
) -> None:
    def answer(number: int, body: dict[str, Any]) -> Reply:
        if "rs_1" in json.dumps(body):
            return reply_of({"status": status, "json": {"error": {"message": words}}})
        return reply_of(DONE["responses"])

    thinking = ThinkingPart("hm", id="rs_1", signature="s", provider_name="openai")
    history: list[ModelMessage] = [
        ModelRequest(parts=[UserPromptPart("go")]),
        ModelResponse(parts=[thinking, TextPart("so it is")], provider_name="openai"),
    ]
    async with answering(answer) as server:
        ending = await execute("responses", server, history=history)

    assert (ending.output, len(server.bodies)) == ("done", 2)
    assert [event for event in ending.events if isinstance(event, HistoryRepaired)]


async def test_a_refusal_that_no_repair_cures_ends_after_three_requests() -> None:
    async with answering(lambda number, body: refusing("never")) as server:
        ending = await execute("chat", server, history=ODD_HISTORY)

    assert (ending.code, len(server.bodies)) == (ErrorCode.MODEL_REJECTED, 3)


async def test_ids_that_a_server_gives_again_and_again_are_told_apart() -> None:
    call = {"tool_calls": [{"index": 0, "id": "call_0", "function": {"name": "note", "arguments": "{}"}}]}

    def answer(number: int, body: dict[str, Any]) -> Reply:
        return reply_of({"chunks": [call]}) if number < 3 else strictly(body)

    async with answering(answer) as server:
        ending = await execute("chat", server)

    assert (ending.output, ending.noted) == ("done", ["", "", ""])


# --- whatever they send -----------------------------------------------------------------------------


def _pieces_of_all_rows() -> list[bytes]:
    bodies = [reply_of(row).body for row in ALL_ROWS]
    return sorted({line for body in bodies for line in re.split(rb"(?<=\n\n)|(?<=,)|(?<=:)", body)})


PIECES: Final = _pieces_of_all_rows()
STREAMS: Final = st.lists(st.sampled_from(PIECES) | st.binary(max_size=12), max_size=12).map(b"".join)


@given(body=STREAMS, wire=st.sampled_from(sorted(WIRES)), status=st.sampled_from([200, 200, 200, 400, 503]))
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
async def test_no_bytes_of_a_provider_are_a_defect_or_end_a_session(
    body: bytes, wire: str, status: int
) -> None:
    odd = Reply(body, status)

    async with answering(lambda number, asked: odd if number < 9 else reply_of(DONE[wire])) as server:
        ending = await execute(wire, server)
        requests = len(server.bodies)
    async with answering(
        lambda number, asked: strictly(asked) if wire == "chat" else reply_of(DONE[wire])
    ) as good:
        after = await execute(wire, good, history=ending.messages)

    assert ending.code is not ErrorCode.INTERNAL, ending.message
    assert requests <= 4 * 9
    assert not any(isinstance(event, HistoryRepaired) for event in after.events)
    assert after.output == "done", after.message


@given(cuts=st.lists(st.integers(0, 400), max_size=8), row=st.sampled_from(ALL_ROWS))
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_where_the_network_cuts_a_stream_changes_nothing(cuts: list[int], row: Row) -> None:
    body = reply_of(row).body
    whole, pieces = EventStream(), EventStream()
    places = sorted({0, len(body), *(min(cut, len(body)) for cut in cuts)})

    expected = [*whole.feed(body), *whole.close()]
    found = [record for start, end in pairwise(places) for record in pieces.feed(body[start:end])]
    found += pieces.close()

    assert [repr(record) for record in found if not isinstance(record, EndOfStream)] == [
        repr(record) for record in expected if not isinstance(record, EndOfStream)
    ]
