"""Turns the events of an execution into the messages the model was shown, for those who come after it.

What the person said, what the model answered and what it was told of its calls is taken as recorded, whether
the execution ended well or not. Of a call whose end is not recorded it says what is known: that it was not
carried out, or that nobody knows.
"""

from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from typing import Final, cast

from pydantic import JsonValue, TypeAdapter
from pydantic_ai.messages import ModelMessage, UserPromptPart

from agent_runner.journal.bodies import response_of
from agent_runner.journal.kinds import MESSAGE, NOTE, WAIT
from agent_runner.journal.recorded import MESSAGE_SAID, MESSAGE_SEQUENCE, message_in
from agent_runner.journal.results import OUTCOME_UNKNOWN
from agent_runner.models import read_cut, read_message, read_note, told_in
from stigmer_contract.attachments import Attachment
from stigmer_contract.conversation import (
    AnswerText,
    ModelAnswer,
    TextContent,
    ToolOutcome,
    ToolResult,
)
from stigmer_contract.events import (
    ExecutionStarted,
    MessageReceived,
    ModelInterrupted,
    ModelResponded,
    Payload,
    RecordedEvent,
    StepFinished,
    ToolFinished,
    ToolStarted,
)
from stigmer_contract.pydantic_ai_format import told_to_pydantic_ai

LoadPayload = Callable[[Payload], Awaitable[JsonValue]]

NOT_CARRIED_OUT: Final = "The call was not carried out: the execution ended before it began."
_PART: Final = TypeAdapter(UserPromptPart)
_PAYLOAD: Final[TypeAdapter[Payload]] = TypeAdapter(Payload)
_MESSAGES: Final[TypeAdapter[list[ModelMessage]]] = TypeAdapter(list[ModelMessage])


async def messages_of(events: Sequence[RecordedEvent], load: LoadPayload) -> list[ModelMessage]:
    """The messages that events tell of, in order; every tool call in them has its result.

    `events` is a log from some answered turn on, or the whole of it, ascending by sequence.
    """
    results: dict[tuple[int, str], tuple[ToolResult, datetime]] = {}
    started: set[tuple[int, str]] = set()
    for recorded in events:
        event = recorded.event
        # What agents below the execution's own said to each other is no part of the conversation.
        if getattr(event, "agent_path", ""):
            continue
        if isinstance(event, ToolStarted) and event.side_effects:
            started.add((event.turn, event.call_id))
        elif isinstance(event, ToolFinished):
            result = ToolResult.model_validate(await load(event.result))
            results[event.turn, event.call_id] = result, recorded.recorded_at
    messages: list[JsonValue] = []
    given: set[int | None] = set()
    for recorded in events:
        event = recorded.event
        if isinstance(event, ExecutionStarted):
            if event.fork is not None and (event.fork.step or event.fork.in_place):
                continue  # it stands in what comes before, or was said to nobody
            prompt: JsonValue = {
                "part_kind": "user-prompt",
                "content": str(await load(event.input)) + _attached(event.attachments),
                "timestamp": recorded.recorded_at.isoformat(),
            }
            messages.append({"kind": "request", "parts": [prompt]})
        elif isinstance(event, ModelResponded) and not event.agent_path:
            answer = ModelAnswer.model_validate(await load(event.response))
            messages.append(response_of(answer))
            parts: list[JsonValue] = []
            for call in answer.tool_calls:
                key = event.turn, call.call_id
                result, told_at = results.get(
                    key, (_result_of_unfinished(key in started), recorded.recorded_at)
                )
                parts += told_to_pydantic_ai(call.call_id, call.tool, result, told_at)
            if parts:
                # What is shown beside results stands behind all of them.
                messages.append({"kind": "request", "parts": sorted(parts, key=_is_beside)})
        elif isinstance(event, ModelInterrupted):
            if text := str(await load(event.text)).rstrip():
                messages.append(response_of(ModelAnswer(parts=[AnswerText(text=text)])))
                _add(messages, read_cut(recorded.recorded_at))
        elif isinstance(event, StepFinished) and event.result is not None:
            if event.kind in (MESSAGE, WAIT):
                given.add(message_in(event))
            if event.kind == NOTE:
                _add(messages, read_note(cast("dict[str, JsonValue]", await load(event.result))))
            elif event.kind == MESSAGE:
                _add(messages, await read_message_step(event.result, load))
    for recorded in events:
        # What the execution ended without an answer to, the next one is told.
        if isinstance(message := recorded.event, MessageReceived) and recorded.sequence not in given:
            text, at = str(await load(message.message)), recorded.recorded_at.isoformat()
            _add(messages, read_message(text, recorded.sequence, at))
    return _MESSAGES.validate_python(messages)


async def read_message_step(result: Payload, load: LoadPayload) -> UserPromptPart:
    """What the person said, as the step of it tells."""
    step = cast("dict[str, JsonValue]", await load(result))
    text = await load(_PAYLOAD.validate_python(step[MESSAGE_SAID]))
    return read_message(str(text), cast("int", step[MESSAGE_SEQUENCE]), str(step["at"]))


def _attached(attachments: Sequence[Attachment]) -> str:
    """That files came with the person's words, where the words are all that is kept of them."""
    return "".join(f"\n\n[attached: {each.name}; it is not shown again]" for each in attachments)


def _add(messages: list[JsonValue], added: UserPromptPart) -> None:
    """Put a note or a message at the end of what came before it; of both, the message stands first."""
    part = cast("JsonValue", _PART.dump_python(added, mode="json"))
    match messages[-1] if messages else None:
        case {"kind": "request", "parts": list() as parts}:
            place = len(parts)
            while told_in(added) is None and place and _is_note(parts[place - 1]):
                place -= 1
            parts.insert(place, part)
        case _:
            messages.append({"kind": "request", "parts": [part]})


def _is_note(part: JsonValue) -> bool:
    match part:
        case {"part_kind": "user-prompt"}:
            return told_in(_PART.validate_python(part)) is not None
        case _:
            return False


def _is_beside(part: JsonValue) -> bool:
    return isinstance(part, dict) and part["part_kind"] != "tool-return"


def _result_of_unfinished(had_started: bool) -> ToolResult:
    if had_started:
        return ToolResult(outcome=ToolOutcome.UNKNOWN, content=[TextContent(text=OUTCOME_UNKNOWN)])
    return ToolResult(outcome=ToolOutcome.CANCELLED, content=[TextContent(text=NOT_CARRIED_OUT)])
