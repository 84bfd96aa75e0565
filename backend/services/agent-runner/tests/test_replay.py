"""The model `replay:`: which turn it plays, and what it says when a conversation no longer fits."""

import asyncio
import hashlib
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import cast

import pytest
from pydantic import JsonValue, TypeAdapter
from pydantic_ai import Agent, ModelRetry
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
from pydantic_ai.models import Model, ModelRequestParameters

from agent_runner.errors import ExecutionFailure
from agent_runner.journal.bodies import WRITTEN_BY
from agent_runner.models import ModelPool
from agent_runner.models.replay import ReplayModel
from agent_runner.settings import load_settings
from model_server import VALID_KEY, ModelServer, ScriptedCall, ScriptedModel, ScriptedTurn
from stigmer_contract.cassette import cassette_from_events, dump_cassette, load_cassette
from stigmer_contract.error_codes import ErrorCode
from stigmer_contract.events import (
    Event,
    ExecutionStarted,
    InlinePayload,
    ModelResponded,
    RecordedEvent,
    ToolFinished,
    Usage,
)
from stigmer_contract.manifest import AgentSpec
from stigmer_contract.pydantic_ai_format import answer_from_pydantic_ai, result_from_pydantic_ai
from watching import Watching

TWO_TURNS = """
version: 1
turns:
- expect: {prompt: "Look into a and b."}
  toolCalls:
  - {tool: look, arguments: {path: a}}
  - {tool: look, arguments: {path: b}}
- expect:
    results:
    - {tool: look, result: content of a}
    - {tool: look, resultMatches: "of [bc]$"}
  text: Both are fine.
  usage: {inputTokens: 40, outputTokens: 4}
"""


def replay(text: str, name: str = "demo.yaml") -> ReplayModel:
    return ReplayModel(name, load_cassette(text))


def agent_with(model: Model, content: str = "content of") -> Agent:
    agent = Agent(model, instructions="Look into files.")

    @agent.tool_plain
    async def look(path: str) -> str:
        if path == "b":  # the second call ends first
            return f"{content} {path}"
        await asyncio.sleep(0)
        if path == "nowhere":
            raise ModelRetry("There is no such file.")
        return f"{content} {path}"

    return agent


async def mismatch(model: Model, messages: list[ModelMessage]) -> str:
    with pytest.raises(ExecutionFailure) as caught:
        await model.request(messages, None, ModelRequestParameters())
    assert caught.value.code is ErrorCode.REPLAY_MISMATCH
    assert caught.value.hint == (
        "record the cassette again with `stigmer run --record FILE`, or edit what it expects"
    )
    return caught.value.message


def asked(prompt: str) -> ModelRequest:
    return ModelRequest(parts=[UserPromptPart(prompt)])


def told(*results: tuple[str, JsonValue]) -> ModelRequest:
    return ModelRequest(
        parts=[
            ToolReturnPart(tool, content, f"call_1_{place}")
            for place, (tool, content) in enumerate(results, start=1)
        ]
    )


CALLED = ModelResponse(
    parts=[ToolCallPart("look", {"path": "a"}, "call_1_1"), ToolCallPart("look", {"path": "b"}, "call_1_2")]
)


# --- playing ----------------------------------------------------------------------------------


async def test_an_agent_runs_on_a_cassette_as_on_the_model_it_was_recorded_from() -> None:
    result = await agent_with(replay(TWO_TURNS)).run("Look into a and b.")

    assert result.output == "Both are fine."
    assert result.usage.input_tokens == 40


async def test_an_answer_is_shown_word_by_word() -> None:
    model = replay(
        "version: 1\nturns: [{thinking: Let me see., text: 'One two,  three.\n', usage: {outputTokens: 9}}]"
    )
    watching = Watching()

    response = await model.answer([asked("Hi")], None, ModelRequestParameters(), watching)

    assert response.parts == [ThinkingPart("Let me see."), TextPart("One two,  three. ")]
    assert watching.pieces == ["Let ", "me ", "see.", "One ", "two,  ", "three. "]
    assert (response.usage.output_tokens, response.finish_reason, response.provider_name) == (
        9,
        "stop",
        "replay",
    )


async def test_bad_arguments_and_unknown_tools_of_a_cassette_reach_the_agent() -> None:
    text = """
version: 1
turns:
- toolCalls: [{tool: look, arguments: '{"path"'}, {tool: fly}, {tool: look, arguments: {path: nowhere}}]
- expect:
    results:
    - {tool: look, resultMatches: Invalid JSON}
    - {tool: fly, resultMatches: "Unknown tool name: 'fly'"}
    - {tool: look, result: There is no such file.}
  text: I give up.
"""
    assert (await agent_with(replay(text)).run("Look.")).output == "I give up."


async def test_a_reminder_after_an_empty_answer_is_no_new_execution() -> None:
    text = "version: 1\nturns: [{expect: {prompt: Look.}, text: ''}, {text: Sorry. Here I am.}]"

    assert (await agent_with(replay(text)).run("Look.")).output == "Sorry. Here I am."


async def test_a_cassette_of_one_execution_plays_anywhere_in_a_session() -> None:
    first = await agent_with(replay("version: 1\nturns: [{expect: {prompt: Hi}, text: Hello.}]")).run("Hi")

    second = await agent_with(replay(TWO_TURNS)).run(
        "Look into a and b.", message_history=first.all_messages()
    )

    assert second.output == "Both are fine."


async def test_an_earlier_execution_that_broke_off_in_a_tool_call_does_not_shift_the_turns() -> None:
    # pydantic-ai puts the results of the earlier execution and the new prompt into one message.
    history = [asked("Earlier."), CALLED, told(("look", "not carried out"), ("look", "not carried out"))]

    result = await agent_with(replay(TWO_TURNS)).run("Look into a and b.", message_history=history)

    assert result.output == "Both are fine."


async def test_a_cassette_of_a_session_plays_each_execution_from_its_own_prompt() -> None:
    model = replay(
        "version: 1\nturns:\n"
        "- {expect: {prompt: Hi}, text: Hello.}\n"
        "- {expect: {prompt: Bye}, toolCalls: [{tool: look, arguments: {path: a}}]}\n"
        "- {text: See you.}\n"
    )
    agent = agent_with(model)

    first = await agent.run("Hi")
    second = await agent.run("Bye", message_history=first.all_messages())

    assert (first.output, second.output) == ("Hello.", "See you.")
    assert await mismatch(model, [*second.all_messages(), asked("Again")]) == (
        "the conversation no longer matches the cassette 'demo.yaml': "
        "it covers a session of 2 executions, and this is execution 3"
    )


# --- mismatches -------------------------------------------------------------------------------


async def test_another_prompt_is_shown_as_a_difference() -> None:
    assert await mismatch(replay(TWO_TURNS), [asked("Look into a and c.")]) == (
        "the conversation no longer matches the cassette 'demo.yaml': turn 1: the prompt differs\n"
        "--- in the cassette\n"
        "+++ now\n"
        "@@ -1 +1 @@\n"
        "-Look into a and b.\n"
        "+Look into a and c."
    )


async def test_another_result_is_shown_as_a_difference() -> None:
    expected = "line 1\nline 2\nline 3\nline 4\nline 5\n"
    text = (
        "version: 1\nturns:\n- {toolCalls: [{tool: look}]}\n"
        f"- {{text: a, expect: {{results: [{{tool: look, result: {json.dumps(expected)}}}]}}}}\n"
    )
    now = expected.replace("line 4", "line four")

    assert await mismatch(replay(text), [asked("Go"), CALLED, told(("look", now))]) == (
        "the conversation no longer matches the cassette 'demo.yaml': "
        "turn 2: result 1, of tool 'look', differs\n"
        "--- in the cassette\n"
        "+++ now\n"
        "@@ -2,4 +2,4 @@\n"
        " line 2\n"
        " line 3\n"
        "-line 4\n"
        "+line four\n"
        " line 5"
    )


async def test_a_result_that_does_not_match_its_pattern_is_shown() -> None:
    messages = [asked("Go"), CALLED, told(("look", "content of a"), ("look", {"error": "gone"}))]

    assert await mismatch(replay(TWO_TURNS), messages) == (
        "the conversation no longer matches the cassette 'demo.yaml': "
        "turn 2: result 2, of tool 'look', does not match 'of [bc]$'\n"
        '{\n  "error": "gone"\n}'
    )


async def test_results_of_other_tools_are_named() -> None:
    messages = [asked("Go"), CALLED, told(("look", "content of a"), ("listen", "hm"))]

    assert await mismatch(replay(TWO_TURNS), messages) == (
        "the conversation no longer matches the cassette 'demo.yaml': turn 2: results of other tools\n"
        "--- in the cassette\n"
        "+++ now\n"
        "@@ -1,2 +1,2 @@\n"
        " look\n"
        "-look\n"
        "+listen"
    )


async def test_a_conversation_beyond_the_last_turn_shows_what_came_after_it() -> None:
    final = ModelResponse(parts=[ToolCallPart("look", {}, "call_1_1")])

    assert await mismatch(
        replay(TWO_TURNS), [asked("Go"), CALLED, told(), final, told(("look", "more"))]
    ) == (
        "the conversation no longer matches the cassette 'demo.yaml': "
        "it ends with turn 2 here, and the conversation goes on\n"
        "result of tool 'look': more"
    )


async def test_a_turn_that_answers_a_prompt_does_not_answer_tools() -> None:
    model = replay("version: 1\nturns: [{expect: {promptMatches: ^Hi}, text: Hello.}]")

    assert await mismatch(model, [told(("look", "something"))]) == (
        "the conversation no longer matches the cassette 'demo.yaml': "
        "turn 1 answers a prompt, but there is none\n"
        "result of tool 'look': something"
    )
    assert await mismatch(model, [asked("Ho")]) == (
        "the conversation no longer matches the cassette 'demo.yaml': "
        "turn 1: the prompt does not match '^Hi'\nHo"
    )


async def test_a_pattern_of_a_cassette_cannot_hold_the_runner_up() -> None:
    model = replay("version: 1\nturns: [{expect: {promptMatches: '^(a+)+$'}, text: Hello.}]")
    assert "does not match" in await mismatch(model, [asked("a" * 100_000 + "!")])

    model = replay("version: 1\nturns: [{expect: {promptMatches: '(?=a)a'}, text: Hello.}]")
    with pytest.raises(ExecutionFailure, match=r"the pattern '\(\?=a\)a' cannot be used"):
        await model.request([asked("a")], None, ModelRequestParameters())


async def test_an_answer_of_spaces_does_not_hold_the_runner_up() -> None:
    spaces = " " * 400_000  # took minutes
    model = replay(f"version: 1\nturns: [{{text: '{spaces}'}}, {{text: '{spaces}x'}}]")
    watching = Watching()
    response = await model.answer([asked("Hi")], None, ModelRequestParameters(), watching)
    assert (response.parts, "".join(watching.pieces)) == ([TextPart(spaces)], spaces)


async def test_a_long_difference_is_cut() -> None:
    expected = json.dumps("\n".join(f"old {number} " + "x" * 500 for number in range(100)))
    text = f"version: 1\nturns: [{{expect: {{prompt: {expected}}}, text: a}}]"

    message = await mismatch(replay(text), [asked("new")])

    lines = message.splitlines()
    assert (len(lines), lines[-1]) == (42, "… and 64 more lines")
    assert max(map(len, lines)) == 200


async def test_line_ends_at_the_end_are_not_compared() -> None:
    model = replay("version: 1\nturns:\n- text: Hello.\n  expect:\n    prompt: |\n      Hi\n")

    response = await model.request([asked("Hi")], None, ModelRequestParameters())

    assert response.text == "Hello."


# --- where cassettes come from ----------------------------------------------------------------


async def test_a_cassette_is_loaded_from_the_blob_store_once() -> None:
    sha256 = hashlib.sha256(TWO_TURNS.encode()).hexdigest()
    loads: list[str] = []

    async def load_blob(wanted: str) -> bytes:
        loads.append(wanted)
        return TWO_TURNS.encode()

    pool = ModelPool(load_settings({"STIGMER_TOKEN": "t", "MODE": "cloud"}))
    built = [await pool.build(f"replay:sha256:{sha256}", load_blob) for _ in range(2)]

    assert loads == [sha256]
    assert [one.reference for one in built] == [f"replay:sha256:{sha256}"] * 2
    assert (await agent_with(built[1].model).run("Look into a and b.")).output == "Both are fine."


async def test_a_cassette_may_be_a_file_on_a_persons_own_machine(tmp_path: Path) -> None:
    path = tmp_path / "demo.yaml"
    path.write_text(TWO_TURNS, encoding="utf-8")
    pool = ModelPool(load_settings({"STIGMER_TOKEN": "t"}))

    async def load_blob(wanted: str) -> bytes:
        raise AssertionError(wanted)

    built = await pool.build(f"replay:{path}", load_blob)

    assert (await agent_with(built.model).run("Look into a and b.")).output == "Both are fine."


async def test_a_broken_cassette_names_its_line() -> None:
    async def load_blob(wanted: str) -> bytes:
        return b"version: 1\nturns:\n- txt: a\n"

    pool = ModelPool(load_settings({"STIGMER_TOKEN": "t"}))
    with pytest.raises(ExecutionFailure) as caught:
        await pool.build(f"replay:sha256:{'a' * 64}", load_blob)

    assert (caught.value.code, caught.value.message) == (
        ErrorCode.MODEL_NOT_CONFIGURED,
        "the cassette 'sha256:aaaaaaaaaaaa…' cannot be played: "
        "line 3: turns[0].txt: there is no such field here",
    )


# --- there and back ---------------------------------------------------------------------------


def log_of(messages: list[ModelMessage]) -> list[RecordedEvent]:
    """The log that an execution with these messages leaves."""
    events: list[Event] = []
    turn = 0
    for message in messages:
        if isinstance(message, ModelResponse):
            turn += 1
            response = answer_from_pydantic_ai(
                TypeAdapter(ModelResponse).dump_python(message, mode="json"), WRITTEN_BY
            ).to_json()
            usage = Usage(input_tokens=message.usage.input_tokens, output_tokens=message.usage.output_tokens)
            events.append(
                ModelResponded(
                    turn=turn,
                    model="openai:gpt-5",
                    response=InlinePayload(value=response),
                    usage=usage,
                    duration_seconds=0.1,
                )
            )
            continue
        for part in message.parts:
            if isinstance(part, UserPromptPart):
                events.append(
                    ExecutionStarted(
                        session_id="ses_1",
                        agent_name="looker",
                        spec=AgentSpec(instructions="Look into files."),
                        input=InlinePayload(value=str(part.content)),
                    )
                )
            elif isinstance(part, ToolReturnPart):
                content = cast("JsonValue", part.content)
                told: dict[str, JsonValue] = (
                    {"kind": "model_retry", "message": content}
                    if part.outcome == "retried"
                    else {"kind": "tool_return", "result": content}
                )
                result = result_from_pydantic_ai(told, WRITTEN_BY)
                events.append(
                    ToolFinished(
                        turn=turn,
                        call_id=part.tool_call_id,
                        tool=part.tool_name,
                        outcome=result.outcome,
                        result=InlinePayload(value=result.to_json()),
                        duration_seconds=0.1,
                    )
                )
    moment = datetime(2025, 1, 1, tzinfo=UTC)
    return [RecordedEvent(sequence=n, recorded_at=moment, event=event) for n, event in enumerate(events, 1)]


def substance_of(messages: list[ModelMessage]) -> list[object]:
    """What was said, without times, ids of messages and the provider's details."""
    substance: list[object] = []
    for message in messages:
        for part in message.parts:
            match part:
                case ToolCallPart():
                    substance.append((part.tool_name, part.args_as_dict(), part.tool_call_id))
                case ToolReturnPart():
                    substance.append((part.tool_name, part.content, part.tool_call_id, part.outcome))
                case _:
                    substance.append(getattr(part, "content", None))
    return substance


@pytest.mark.parametrize(
    "reference", ["openai:gpt-5", "anthropic:claude-sonnet-5", "openai-compatible:local"]
)
async def test_a_cassette_recorded_from_a_run_replays_the_run(reference: str) -> None:
    script = ScriptedModel(
        [
            ScriptedTurn(
                "I look.", [ScriptedCall("look", {"path": "a"}), ScriptedCall("look", {"path": "b"})]
            ),
            ScriptedTurn("", [ScriptedCall("look", {"path": "nowhere"})], thinking="And there?"),
            ScriptedTurn("Line one,\nline two."),
        ]
    )
    provider = reference.partition(":")[0]
    environ = {"STIGMER_TOKEN": "t", "STIGMER_LLM_PROVIDER": provider, "STIGMER_LLM_API_KEY": VALID_KEY}
    with ModelServer(script) as server:
        pool = ModelPool(load_settings({**environ, "STIGMER_LLM_BASE_URL": server.url}))

        async def no_blob(sha256: str) -> bytes:
            raise AssertionError(sha256)

        model = (await pool.build(reference, no_blob)).model
        recorded = await agent_with(model).run("Look around.\nThoroughly.")
        await pool.close()

    def no_content(sha256: str) -> bytes:
        raise AssertionError(sha256)

    text = dump_cassette(cassette_from_events(log_of(recorded.all_messages()), no_content))
    replayed = await agent_with(replay(text)).run("Look around.\nThoroughly.")

    assert substance_of(replayed.all_messages()) == substance_of(recorded.all_messages())
    assert replayed.usage.total_tokens == recorded.usage.total_tokens
    with pytest.raises(ExecutionFailure) as caught:
        await agent_with(replay(text), content="something else in").run("Look around.\nThoroughly.")
    assert "turn 2: result 1, of tool 'look', differs" in caught.value.message
