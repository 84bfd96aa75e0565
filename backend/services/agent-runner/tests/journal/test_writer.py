"""The way of events to the server: in order, few calls, nothing secret, no error passed over."""

import asyncio
import json
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest

from agent_runner.errors import AttemptSuperseded, ExecutionFailure, ServerRefused
from agent_runner.journal.masked_events import mask_texts
from agent_runner.journal.writer import LogWriter
from agent_runner.masking import Masker
from stigmer_contract.api import AppendResult
from stigmer_contract.conversation import ToolOutcome
from stigmer_contract.error_codes import ErrorCode
from stigmer_contract.events import (
    AskedPart,
    Event,
    ExecutionCancelled,
    InlinePayload,
    LegEnded,
    LegEndReason,
    ModelDelta,
    ModelResponded,
    StepFinished,
    ToolFinished,
    ToolOutput,
    ToolStarted,
    Usage,
)

SECRET = "s3cret-value"


class Server:
    """Takes events as a leg's client does."""

    def __init__(self, *, refuses: str = "") -> None:
        self.calls: list[list[str]] = []
        self.texts: list[str] = []
        self.shown: list[str] = []
        self.called = asyncio.Event()
        self.may_answer = asyncio.Event()
        self.may_answer.set()
        self._refuses = refuses
        self._error: ServerRefused = ServerRefused(422, ErrorCode.INVALID_REQUEST, "an event of no use")

    def supersede(self) -> None:
        self._refuses, self._error = "", AttemptSuperseded(409, ErrorCode.ATTEMPT_SUPERSEDED, "fenced off")

    async def append(self, events: Sequence[bytes]) -> AppendResult:
        await self.may_answer.wait()
        if isinstance(self._error, AttemptSuperseded) or (
            self._refuses and any(self._refuses.encode() in event for event in events)
        ):
            raise self._error
        self.calls.append([json.loads(event)["type"] for event in events])
        self.texts += [event.decode() for event in events]
        self.called.set()
        return AppendResult(last_sequence=10 + len(self.texts), cancel_requested=False)

    async def publish(self, events: Sequence[bytes]) -> None:
        self.shown += [json.loads(event)["text"] for event in events]


@asynccontextmanager
async def writing(
    server: Server, *secrets: str, now: Callable[[], float] | None = None
) -> AsyncGenerator[tuple[LogWriter, list[Exception]]]:
    failures: list[Exception] = []
    client: Any = server  # a leg's client, as far as a writer uses it
    async with LogWriter(
        client,
        Masker({f"NAME_{place}": secret for place, secret in enumerate(secrets)}),
        last_sequence=10,
        on_cancel_requested=lambda: None,
        on_failure=failures.append,
        now=now,
    ) as writer:
        yield writer, failures


def started(call_id: str, text: str = "x") -> ToolStarted:
    return ToolStarted(
        turn=1, call_id=call_id, tool="run", arguments=InlinePayload(value={"a": text}), side_effects=True
    )


def finished(call_id: str) -> ToolFinished:
    return ToolFinished(
        turn=1,
        call_id=call_id,
        tool="run",
        outcome=ToolOutcome.SUCCEEDED,
        result=InlinePayload(value={}),
        duration_seconds=0,
    )


def answered(turn: int) -> ModelResponded:
    return ModelResponded(
        turn=turn,
        model="replay:x",
        response=InlinePayload(value={}),
        usage=Usage(),
        retries=0,
        duration_seconds=0,
    )


async def test_an_event_that_is_followed_goes_with_the_one_that_follows() -> None:
    server = Server()
    async with writing(server) as (writer, _):
        writer.append(finished("c0"), more_follows=True)
        writer.append(started("c1"), more_follows=True)
        await writer.flush()
    assert server.calls == [["tool.finished", "tool.started"]]
    assert writer.last_sequence == 12


async def test_an_event_without_json_is_the_failure_of_its_step_and_the_log_goes_on() -> None:
    server = Server()
    async with writing(server) as (writer, failures):
        with pytest.raises(ExecutionFailure) as failed:
            writer.append(finished("c0"), started("c1", "\ud83d"))
        writer.append(LegEnded(attempt=1, reason=LegEndReason.FAILED))
        await writer.flush()
    assert failed.value.code is ErrorCode.EVENT_UNWRITABLE
    assert "`tool.started` could not be written into the log after event 10" in failed.value.message
    assert (server.calls, failures) == ([["tool.finished", "leg.ended"]], [])


async def test_what_the_server_refuses_is_told_and_the_end_can_still_be_written() -> None:
    server = Server(refuses="c2")
    async with writing(server) as (writer, failures):
        writer.append(started("c1"), started("c2"), started("c3"), more_follows=True)
        with pytest.raises(ServerRefused, match="an event of no use"):
            await writer.flush()
        writer.append(started("c4"))  # the leg has not noticed yet
        writer.begin_again()
        writer.append(ExecutionCancelled())
        await writer.flush()
    assert server.calls == [["tool.started"], ["execution.cancelled"]]
    assert [type(failure) for failure in failures] == [ServerRefused]


async def test_what_can_be_begun_again_waits_for_the_log_only_where_the_server_was_silent_for_a_while() -> (
    None
):
    server, seconds = Server(), 100.0
    async with writing(server, now=lambda: seconds) as (writer, _):
        server.may_answer.clear()
        writer.append(finished("c0"))
        seconds += 0.4
        await writer.secure()
        assert server.calls == []

        seconds += 60  # the runner was frozen: its execution may be another's by now
        waiting = asyncio.create_task(writer.secure())
        for _ in range(10):
            await asyncio.sleep(0)
        assert not waiting.done()
        server.may_answer.set()
        await waiting
        assert server.calls == [["tool.finished"]]

        writer.append(finished("c1"))
        await writer.secure()
        assert server.calls == [["tool.finished"]]
        await writer.flush()
    assert server.calls == [["tool.finished"], ["tool.finished"]]


async def test_what_a_request_builds_on_goes_with_an_answer_that_comes_at_once_and_else_by_itself() -> None:
    server = Server()
    async with writing(server, now=lambda: 100.0) as (writer, _):
        writer.append(started("c0"))
        await writer.flush()

        writer.append(finished("c0"), more_follows=True)
        await writer.secure()
        writer.append(answered(turn=2), more_follows=True)
        writer.append(started("c1"))
        await writer.flush()
        assert server.calls[1:] == [["tool.finished", "model.responded", "tool.started"]]

        writer.append(finished("c1"), more_follows=True)
        await writer.secure()
        server.called.clear()
        async with asyncio.timeout(60):
            await server.called.wait()
    assert server.calls[2:] == [["tool.finished"]]


async def test_a_frozen_runner_begins_nothing_of_an_execution_that_is_anothers() -> None:
    server, seconds = Server(), 100.0
    async with writing(server, now=lambda: seconds) as (writer, failures):
        writer.append(finished("c0"), more_follows=True)
        seconds += 60
        server.supersede()
        with pytest.raises(AttemptSuperseded):
            await writer.secure()
        with pytest.raises(AttemptSuperseded):
            await writer.secure()
    assert [type(failure) for failure in failures] == [AttemptSuperseded]


async def test_an_answer_that_waited_for_a_frozen_runner_to_thaw_is_old() -> None:
    server, seconds = Server(), 100.0
    async with writing(server, now=lambda: seconds) as (writer, _):
        server.may_answer.clear()
        writer.append(finished("c0"))
        for _ in range(5):  # so that it is on its way
            await asyncio.sleep(0)
        seconds += 60
        server.may_answer.set()
        await writer.flush()

        server.supersede()
        writer.append(finished("c1"), more_follows=True)
        with pytest.raises(AttemptSuperseded):
            await writer.secure()


async def test_pieces_of_an_answer_that_is_whole_are_not_shown_any_more() -> None:
    server = Server()
    async with writing(server) as (writer, _):
        writer.show(ModelDelta(turn=1, text="before"))
        writer.append(started("c1"))
        writer.show(ModelDelta(turn=2, text="Hel"))
        writer.show(ModelDelta(turn=2, kind="thinking", text="lo"))
        writer.append(answered(turn=2))
        await writer.flush()
    assert server.shown == ["before"]
    assert server.calls == [["tool.started", "model.responded"]]


async def test_a_leg_that_was_fenced_off_falls_silent() -> None:
    server = Server()
    server.supersede()
    async with writing(server) as (writer, failures):
        writer.append(started("c1"))
        with pytest.raises(AttemptSuperseded):
            await writer.flush()
    assert [type(failure) for failure in failures] == [AttemptSuperseded]


async def test_half_characters_of_a_stream_are_joined_where_they_meet_and_else_replaced() -> None:
    server = Server()
    async with writing(server) as (writer, _):
        for text in ("\ud83d", "\ude00", " and \ud83d"):
            writer.show(ModelDelta(turn=1, text=text))
        writer.append(LegEnded(attempt=1, reason=LegEndReason.DRAINED))
        await writer.flush()
    assert "".join(server.shown) == "😀 and \ufffd"


async def test_every_text_of_an_event_is_masked_whatever_its_field_is_called() -> None:
    server = Server()
    event = StepFinished(
        agent_path=f"/{SECRET}",
        kind="operation",
        key=f"call {SECRET}",
        result=InlinePayload(value={SECRET: [SECRET]}),
    )
    async with writing(server, SECRET, "tool.finished", "succeeded") as (writer, _):
        writer.append(event, ExecutionCancelled(reason=SECRET), finished("c1"))
        await writer.flush()
    assert SECRET not in "".join(server.texts)
    # Closed sets stay what they are, even where somebody's secret is one of their words.
    assert server.calls == [["step.finished", "execution.cancelled", "tool.finished"]]
    assert '"outcome":"succeeded"' in server.texts[2]


def test_texts_in_models_within_an_event_are_masked() -> None:
    masker = Masker({"KEY": SECRET})
    part = AskedPart(part="user-prompt", digest="0" * 16, text=f"use {SECRET}")
    assert mask_texts(part, masker) == part.model_copy(update={"text": "use [secret KEY]"})


@pytest.mark.parametrize("event", [started("c1"), finished("c1")])
async def test_without_secrets_an_event_is_written_as_it_is(event: Event) -> None:
    server = Server()
    async with writing(server) as (writer, _):
        writer.append(event)
        await writer.flush()
    assert server.texts == [event.model_dump_json()]


async def test_the_loop_turns_while_much_output_is_masked_for_many_long_secrets() -> None:
    server = Server()
    secrets = ["a" * (1_000 + number) + f"b{number}" for number in range(61)]
    turns, ended = 0, False

    async def turn() -> None:
        nonlocal turns
        while not ended:
            turns += 1
            await asyncio.sleep(0)

    async with writing(server, *secrets) as (writer, failures):
        for _ in range(9):
            writer.show(ToolOutput(call_id="c1", stream="stdout", text="a" * 1_000_000))
        writer.append(finished("c1"))
        before = len(server.calls)
        turning = asyncio.create_task(turn())
        await writer.flush()
        ended = True
        await turning
    assert before == 0
    assert failures == []
    assert "".join(server.shown) == "a" * 9_000_000
    assert server.calls == [["tool.finished"]]
    # On the loop it were one turn for each thing that is sent.
    assert turns > 100
