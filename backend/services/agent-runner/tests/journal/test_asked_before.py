"""A run holds only what is new since the last request; what the model is asked is the whole conversation."""

from collections.abc import Sequence
from typing import TypeGuard, cast

from pydantic_ai import ModelRetry, RunContext
from pydantic_ai.messages import (
    ModelMessage,
    ModelRequest,
    ModelResponse,
    TextPart,
    ToolCallPart,
    ToolReturnPart,
    UserPromptPart,
)
from pydantic_ai.toolsets import FunctionToolset

from agent_runner.journal.asked_before import AskedBefore
from journal_legs import Leg, ScriptedModel
from stigmer_contract.events import HistoryStored, InlinePayload

TURNS = 8


async def test_every_request_has_the_whole_conversation_and_the_run_only_its_end() -> None:
    leg, held = Leg(), list[int]()
    tools = FunctionToolset[None](id="notes")

    @tools.tool
    def note(ctx: RunContext[None], number: int) -> str:
        held.append(len(ctx.messages))
        if number == 3:
            raise ModelRetry("Not three.")
        return f"noted {number}"

    calls = [ModelResponse(parts=[ToolCallPart("note", {"number": n}, f"c{n}")]) for n in range(TURNS)]
    scripted = ScriptedModel(*calls, "done")

    result = await leg.agent(scripted.model, tools).run("Note.")

    assert [len(asked) for asked in scripted.messages] == [1 + 2 * turn for turn in range(TURNS + 1)]
    asked = scripted.messages[-1]
    told = [part.content for message in asked[2::2] for part in message.parts if _is_result(part)]
    assert [text for text in told if text != "Not three."] == [f"noted {n}" for n in range(TURNS) if n != 3]
    assert max(held) <= 4
    # All that was asked before is in each request as it was, so that a provider's cache holds.
    assert all(one is other for one, other in zip(scripted.messages[-2], asked, strict=False))
    stored = await leg.journal.whole_history(result.all_messages())
    pieces = [event for event in leg.log.new if isinstance(event, HistoryStored)] + stored
    assert [text for piece in pieces for text in _texts(piece)] == ["Note.", *told, "done"]


def test_a_run_keeps_messages_with_what_pydantic_ai_looks_for_later() -> None:
    before, plain = AskedBefore(), [_asked("go"), _answer("1"), _asked("more")]
    run: list[ModelMessage] = [
        ModelRequest(parts=[ToolReturnPart("search_tools", "found", "s1")]),
        *plain[1:],
    ]
    before.note(run, run)
    run.append(_answer("2"))
    assert not before.take_from(run)
    assert len(run) == 4
    assert before.messages == []


def test_an_answer_that_is_collected_in_pieces_is_taken_over_once_it_is_whole() -> None:
    before, first = AskedBefore(), _asked("go")
    run: list[ModelMessage] = [first]
    before.note([first, _answer("the beginning")], run)
    run += [_answer("the whole"), _asked("more")]
    assert not before.take_from(run)
    before.note(run, run)
    run += [_answer("next"), _asked("and more")]
    assert before.take_from(run)
    assert [_words(message) for message in before.messages] == [
        [("user-prompt", "go")],
        [("text", "the whole")],
        [("user-prompt", "more")],
    ]
    assert len(run) == 2


def test_a_request_gets_its_beginning_once_and_none_after_a_compaction() -> None:
    before = AskedBefore()
    run: list[ModelMessage] = [_asked("go")]
    before.note(run, run)
    run += [_answer("1"), _asked("once more")]
    assert before.take_from(run)
    request = list(run)
    before.put_before(request)
    whole = list(request)
    before.put_before(request)
    assert request == whole
    assert len(request) == 3
    before.forget()
    request = list(run)
    before.put_before(request)
    assert request == run


def _asked(text: str) -> ModelRequest:
    return ModelRequest(parts=[UserPromptPart(text)])


def _answer(text: str) -> ModelResponse:
    return ModelResponse(parts=[TextPart(text)])


def _texts(piece: HistoryStored) -> list[object]:
    assert isinstance(piece.messages, InlinePayload)
    messages = cast("dict[str, list[dict[str, list[dict[str, object]]]]]", piece.messages.value)["messages"]
    return [part["content"] for message in messages for part in message["parts"] if "content" in part]


def _is_result(part: object) -> TypeGuard[ToolReturnPart]:
    return isinstance(part, ToolReturnPart)


def _words(message: ModelMessage) -> Sequence[tuple[str, object]]:
    return [(part.part_kind, getattr(part, "content", getattr(part, "args", None))) for part in message.parts]
