"""Answers and results go into the log in our own words, and come back exactly as pydantic-ai had them."""

import json
from datetime import UTC, datetime
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import JsonValue, TypeAdapter
from pydantic_ai.durable_exec import CallToolResult
from pydantic_ai.messages import (
    BinaryContent,
    BinaryImage,
    FilePart,
    ImageUrl,
    ModelRequest,
    ModelResponse,
    NativeToolCallPart,
    TextPart,
    ThinkingPart,
    ToolCallPart,
    ToolReturn,
    ToolReturnPart,
    UserPromptPart,
)

from agent_runner.journal.bodies import WRITTEN_BY, response_of, returned_by
from agent_runner.journal.conversation import NOT_CARRIED_OUT, messages_of
from agent_runner.journal.results import OUTCOME_UNKNOWN
from agent_runner.models import told_in
from stigmer_contract.conversation import (
    AnswerText,
    AnswerToolCall,
    Exact,
    ModelAnswer,
    TextContent,
    ToolOutcome,
    ToolResult,
)
from stigmer_contract.events import (
    AnyEvent,
    ExecutionStarted,
    InlinePayload,
    ModelInterrupted,
    ModelResponded,
    Payload,
    RecordedEvent,
    ToolFinished,
    ToolStarted,
    Usage,
)
from stigmer_contract.manifest import AgentSpec
from stigmer_contract.pydantic_ai_format import answer_from_pydantic_ai, result_from_pydantic_ai

RESPONSE = TypeAdapter(ModelResponse)
RESULT: TypeAdapter[Any] = TypeAdapter(CallToolResult)
PICTURE = BinaryContent(b"\x89PNG", media_type="image/png")


def through_the_log(answer: ModelAnswer) -> ModelAnswer:
    return ModelAnswer.model_validate_json(json.dumps(answer.to_json()))


def result_through_the_log(result: JsonValue) -> ToolResult:
    words = result_from_pydantic_ai(result, WRITTEN_BY)
    return ToolResult.model_validate_json(json.dumps(words.to_json()))


ARGUMENTS = st.one_of(
    st.none(),
    st.text(),
    st.dictionaries(st.text(), st.integers() | st.text() | st.none() | st.lists(st.booleans())),
    st.sampled_from(['{"a": "é"}', '{"a":"é"}', '{"a": "\\u00e9"}', '{"a":1 }', "{broken", "", "[1]", "{}"]),
)
PARTS = st.one_of(
    st.builds(TextPart, st.text(), id=st.none() | st.text(), provider_name=st.just("p")),
    st.builds(ThinkingPart, st.text(), signature=st.none() | st.text(), provider_name=st.just("p")),
    st.builds(
        ToolCallPart, st.text(min_size=1), ARGUMENTS, st.text(min_size=1), tool_kind=st.none() | st.text()
    ),
    st.builds(NativeToolCallPart, st.just("web"), st.just({"q": 1}), st.text(min_size=1)),
    st.builds(FilePart, st.just(PICTURE)),
)


@given(st.lists(PARTS, max_size=4), st.none() | st.sampled_from(["stop", "length", "tool_call"]))
def test_an_answer_comes_back_exactly_as_it_was(parts: list[Any], finish_reason: Any) -> None:
    response = ModelResponse(
        parts=parts, model_name="m", finish_reason=finish_reason, provider_details={"z": None, "y": [1]}
    )
    dumped = RESPONSE.dump_python(response, mode="json")

    answer = through_the_log(answer_from_pydantic_ai(dumped, WRITTEN_BY))

    assert RESPONSE.validate_python(response_of(answer)) == RESPONSE.validate_python(dumped)


@pytest.mark.parametrize(
    "value",
    [
        *("x", "", [1, 2], [], ["a"], None, {"a": None}, 5, True),
        *(PICTURE, [PICTURE], ["Here:", PICTURE, {"n": 1}], ImageUrl("https://example.com/a.png")),
        *(ToolReturn("x", metadata={"m": 1}), ToolReturn([PICTURE], content=["see", PICTURE])),
        *(ToolReturn("x", content="hey"), ToolReturn("x", content=[], tools=["t"]), {"kind": "binary"}),
    ],
)
def test_a_returned_value_comes_back_exactly_as_it_was(value: Any) -> None:
    dumped = RESULT.dump_python(RESULT.validate_python({"kind": "tool_return", "result": value}), mode="json")

    back = returned_by(result_through_the_log(dumped))

    assert RESULT.validate_python(back) == RESULT.validate_python(dumped)


@pytest.mark.parametrize(
    ("dumped", "outcome"),
    [
        ({"kind": "model_retry", "message": "m"}, ToolOutcome.FAILED),
        ({"kind": "tool_failed", "message": "m"}, ToolOutcome.FAILED),
        ({"kind": "run_cancelled", "message": "m", "timed_out": True}, ToolOutcome.CANCELLED),
        (
            {
                "kind": "validation_error",
                "title": "t",
                "errors": [{"type": "missing", "loc": ["a", 0], "msg": "Field required", "input": "x"}],
            },
            ToolOutcome.INVALID,
        ),
        ({"kind": "tool_content_result", "result": {"kind": "tool-return"}}, ToolOutcome.SUCCEEDED),
    ],
)
def test_other_results_come_back_exactly_as_they_were(dumped: JsonValue, outcome: ToolOutcome) -> None:
    result = result_through_the_log(dumped)

    assert result.outcome is outcome
    assert RESULT.validate_python(returned_by(result)) == RESULT.validate_python(dumped)


def test_what_another_version_kept_beside_is_left_out_where_it_is_not_taken() -> None:
    answer = ModelAnswer(
        parts=[AnswerText(text="Hello")],
        exact=Exact(by="pydantic-ai 99", message={"usage": "much"}, parts=[{"part_kind": "hologram"}]),
    )
    result = ToolResult(
        outcome=ToolOutcome.SUCCEEDED,
        content=[TextContent(text="fine")],
        exact=Exact(by="pydantic-ai 99", message={"kind": "hologram"}),
    )

    assert RESPONSE.validate_python(response_of(answer)).parts == [TextPart("Hello")]
    assert RESULT.validate_python(returned_by(result)).result == "fine"


# --- history ----------------------------------------------------------------------------------

MOMENT = datetime(2026, 1, 1, tzinfo=UTC)


def log_of(*events: AnyEvent) -> list[RecordedEvent]:
    started = ExecutionStarted(
        session_id="ses_1",
        agent_name="a",
        spec=AgentSpec(instructions="x"),
        input=InlinePayload(value="Go."),
    )
    return [
        RecordedEvent(sequence=sequence, recorded_at=MOMENT, event=event)
        for sequence, event in enumerate([started, *events], 1)
    ]


def answered(*calls: str) -> ModelResponded:
    parts = [AnswerToolCall(call_id=call, tool="run_command", arguments={"command": "x"}) for call in calls]
    value = ModelAnswer(parts=[*parts]).to_json()
    return ModelResponded(
        turn=1, model="m", response=InlinePayload(value=value), usage=Usage(), duration_seconds=0
    )


def begun(call: str) -> ToolStarted:
    return ToolStarted(
        turn=1, call_id=call, tool="run_command", arguments=InlinePayload(value={}), side_effects=True
    )


def ended(call: str, result: ToolResult) -> ToolFinished:
    return ToolFinished(
        turn=1,
        call_id=call,
        tool="run_command",
        outcome=result.outcome,
        result=InlinePayload(value=result.to_json()),
        duration_seconds=0,
    )


async def load(payload: Payload) -> JsonValue:
    assert isinstance(payload, InlinePayload)
    return payload.value


async def test_of_a_call_that_had_begun_nobody_says_that_it_was_not_carried_out() -> None:
    messages = await messages_of(log_of(answered("a", "b"), begun("a")), load)

    told = messages[2].parts
    assert [(part.content, part.outcome) for part in cast("list[ToolReturnPart]", told)] == [
        (OUTCOME_UNKNOWN, "failed"),
        (NOT_CARRIED_OUT, "interrupted"),
    ]


async def test_an_answer_that_was_cut_off_is_told_as_such() -> None:
    cut = ModelInterrupted(turn=2, model="a:m", text=InlinePayload(value="Once upon \n"), usage=Usage())
    silent = cut.model_copy(update={"text": InlinePayload(value="")})

    called = [answered("a"), begun("a")]
    messages = await messages_of(log_of(*called, cut), load)

    assert isinstance(said := messages[-2], ModelResponse)
    assert said.text == "Once upon"
    [note] = messages[-1].parts
    assert "stopped you here" in str(note)
    assert told_in(note) is not None
    assert len(await messages_of(log_of(*called, silent), load)) == len(messages) - 2


async def test_a_picture_that_a_tool_returned_stays_a_picture() -> None:
    dumped = RESULT.dump_python(
        RESULT.validate_python({"kind": "tool_return", "result": ["Here:", PICTURE]}), mode="json"
    )
    result = result_from_pydantic_ai(dumped, WRITTEN_BY)

    messages = await messages_of(log_of(answered("a"), begun("a"), ended("a", result)), load)

    [told] = messages[2].parts
    assert isinstance(told, ToolReturnPart)
    [caption, picture] = cast("list[Any]", told.content)
    assert (caption, type(picture), picture.data) == ("Here:", BinaryImage, PICTURE.data)


async def test_what_is_shown_beside_results_stands_behind_all_of_them() -> None:
    returned = RESULT.dump_python(
        RESULT.validate_python({"kind": "tool_return", "result": ToolReturn("1", content=[PICTURE])}),
        mode="json",
    )
    first = result_from_pydantic_ai(returned, WRITTEN_BY)
    second = ToolResult(outcome=ToolOutcome.DENIED, content=[TextContent(text="No.")])

    messages = await messages_of(log_of(answered("a", "b"), ended("a", first), ended("b", second)), load)

    request = messages[2]
    assert isinstance(request, ModelRequest)
    assert [type(part) for part in request.parts] == [ToolReturnPart, ToolReturnPart, UserPromptPart]
    assert [part.outcome for part in request.parts if isinstance(part, ToolReturnPart)] == [
        "success",
        "denied",
    ]
