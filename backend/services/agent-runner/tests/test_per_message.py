"""What is kept of a conversation from one request to the next changes nothing of what is sent."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import httpx2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic_ai.messages import (
    BinaryContent,
    InstructionBaselinePart,
    InstructionPart,
    ModelMessage,
    ModelRequest,
    ModelRequestPart,
    ModelResponse,
    ModelResponsePart,
    RetryFeedbackPart,
    RetryInfo,
    SystemPromptPart,
    TextPart,
    ThinkingPart,
    ToolCallPart,
    ToolReturnPart,
    UserPromptPart,
)
from pydantic_ai.models import Model, ModelRequestParameters
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.settings import ModelSettings

from agent_runner.models.anthropic_models import anthropic_model
from agent_runner.models.asking import AsksDirectly, Endpoint, encode_body
from agent_runner.models.openai_models import compatible_model, openai_model
from agent_runner.models.per_message import PerMessage

Make = Callable[[], Model]
PARAMETERS = (
    ModelRequestParameters(),
    ModelRequestParameters(instruction_parts=[InstructionPart("Work."), InstructionPart("Well.")]),
)


ENDPOINT = Endpoint("http://localhost/v1", {}, httpx2.AsyncClient(verify=False))  # asked for nothing


MAKERS: tuple[Make, ...] = (
    lambda: compatible_model("gpt-5", endpoint=ENDPOINT),
    lambda: openai_model("gpt-5", endpoint=ENDPOINT),
    lambda: anthropic_model("claude-sonnet-5", endpoint=ENDPOINT),
)
PIXEL = BinaryContent(b"\x89PNG\r\n", media_type="image/png")

_texts = st.sampled_from(["", " ", "one", "two\nlines", "ü"])


_words: st.SearchStrategy[ModelResponsePart] = st.one_of(
    st.builds(TextPart, _texts), st.builds(ThinkingPart, _texts, id=st.sampled_from([None, "reasoning"]))
)
_arguments = st.sampled_from(['{"a": 1}', "{", "", '{"a": 1}{"b": 2}'])
_further: st.SearchStrategy[ModelRequestPart] = st.one_of(
    st.builds(UserPromptPart, st.sampled_from(["go on", ["see", PIXEL]])),
    st.just(RetryFeedbackPart("again", retry=RetryInfo(cause="no_output"))),
    st.builds(SystemPromptPart, _texts, scope=st.sampled_from(["conversation", "request"])),
)


@st.composite
def _turns(draw: st.DrawFn, number: int) -> list[ModelMessage]:
    """An answer and what was said to it; with calls that are answered in another order, and odd ones."""
    name = draw(st.sampled_from(["read_file", "run|channel|x"]))
    ids = [f"call_{number}_{place}" for place in range(2)]
    results: list[ModelRequestPart] = [
        ToolReturnPart(name, draw(st.sampled_from(["done", {"a": 1}, [PIXEL]])), ids[0]),
        ToolReturnPart(
            name, draw(_texts), ids[1], outcome=draw(st.sampled_from(["success", "failed", "retried"]))
        ),
    ]
    calls = [ToolCallPart(name, draw(_arguments), call_id) for call_id in ids]
    return [
        ModelResponse(parts=[*draw(st.lists(_words, max_size=2)), *calls], provider_name="openai-compatible"),
        ModelRequest(parts=[*draw(st.permutations(results)), *draw(st.lists(_further, max_size=1))]),
    ]


_beginnings: st.SearchStrategy[list[ModelRequestPart]] = st.sampled_from(
    [
        [UserPromptPart("go")],
        [SystemPromptPart("be brief"), UserPromptPart("go")],
        [InstructionBaselinePart(instructions=[]), UserPromptPart("go")],
        [SystemPromptPart("for now", scope="request"), UserPromptPart("go")],
    ]
)


async def _sent(model: Model, messages: Sequence[ModelMessage], parameters: ModelRequestParameters) -> bytes:
    assert isinstance(model, AsksDirectly)
    prepared = model.prepare_messages(list(messages), parameters)
    body, _ = await model.body_of(model.as_taken_back(prepared), ModelSettings(), parameters)
    return encode_body(body)


@pytest.mark.parametrize("make", MAKERS, ids=["chat", "responses", "messages"])
@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_a_model_that_has_asked_before_sends_what_one_that_has_not_would(
    make: Make, data: st.DataObject
) -> None:
    messages: list[ModelMessage] = [ModelRequest(parts=list(data.draw(_beginnings)))]
    asking, parameters = make(), data.draw(st.sampled_from(PARAMETERS))
    for number in range(4):
        sent, alone = (asyncio.run(_sent(model, messages, parameters)) for model in (asking, make()))
        assert sent == alone
        match data.draw(st.sampled_from(["turn", "turn", "same", "compacted", "changed"])):
            case "turn":
                messages += data.draw(_turns(number))
            case "compacted":
                messages = [ModelRequest(parts=[UserPromptPart("summary")]), *messages[-2:]]
            case "changed":
                place = data.draw(st.integers(0, len(messages) - 1))
                message = messages[place]
                if isinstance(message, ModelRequest):
                    messages[place] = replace(message, parts=[*message.parts, UserPromptPart("besides")])
            case _:
                pass


def test_of_a_conversation_that_goes_on_only_what_is_new_is_written_down(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    counts: list[int] = []
    write_all = OpenAIChatModel._map_messages  # pyright: ignore[reportPrivateUsage] - what is to be spared

    async def count(self: OpenAIChatModel, messages: Sequence[ModelMessage], *rest: Any, **more: Any) -> Any:
        counts.append(len(messages))
        return await write_all(self, messages, *rest, **more)

    monkeypatch.setattr(OpenAIChatModel, "_map_messages", count)
    model = compatible_model("gpt-5", endpoint=ENDPOINT)
    messages: list[ModelMessage] = [ModelRequest(parts=[UserPromptPart("go")])]
    for number in range(4):
        asyncio.run(_sent(model, messages, PARAMETERS[1]))
        call_id = f"call_{number}"
        messages.append(ModelResponse(parts=[ToolCallPart("read_file", "{}", call_id)]))
        messages.append(ModelRequest(parts=[ToolReturnPart("read_file", "done", call_id)]))
    assert counts == [1, 2, 2, 2]


def test_only_what_the_last_request_had_is_kept_and_new_parts_make_another_message() -> None:
    known, messages = PerMessage[int](), [ModelRequest(parts=[UserPromptPart(str(n))]) for n in range(3)]
    known.begin()
    for number, message in enumerate(messages):
        assert known.find(message) is None
        known.keep(message, number)
    known.begin()
    assert [known.find(message) for message in messages[:2]] == [0, 1]
    messages[1].parts = [*messages[1].parts, UserPromptPart("more")]
    assert known.find(messages[1]) is None
    known.begin()
    assert [known.find(message) for message in messages] == [0, None, None]
