"""The cassette's text, and how a log becomes a cassette."""

import json
from datetime import UTC, datetime

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import JsonValue

from stigmer_contract.cassette import (
    Cassette,
    CassetteToolCall,
    CassetteUsage,
    Expectation,
    ExpectedResult,
    Turn,
    cassette_from_events,
    dump_cassette,
    load_cassette,
)
from stigmer_contract.errors import CassetteError
from stigmer_contract.events import (
    BlobPayload,
    Event,
    ExecutionStarted,
    InlinePayload,
    ModelResponded,
    RecordedEvent,
    ToolFinished,
    ToolOutcome,
    Usage,
)
from stigmer_contract.manifest import AgentSpec
from stigmer_contract.pydantic_ai_format import BY_0_1_0, answer_from_pydantic_ai, result_from_pydantic_ai

WRITTEN = """\
version: 1
agent: report-writer
model: openai:gpt-5
turns:
- expect:
    prompt: |-
      Count the lines.
      Be quick: yes
  thinking: Let me look.
  toolCalls:
  - id: call_1
    tool: run_command
    arguments:
      command: wc -l < data.csv
  usage:
    inputTokens: 120
    outputTokens: 9
- expect:
    results:
    - tool: run_command
      result: '12'
  text: There are 12 lines.
"""


def test_a_cassette_reads_as_a_person_would_write_it() -> None:
    cassette = Cassette(
        version=1,
        agent="report-writer",
        model="openai:gpt-5",
        turns=[
            Turn(
                expect=Expectation(prompt="Count the lines.\nBe quick: yes"),
                thinking="Let me look.",
                tool_calls=[
                    CassetteToolCall(
                        id="call_1", tool="run_command", arguments={"command": "wc -l < data.csv"}
                    )
                ],
                usage=CassetteUsage(input_tokens=120, output_tokens=9),
            ),
            Turn(
                expect=Expectation(results=[ExpectedResult(tool="run_command", result="12")]),
                text="There are 12 lines.",
            ),
        ],
    )

    assert dump_cassette(cassette) == WRITTEN
    assert load_cassette(WRITTEN) == cassette


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**60), 2**60)
    | st.floats(allow_nan=False, allow_infinity=False)
    # YAML holds every character but lone surrogates and two that are no characters.
    | st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\ufffe\uffff")),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text("abc:-#yn1 \n", max_size=4), inner, max_size=3)
    ),
    max_leaves=6,
)


@given(json_values)
@example("\x85")
@example("a\n\x85\u2028b\r\u2029")
def test_every_result_survives_writing_and_reading(result: JsonValue) -> None:
    cassette = Cassette(
        version=1,
        turns=[Turn(expect=Expectation(results=[ExpectedResult(tool="t", result=result)]), text=str(result))],
    )

    assert load_cassette(dump_cassette(cassette)) == cassette


def test_words_and_dates_are_text_and_only_json_has_types() -> None:
    text = "version: 1\nturns:\n- text: yes\n- text: 2024-05-01\n- text: 010\n- text: <<\n- text: ''\n"

    assert [turn.text for turn in load_cassette(text).turns] == ["yes", "2024-05-01", "010", "<<", ""]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "must be a mapping"),
        ("version: 1\n", "line 1: turns: is missing"),
        ("version: 2\nturns: [{text: a}]\n", "line 1: version: must be 1"),
        (
            "version: 1\nturns:\n- text: a\n- txt: b\n",
            "line 4: turns[1].txt: there is no such field here",
        ),
        (
            "version: 1\nturns:\n- expect:\n    prompt: a\n  thinking: b\n",
            "line 3: turns[0]: a turn needs text or toolCalls",
        ),
        (
            "version: 1\nturns:\n- text: a\n  expect: {}\n",
            "line 4: turns[0].expect: give exactly one of prompt, promptMatches and results",
        ),
        (
            "version: 1\nturns:\n- text: a\n  expect:\n    results:\n    - {tool: t, resultMatches: '('}\n",
            "line 6: turns[0].expect.results[0].resultMatches: '(' is not a regular expression: "
            "missing ), unterminated subpattern at position 0",
        ),
        (
            "version: 1\nturns:\n- text: a\n  expect:\n    results:\n"
            "    - {tool: t, result: 1, resultMatches: a}\n",
            "line 6: turns[0].expect.results[0]: give result or resultMatches, not both",
        ),
        (
            "version: 1\nturns:\n- toolCalls:\n  - {tool: t, arguments: [1]}\n",
            "line 4: turns[0].toolCalls[0].arguments: must be a mapping",
        ),
        ("version: 1\nturns: [\n", "line 3: did not find expected node content"),
        ("a: &x [1]\nb: *x\n", "aliases (`*name`) are not supported; write the value out"),
        ("!!python/name:os.system\n", "line 1: could not determine a constructor for the tag"),
    ],
)
def test_a_wrong_cassette_names_the_line_and_what_would_be_right(text: str, message: str) -> None:
    with pytest.raises(CassetteError) as caught:
        load_cassette(text)

    assert str(caught.value).startswith(message)


def test_bytes_that_are_no_text_are_refused() -> None:
    with pytest.raises(CassetteError, match="this is not UTF-8 text"):
        load_cassette(b"\xff\xfe")


# --- from a log -------------------------------------------------------------------------------


def record(*events: Event) -> list[RecordedEvent]:
    moment = datetime(2025, 1, 1, tzinfo=UTC)
    return [
        RecordedEvent(sequence=sequence, recorded_at=moment, event=event)
        for sequence, event in enumerate(events, start=1)
    ]


def no_blob(sha256: str) -> bytes:
    raise AssertionError(f"blob {sha256} was asked for")


def started(prompt: str) -> ExecutionStarted:
    return ExecutionStarted(
        session_id="ses_1",
        agent_name="counter",
        spec=AgentSpec(instructions="Count."),
        input=InlinePayload(value=prompt),
    )


def responded(turn: int, *parts: JsonValue) -> ModelResponded:
    return ModelResponded(
        turn=turn,
        model="openai:gpt-5",
        response=InlinePayload(value=answer_from_pydantic_ai({"parts": list(parts)}, BY_0_1_0).to_json()),
        usage=Usage(requests=1, input_tokens=10 * turn, output_tokens=turn),
        duration_seconds=0.1,
    )


def call(call_id: str, arguments: JsonValue) -> JsonValue:
    return {"part_kind": "tool-call", "tool_name": "look", "tool_call_id": call_id, "args": arguments}


def finished(
    call_id: str, result: JsonValue, outcome: ToolOutcome = ToolOutcome.SUCCEEDED, turn: int = 1
) -> ToolFinished:
    return ToolFinished(
        turn=turn,
        call_id=call_id,
        tool="look",
        outcome=outcome,
        result=InlinePayload(value=result_from_pydantic_ai(result, BY_0_1_0, outcome).to_json()),
        duration_seconds=0.1,
    )


def test_a_log_becomes_turns_that_expect_what_the_model_was_told() -> None:
    events = record(
        started("Count."),
        responded(
            1,
            {"part_kind": "thinking", "content": "Hm."},
            {"part_kind": "text", "content": "I look."},
            call("c1", '{"path": "a"}'),
            call("c2", {"path": "b"}),
        ),
        # in the order in which they ended, not in that of the calls
        finished("c2", {"kind": "tool_return", "result": {"kind": "tool-return", "return_value": [2]}}),
        finished("c1", {"kind": "tool_return", "result": "1"}),
        responded(2, call("c3", "{broken"), call("c4", None)),
        finished("c4", {"kind": "model_retry", "message": "no such path"}, ToolOutcome.FAILED, turn=2),
        responded(3, call("c5", {}), call("c6", {})),
        finished("c5", {"kind": "tool_failed", "message": "started, then"}, ToolOutcome.UNKNOWN, turn=3),
        finished("c6", {"kind": "tool_failed", "message": "disk full"}, ToolOutcome.FAILED, turn=3),
        responded(4, {"part_kind": "text", "content": "Three."}),
    )

    cassette = cassette_from_events(events, no_blob)

    assert cassette == Cassette(
        version=1,
        agent="counter",
        model="openai:gpt-5",
        turns=[
            Turn(
                expect=Expectation(prompt="Count."),
                thinking="Hm.",
                text="I look.",
                tool_calls=[
                    CassetteToolCall(id="c1", tool="look", arguments={"path": "a"}),
                    CassetteToolCall(id="c2", tool="look", arguments={"path": "b"}),
                ],
                usage=CassetteUsage(input_tokens=10, output_tokens=1),
            ),
            Turn(
                expect=Expectation(
                    results=[
                        ExpectedResult(tool="look", result="1"),
                        ExpectedResult(tool="look", result=[2]),
                    ]
                ),
                tool_calls=[
                    CassetteToolCall(id="c3", tool="look", arguments="{broken"),
                    CassetteToolCall(id="c4", tool="look", arguments={}),
                ],
                usage=CassetteUsage(input_tokens=20, output_tokens=2),
            ),
            Turn(
                # Bad arguments are answered without a tool event, so nothing is known about that result.
                expect=Expectation(
                    results=[
                        ExpectedResult(tool="look"),
                        ExpectedResult(tool="look", result="no such path"),
                    ]
                ),
                tool_calls=[
                    CassetteToolCall(id="c5", tool="look", arguments={}),
                    CassetteToolCall(id="c6", tool="look", arguments={}),
                ],
                usage=CassetteUsage(input_tokens=30, output_tokens=3),
            ),
            Turn(
                expect=Expectation(
                    results=[
                        ExpectedResult(tool="look"),
                        ExpectedResult(tool="look", result="disk full"),
                    ]
                ),
                text="Three.",
                usage=CassetteUsage(input_tokens=40, output_tokens=4),
            ),
        ],
    )


def test_large_payloads_are_read_from_their_blobs() -> None:
    blobs = {"a" * 64: json.dumps("A long prompt").encode()}
    start = started("").model_copy(
        update={"input": BlobPayload(sha256="a" * 64, size_bytes=len(blobs["a" * 64]))}
    )

    cassette = cassette_from_events(
        record(start, responded(1, {"part_kind": "text", "content": "Yes."})), blobs.__getitem__
    )

    assert cassette.turns[0].expect == Expectation(prompt="A long prompt")


def test_the_logs_of_a_session_become_one_cassette_with_a_prompt_for_each_execution() -> None:
    first = record(started("One."), responded(1, {"part_kind": "text", "content": "1"}))
    second = record(started("Two."), responded(1, {"part_kind": "text", "content": "2"}))

    cassette = cassette_from_events([*first, *second], no_blob)

    assert [turn.expect for turn in cassette.turns] == [
        Expectation(prompt="One."),
        Expectation(prompt="Two."),
    ]


def test_a_log_without_an_answer_is_no_cassette() -> None:
    with pytest.raises(ValueError, match="there is no model answer in this log"):
        cassette_from_events(record(started("Count.")), no_blob)
