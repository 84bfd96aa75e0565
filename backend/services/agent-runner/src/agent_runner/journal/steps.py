"""One leg's steps: look a step up in the journal, else do it and write it down.

The rules that make an execution survive a crash stand here and nowhere else:

- A model answer is in the log before anything that follows from it happens.
- A tool with side effects is written down before it runs. Found started but not finished, its outcome is
  unknown: the model is told so, and nothing runs twice behind its back.
- Limits count what the log holds, so they hold across crashes.
- Told to drain, the steps in hand end and are written down; no new one begins.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

from pydantic import JsonValue, TypeAdapter
from pydantic_ai.durable_exec import CallToolResult
from pydantic_ai.messages import ModelResponse

from agent_runner.errors import ExecutionFailure, RunnerError, stack_of
from agent_runner.journal.bodies import Bodies
from agent_runner.journal.recorded import RecordedSteps
from agent_runner.journal.writer import LogWriter
from agent_runner.masking import Masker
from agent_runner.models import backoff_seconds, classify_fault, price_of
from agent_runner.server_client import ServerClient
from agent_runner.toolsets import COMMAND_TOOL
from agent_runner.tracing import mark_failed_request, mark_replayed, mark_requests, mark_tool_outcome
from stigmer_contract.error_codes import ErrorCode
from stigmer_contract.events import (
    ModelDelta,
    ModelPartial,
    ModelResponded,
    ToolFinished,
    ToolOutcome,
    ToolOutput,
    ToolStarted,
    Usage,
)
from stigmer_contract.manifest import Limits, format_duration
from stigmer_contract.pydantic_ai_format import outcome_of_pydantic_ai
from stigmer_isolation.running_command import command_output_listener

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from typing import Literal

logger = logging.getLogger(__name__)

MAX_MODEL_FAILURES: Final = 8
"""Failed requests for one answer, after which the model counts as unavailable; about two minutes."""
TOOL_TIMEOUT_GRACE_SECONDS: Final = 5.0
"""A tool that has its own time-out (a command) is to report it itself, with the output so far."""

_MODEL_RESPONSE: TypeAdapter[ModelResponse] = TypeAdapter(ModelResponse)
_ARGUMENTS: TypeAdapter[dict[str, Any]] = TypeAdapter(dict[str, Any])
_TOOL_RESULT: TypeAdapter[Any] = TypeAdapter(CallToolResult)

OUTCOME_UNKNOWN: Final = (
    "Outcome unknown: the runner was stopped while this call was running, so it may have done nothing, a "
    "part or all of its work. Look at the present state before you decide whether to do it again."
)


@dataclass(frozen=True)
class ToolCall:
    """What identifies a tool call, and what a watcher is told of it."""

    call_id: str
    tool: str
    arguments: dict[str, Any]
    side_effects: bool


class StepGate:
    """Lets steps begin until it is closed; tells when the last one in hand has ended."""

    def __init__(self) -> None:
        """Open, with no step in hand."""
        self._open = asyncio.Event()
        self._open.set()
        self._drained = asyncio.Event()
        self._in_hand = 0

    @property
    def steps_in_hand(self) -> int:
        """How many have begun and not ended."""
        return self._in_hand

    @asynccontextmanager
    async def step(self) -> "AsyncGenerator[None]":
        """Hold a step in hand. Waits for ever once the gate is closed: the leg is then cancelled."""
        await self._open.wait()
        self._in_hand += 1
        try:
            yield
        finally:
            self._in_hand -= 1
            self._note_drained()

    def close(self) -> None:
        """Let no further step begin."""
        self._open.clear()
        self._note_drained()

    async def drained(self) -> None:
        """Wait until the gate is closed and no step is in hand."""
        await self._drained.wait()

    def _note_drained(self) -> None:
        if not self._open.is_set() and not self._in_hand:
            self._drained.set()


class StepJournal:
    """The steps of one leg. `model_step` and `tool_step` are what pydantic-ai's agent runs through."""

    def __init__(
        self,
        *,
        recorded: RecordedSteps,
        writer: LogWriter,
        client: ServerClient,
        gate: StepGate,
        masker: Masker,
        model_reference: str,
        limits: Limits,
    ) -> None:
        """`recorded` is the log as the leg found it; `limits.duration` is the leg's own business.

        Answers and results are masked before they are written down and before the model reads them, so that
        a later leg goes on from the very same texts.
        """
        self._recorded = recorded
        self._writer = writer
        self._client = client
        self._bodies = Bodies(client)
        self._gate = gate
        self._masker = masker
        self._model_reference = model_reference
        self._limits = limits
        self._turn = 0
        self._usage = Usage()
        self.failure: ExecutionFailure | None = None
        """Why the execution must end as failed, once a step has found out."""

    @property
    def total_usage(self) -> Usage:
        """What the execution has used so far, whatever leg used it."""
        return self._usage

    # --- model answers ------------------------------------------------------------------------

    async def model_step(self, ask: Callable[[], Awaitable[JsonValue]]) -> JsonValue:
        """The next answer: the recorded one, else `ask` for it. Shape: `ModelResponse` as JSON.

        Raises:
            ExecutionFailure: a limit is reached, or the model cannot be had.
        """
        self._turn += 1
        known = self._recorded.responses.get(self._turn)
        if known is not None:
            mark_replayed()
            self._usage += known.usage
            return await self._bodies.load_answer(known.response)
        try:
            self._check_limits()
            async with self._gate.step():
                # What this request builds on must not be lost while it is paid for.
                await self._writer.flush()
                return await self._ask_and_record(ask)
        except ExecutionFailure as failure:
            self.failure = failure
            raise

    async def _ask_and_record(self, ask: Callable[[], Awaitable[JsonValue]]) -> JsonValue:
        started = time.monotonic()
        response, retries = await self._ask_until_answered(ask)
        mark_requests(retries + 1)
        usage = _usage_of(response)
        self._usage += usage
        self._writer.append(
            ModelResponded(
                turn=self._turn,
                model=self._model_reference,
                response=await self._bodies.store_answer(response),
                usage=usage,
                retries=retries,
                duration_seconds=round(time.monotonic() - started, 6),
            ),
            # A tool call, the next request or the leg's end, and nothing of them takes effect before.
            more_follows=True,
        )
        if self._limits.cost_usd is not None and usage.cost_usd is None:
            await self._writer.flush()
            raise ExecutionFailure(
                ErrorCode.LIMIT_COST,
                f"limits.costUsd cannot be kept: no price is known for model {self._model_reference!r}",
                "remove limits.costUsd, or limit limits.tokens instead",
            )
        return response

    def show_answer(self, kind: 'Literal["text", "thinking"]', text: str) -> None:
        """Show a piece of the answer that is being written."""
        self._writer.show(ModelDelta(turn=self._turn, kind=kind, text=text))

    async def _ask_until_answered(self, ask: Callable[[], Awaitable[JsonValue]]) -> tuple[JsonValue, int]:
        """The answer and how many requests failed before it."""
        failures = 0
        while True:
            try:
                return self._masker.mask_json(await ask()), failures
            except RunnerError:
                raise
            except Exception as error:
                fault = classify_fault(error)
                failures += 1
                mark_failed_request(fault.code)
                if not fault.retryable or failures > MAX_MODEL_FAILURES:
                    raise ExecutionFailure(fault.code, fault.message, fault.hint) from error
                delay = backoff_seconds(failures, fault.retry_after_seconds)
            logger.warning(
                "model request failed (%s); asking again in %.1f s",
                fault.code,
                delay,
                extra={"turn": self._turn, "failures": failures},
            )
            # What was shown of the broken answer no longer holds.
            self._writer.show(ModelPartial(turn=self._turn, text=""))
            await asyncio.sleep(delay)

    def _check_limits(self) -> None:
        limits, used = self._limits, self._usage
        if self._turn > limits.turns:
            raise ExecutionFailure(
                ErrorCode.LIMIT_TURNS,
                f"the agent was not done after {limits.turns} turns",
                "raise limits.turns in the manifest",
            )
        if limits.tokens is not None and used.total_tokens >= limits.tokens:
            raise ExecutionFailure(
                ErrorCode.LIMIT_TOKENS,
                f"the agent was not done after {used.total_tokens} tokens (limit {limits.tokens})",
                "raise limits.tokens in the manifest",
            )
        if limits.cost_usd is not None and (used.cost_usd or Decimal(0)) >= limits.cost_usd:
            raise ExecutionFailure(
                ErrorCode.LIMIT_COST,
                f"the agent was not done after {used.cost_usd} USD (limit {limits.cost_usd})",
                "raise limits.costUsd in the manifest",
            )

    # --- tool calls ---------------------------------------------------------------------------

    async def tool_step(self, call: ToolCall, run: Callable[[], Awaitable[JsonValue]]) -> JsonValue:
        """The result of a tool call: the recorded one, else `run` it. Shape: `CallToolResult` as JSON."""
        turn, key = self._turn, (self._turn, call.call_id)
        known = self._recorded.tools_finished.get(key)
        if known is not None:
            mark_replayed()
            return await self._bodies.load_result(known.result)
        if call.side_effects and key in self._recorded.tools_started:
            unknown = _failed_result(OUTCOME_UNKNOWN)
            await self._record_result(turn, call, unknown, ToolOutcome.UNKNOWN, 0.0)
            return unknown
        async with self._gate.step():
            if key not in self._recorded.tools_started:
                arguments = await self._client.store_payload(
                    _ARGUMENTS.dump_python(call.arguments, mode="json")
                )
                self._writer.append(
                    ToolStarted(
                        turn=turn,
                        call_id=call.call_id,
                        tool=call.tool,
                        arguments=arguments,
                        side_effects=call.side_effects,
                    )
                )
            if call.side_effects:
                await self._writer.flush()
            started = time.monotonic()
            result = self._masker.mask_json(await self._run_tool(call, run))
            await self._record_result(
                turn, call, result, outcome_of_pydantic_ai(result), time.monotonic() - started
            )
        return result

    async def _run_tool(self, call: ToolCall, run: Callable[[], Awaitable[JsonValue]]) -> JsonValue:
        def show_output(stream: "Literal['stdout', 'stderr']", text: str) -> None:
            self._writer.show(ToolOutput(call_id=call.call_id, stream=stream, text=text))

        # Other tools may run commands of their own, whose output is not meant for people.
        token = command_output_listener.set(show_output if call.tool == COMMAND_TOOL else None)
        timeout = self._limits.tool_timeout + timedelta(seconds=TOOL_TIMEOUT_GRACE_SECONDS)
        scope = asyncio.timeout(timeout.total_seconds())
        try:
            async with scope:
                return await run()
        except TimeoutError as error:
            if not scope.expired():
                return _failed_result(f"{type(error).__name__}: {error}")
            limit = format_duration(self._limits.tool_timeout)
            return _failed_result(f"The call was stopped: it took longer than {limit}.")
        except Exception as error:
            # A tool's defect is the model's to work around; it must not end the execution.
            logger.error("tool %s failed unexpectedly:\n%s", call.tool, stack_of(error))
            return _failed_result(f"The tool failed unexpectedly: {type(error).__name__}.")
        finally:
            command_output_listener.reset(token)

    async def _record_result(
        self, turn: int, call: ToolCall, result: JsonValue, outcome: ToolOutcome, duration_seconds: float
    ) -> None:
        mark_tool_outcome(outcome)
        self._writer.append(
            ToolFinished(
                turn=turn,
                call_id=call.call_id,
                tool=call.tool,
                outcome=outcome,
                result=await self._bodies.store_result(result, outcome),
                duration_seconds=round(duration_seconds, 6),
            ),
            more_follows=self._gate.steps_in_hand <= 1,
        )


def duration_exceeded(limits: Limits) -> ExecutionFailure:
    """The failure of an execution that took longer than `limits.duration`, which is set."""
    assert limits.duration is not None
    return ExecutionFailure(
        ErrorCode.LIMIT_DURATION,
        f"the agent was not done after {format_duration(limits.duration)}",
        "raise limits.duration in the manifest",
    )


def _failed_result(message: str) -> JsonValue:
    """A tool result that tells the model the call failed, in the journal's form."""
    failed = _TOOL_RESULT.validate_python({"kind": "tool_failed", "message": message})
    return _TOOL_RESULT.dump_python(failed, mode="json")


def _usage_of(response: JsonValue) -> Usage:
    parsed = _MODEL_RESPONSE.validate_python(response)
    return Usage(
        requests=1,
        input_tokens=parsed.usage.input_tokens,
        output_tokens=parsed.usage.output_tokens,
        cache_read_tokens=parsed.usage.cache_read_tokens,
        cache_write_tokens=parsed.usage.cache_write_tokens,
        cost_usd=price_of(parsed),
    )
