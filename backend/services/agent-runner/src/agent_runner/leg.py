"""A leg: works on one execution until the agent is done, fails, is cancelled or has to hand back.

Reads what it needs from the server, runs the agent through the journal, and writes how it ended. Knows
nothing of Temporal; `legs` begins it.
"""

import asyncio
import logging
from collections.abc import Sequence
from typing import Final

from pydantic import JsonValue
from pydantic_ai.exceptions import AgentRunError
from pydantic_ai.messages import UserContent
from pydantic_ai.usage import UsageLimits

from agent_runner.agent_builder import build_agent
from agent_runner.artifacts import collect_artifacts
from agent_runner.attachments import prompt_with
from agent_runner.changed_files import warn_of_changes
from agent_runner.errors import AttemptSuperseded, ExecutionFailure, ServerRefused, stack_of
from agent_runner.inspecting import inspect_tools
from agent_runner.journal.approvals import Approvals
from agent_runner.journal.bodies import Bodies
from agent_runner.journal.budget import Budget, duration_exceeded
from agent_runner.journal.compacting import compaction_rules
from agent_runner.journal.durability import JournalDurability
from agent_runner.journal.gate import StepGate
from agent_runner.journal.history import load_history, without_pieces
from agent_runner.journal.inputs import InputSteps
from agent_runner.journal.messages import MessageSteps
from agent_runner.journal.middle_of_calls import MiddleOfCalls
from agent_runner.journal.open_waits import OpenWaits, ServerClock
from agent_runner.journal.recorded import RecordedSteps
from agent_runner.journal.steps import JournalParts, StepJournal
from agent_runner.journal.surrogates import mend, mend_json
from agent_runner.journal.surroundings import open_surroundings
from agent_runner.journal.tool_lists import open_mcp_toolsets
from agent_runner.journal.tool_search import tool_searching
from agent_runner.journal.unexecuted import UnexecutedCalls
from agent_runner.journal.waits import WaitSteps
from agent_runner.journal.writer import LogWriter
from agent_runner.leg_parts import LegParts, StopReason, cancel_and_wait, defect, sleep_for
from agent_runner.leg_workspace import restore_fork, rewind_workspace, snapshot_taker
from agent_runner.masking import Masker
from agent_runner.models import ShownAnswers, describe_unusable, has_price, model_settings
from agent_runner.server_client import LegClient
from agent_runner.snapshots import StepSnapshots
from agent_runner.toolsets import asker, middle_of_call, waiter
from agent_runner.toolsets.command_variables import excess_of, tool_variables
from agent_runner.tracing import mark_leg_end
from agent_runner.workspace import PackFolders, SessionWorkspace, open_packs, open_workspace
from stigmer_contract.api import LegGrant
from stigmer_contract.error_codes import ErrorCode
from stigmer_contract.events import (
    EVENT_ADAPTER,
    Event,
    ExecutionCancelled,
    ExecutionCompleted,
    ExecutionFailed,
    HistoryStored,
    LegEnded,
    LegEndReason,
    TerminalEvent,
)
from stigmer_contract.temporal import LegOutcome, LegResult
from stigmer_contract.waits import WaitKind, WaitReason, first_time

logger = logging.getLogger(__name__)

CANCEL_GRACE_SECONDS: Final = 3.0
"""So long the calls of a cancelled execution may take to end by themselves; then they are killed."""


class Leg:
    """One attempt at one execution."""

    def __init__(self, grant: LegGrant, parts: LegParts) -> None:
        """Does nothing until `run`."""
        self._grant = grant
        self._parts = parts
        self._client = LegClient(parts.client, grant)
        self._execution_id = grant.execution.execution_id
        self._recorded = RecordedSteps.from_events(grant.events, grant.resumption)
        self._seen = self._recorded.sequence
        self._clock = ServerClock(grant.events[-1].recorded_at)
        self._gate = StepGate()
        self._waits = OpenWaits(self._gate, self._clock)
        self._reasons: list[WaitReason] = []
        self._is_paused = False
        self._stop_reason: StopReason | None = None
        self._stopped = asyncio.Event()
        self._refusal: Exception | None = None
        self._workspace: SessionWorkspace | None = None
        self._snapshots: StepSnapshots | None = None
        self._whole_history: list[HistoryStored] = []

    def drain(self) -> None:
        """Finish the steps in hand, begin no other, and hand back."""
        self._gate.close()

    def pause(self) -> None:
        """Finish the steps in hand, begin no other, and wait until the execution is resumed."""
        self._is_paused = True
        self._gate.close()

    def stop(self, reason: StopReason) -> None:
        """Drop what is in hand and end. The first reason holds, but falling silent outweighs all."""
        if self._stop_reason is None or reason is StopReason.FALL_SILENT:
            self._stop_reason = reason
            self._stopped.set()

    async def run(self) -> LegResult:
        """Work to the end, and write down how it came."""
        log_context = {"execution_id": self._execution_id, "attempt": self._grant.attempt}
        logger.info("leg started", extra=log_context)
        # With too many no command is run that could show one.
        secrets = self._grant.secrets if excess_of(self._grant.secrets) is None else {}
        held = {**secrets, **self._grant.model_keys}
        learns = any(server.takes_logins for server in self._grant.spec.mcp_servers)
        with (
            self._parts.secrets.held(held, learns=learns) as masker,
            self._parts.tracing.leg(self._grant),
        ):
            async with LogWriter(
                self._client,
                masker,
                last_sequence=self._recorded.sequence,
                last_message=max(self._recorded.messages, default=0),
                on_cancel_requested=lambda: self.stop(StopReason.CANCEL),
                on_failure=self._append_refused,
                on_paused=self.pause,
            ) as writer:
                try:
                    result = await self._run_and_conclude(writer, masker)
                finally:
                    if self._snapshots is not None:
                        self._snapshots.close()
        logger.info("leg ended: %s", result.outcome, extra=log_context)
        return result

    async def _run_and_conclude(self, writer: LogWriter, masker: Masker) -> LegResult:
        limits = self._grant.spec.limits
        snapshots = StepSnapshots(self._client, lambda event: writer.append(event, more_follows=True))
        journal = StepJournal(
            JournalParts(
                recorded=self._recorded,
                log=writer,
                bodies=Bodies(self._client),
                gate=self._gate,
                masker=masker,
                budget=Budget(limits, self._recorded.usage),
                limits=limits,
                waits=self._waits,
                snapshots=snapshots,
            )
        )
        self._snapshots = snapshots
        # Before anything is written: what had begun then, another runner began.
        unexecuted = UnexecutedCalls(journal)
        work = asyncio.create_task(self._work(journal), name=f"agent {self._execution_id}")
        try:
            await self._wait_for_end(work)
            if self._stop_reason is StopReason.CANCEL:
                await self._let_calls_end(journal, work)
        finally:
            await cancel_and_wait(work)
        if self._stop_reason is StopReason.FALL_SILENT:
            return LegResult(outcome=LegOutcome.SUPERSEDED)
        try:
            if self._stop_reason is StopReason.WAIT:
                await snapshots.settle()
                if await self._put_down_waiting(writer):
                    return self._waiting()
            reason, terminal = await self._conclusion(work, writer)
            mark_leg_end(reason, terminal)
            if isinstance(terminal, ExecutionCancelled):
                await journal.note_interrupted()
            if isinstance(terminal, ExecutionFailed | ExecutionCancelled):
                await unexecuted.settle(terminal)
            if self._stop_reason is not StopReason.HAND_BACK:
                await snapshots.settle()
            terminal = await self._write_end(writer, masker, reason, terminal)
        except AttemptSuperseded:
            return LegResult(outcome=LegOutcome.SUPERSEDED)
        return LegResult(outcome=LegOutcome.DRAINED if terminal is None else LegOutcome.ENDED)

    async def _write_end(
        self, writer: LogWriter, masker: Masker, reason: LegEndReason, terminal: TerminalEvent | None
    ) -> TerminalEvent | None:
        """Write down how the leg ended, and the execution. None: it goes on in another leg."""
        left = await self._what_is_left(masker, collects=terminal is not None)
        ended = LegEnded(attempt=self._grant.attempt, reason=reason)
        if not isinstance(terminal, ExecutionCompleted):
            writer.append(*left, *([ended] if terminal is None else [ended, terminal]))
            await writer.flush()
            return terminal
        # All messages up to there were given to the agent, or the log refuses the end.
        seen = max(self._recorded.sequence, self._recorded.messages_given)
        ended = ended.model_copy(update={"seen": seen})
        writer.append_as_one(*left, *self._whole_history, ended, terminal)
        try:
            await writer.flush()
        except ServerRefused as refusal:
            if refusal.code is not ErrorCode.WOKEN:
                raise
            writer.begin_again()
            return await self._write_end(writer, masker, LegEndReason.DRAINED, None)
        return terminal

    async def _what_is_left(self, masker: Masker, *, collects: bool) -> list[Event]:
        """What is to be told of the workspace; nothing where the leg did not come to open one."""
        if self._workspace is None:
            return []
        told: list[Event] = [*await warn_of_changes(self._workspace.watch, self._execution_id)]
        is_agents = self._grant.inspection is None and not (self._grant.fork and self._grant.fork.in_place)
        if collects and is_agents:
            patterns = self._grant.spec.artifacts
            told += await collect_artifacts(self._workspace, patterns, self._client, masker)
        return told

    async def _put_down_waiting(self, writer: LogWriter) -> bool:
        """Write down what the execution waits for; False where the next leg is due at once."""
        mark_leg_end(LegEndReason.WAITING, None)
        await writer.flush()
        ended = LegEnded(
            attempt=self._grant.attempt,
            reason=LegEndReason.WAITING,
            waiting_for=self._reasons,
            seen=self._seen,
        )
        try:
            await self._client.append([EVENT_ADAPTER.dump_json(ended)])
        except AttemptSuperseded:
            raise
        except ServerRefused as refusal:
            logger.info("not waiting: %s", refusal, extra={"execution_id": self._execution_id})
            return False
        return True

    def _waiting(self) -> LegResult:
        until = first_time(self._reasons)
        seconds = None if until is None else max(0.0, (until - self._clock.now()).total_seconds())
        return LegResult(outcome=LegOutcome.WAITING, wait_seconds=seconds)

    def _append_refused(self, error: Exception) -> None:
        if isinstance(error, AttemptSuperseded):
            self.stop(StopReason.FALL_SILENT)
            return
        if isinstance(error, ServerRefused) and error.code is ErrorCode.WOKEN:
            return  # a message came before the end
        logger.error("the log took no more events: %s", error, extra={"execution_id": self._execution_id})
        self._refusal = error
        self.stop(StopReason.LOG_REFUSES)

    async def _wait_for_end(self, work: asyncio.Task[JsonValue]) -> None:
        """Return when the work is done, or has to be cancelled."""
        stopped = asyncio.create_task(self._stopped.wait())
        drained = asyncio.create_task(self._gate.drained())
        overdue = asyncio.create_task(sleep_for(self._grant.seconds_left))
        ends = {work, stopped, drained, overdue}
        while not any(task.done() for task in ends):
            idle = asyncio.create_task(self._gate.idle())
            await asyncio.wait({*ends, idle}, return_when=asyncio.FIRST_COMPLETED)
            # Without a pause: a wait that ended just now is one no more, and what waited for it goes on.
            if idle.done() and self._gate.is_idle:
                self._reasons = self._waits.reasons
                self.stop(StopReason.WAIT)
            await cancel_and_wait(idle)
        if overdue.done() and not work.done():
            self.stop(StopReason.OVERDUE)
        elif drained.done() and self._is_paused and not work.done():
            self._reasons = [WaitReason(kind=WaitKind.PAUSE)]
            self.stop(StopReason.WAIT)
        for task in (stopped, drained, overdue):
            await cancel_and_wait(task)

    async def _let_calls_end(self, journal: StepJournal, work: asyncio.Task[JsonValue]) -> None:
        """Ask the calls in hand to end, and give them a moment for that; no other begins."""
        self._gate.close()
        journal.calls.ask_to_end()
        none_left = asyncio.create_task(journal.calls.none_left())
        await asyncio.wait(
            {work, none_left}, timeout=CANCEL_GRACE_SECONDS, return_when=asyncio.FIRST_COMPLETED
        )
        await cancel_and_wait(none_left)

    # --- the work -----------------------------------------------------------------------------

    async def _work(self, journal: StepJournal) -> JsonValue:
        """Run the agent; the journal makes it skip what is already done. Returns its final answer.

        Raises:
            ExecutionFailure: the execution cannot go on.
        """
        await self._load_history(journal)
        await asyncio.sleep(self._grant.pause_seconds)
        async with open_packs(self._parts.settings.sandbox_root_dir, self._client.load_blob) as packs:
            return await self._run_agent(journal, packs)

    async def _run_agent(self, journal: StepJournal, packs: PackFolders) -> JsonValue:
        grant = self._grant
        # What they started may still change files that this leg is about to look at.
        await self._parts.locks.wait_for_ends(grant.lost_runners)
        variables = tool_variables(grant.spec, grant.secrets, self._parts.settings.web_allow_hosts)
        await restore_fork(grant, self._parts.settings, self._client.load_blob)
        workspace = await asyncio.to_thread(self._open_workspace)
        workspace.packs = packs
        allowed_hosts = self._parts.settings.mcp_allow_hosts
        if grant.inspection is not None:
            return await inspect_tools(
                journal, grant, workspace, self._client, variables, packs, allowed_hosts
            )
        if grant.fork is not None and grant.fork.in_place:
            assert self._snapshots is not None
            return await rewind_workspace(
                grant, workspace.open_directory, self._snapshots, self._client.load_blob
            )
        surroundings = await open_surroundings(journal, grant, workspace, self._clock)
        built = await self._parts.models.pool().build(
            grant.execution.model or grant.spec.model, self._client.load_blob, grant.model_keys
        )
        settings = model_settings(grant.spec.model_settings, self._parts.settings)
        # Before anything is paid for.
        journal.parts.budget.check_price(built.reference, is_known=has_price(built.model))
        inputs = InputSteps(journal)
        approvals = Approvals(journal, inputs, grant.spec, grant.approve, workspace)
        async with open_mcp_toolsets(journal, grant, workspace, self._client, allowed_hosts) as toolsets:
            agent = build_agent(
                grant.execution.agent_name,
                grant.spec,
                model=ShownAnswers(built.model, journal),
                settings=settings,
                workspace=workspace,
                durability=JournalDurability(
                    journal,
                    built.reference,
                    surroundings.notes,
                    compaction_rules(grant, built, self._parts.models.pool(), settings),
                    MessageSteps(journal, self._clock),
                    None if approvals.decides_all else approvals,
                ),
                variables=variables,
                packs=packs,
                surroundings=surroundings.text,
                further=self._parts.tracing.capabilities,
                toolsets=toolsets,
                searching=tool_searching(journal, grant, built, self._parts.models.pool().windows),
            )
            waiter.set(WaitSteps(journal))
            asker.set(inputs)
            middle_of_call.set(MiddleOfCalls(journal, inputs, built.model, settings))
            goes_on = grant.resumption is not None or (grant.fork is not None and grant.fork.step > 0)
            prompt = None if goes_on else await self._prompt(built.reference, workspace)
            limits, history = UsageLimits(request_limit=None), journal.history.messages
            try:
                result = await agent.run(prompt, message_history=history, usage_limits=limits)
            except AgentRunError as error:
                reason = describe_unusable(error, has_schema=grant.spec.output is not None)
                failure = ExecutionFailure(ErrorCode.AGENT_MISBEHAVED, reason)
                raise journal.failure or failure from error
            self._whole_history = await journal.whole_history(result.all_messages())
            return result.output

    async def _load_history(self, journal: StepJournal) -> None:
        history = await load_history(self._client, self._grant)
        if history is None:
            self._grant = await without_pieces(self._client, self._grant)
            self._recorded.start_over(self._grant.events)
            history = await load_history(self._client, self._grant)
            assert history is not None
        journal.go_on_from(history, self._grant.resumption)

    async def _prompt(self, model: str, workspace: SessionWorkspace) -> str | Sequence[UserContent]:
        text = str(await self._client.load_payload(self._grant.input))
        return await prompt_with(
            text, self._grant.attachments, model=model, client=self._client, workspace=workspace
        )

    def _open_workspace(self) -> SessionWorkspace:
        grant = self._grant
        self._workspace = workspace = open_workspace(
            self._parts.settings,
            self._parts.launcher,
            session_id=grant.execution.session_id,
            execution_id=self._execution_id,
            named=grant.workspace,
            network=grant.spec.network,
        )
        if self._snapshots is not None and grant.spec.takes_snapshots(grant.workspace):
            taker = snapshot_taker(grant, workspace)
            self._snapshots.watch(taker, workspace.open_directory, grant.snapshot)
        return workspace

    # --- the end ------------------------------------------------------------------------------

    async def _conclusion(
        self, work: asyncio.Task[JsonValue], writer: LogWriter
    ) -> tuple[LegEndReason, TerminalEvent | None]:
        """Why the leg ended, and how the execution did; None where it goes on in another leg."""
        if self._stop_reason is StopReason.LOG_REFUSES:
            writer.begin_again()
            return LegEndReason.FAILED, self._failed(self._unwritable(writer.last_sequence), writer)
        if not work.cancelled():
            error = work.exception()
            if error is None:
                output = await self._client.store_payload(mend_json(work.result()))
                return LegEndReason.COMPLETED, ExecutionCompleted(output=output)
            return LegEndReason.FAILED, self._failed(error, writer)
        match self._stop_reason:
            case StopReason.CANCEL:
                return LegEndReason.CANCELLED, ExecutionCancelled()
            case StopReason.OVERDUE:
                overdue = duration_exceeded(self._grant.spec.limits)
                return LegEndReason.FAILED, self._failed(overdue, writer)
            case _:
                return LegEndReason.DRAINED, None

    def _unwritable(self, last_sequence: int) -> ExecutionFailure:
        return ExecutionFailure(
            ErrorCode.EVENT_UNWRITABLE,
            f"what happened after event {last_sequence} could not be written into the log: {self._refusal}",
            "look for the execution's id in the logs of server and runner",
        )

    def _failed(self, error: BaseException, writer: LogWriter) -> ExecutionFailed:
        if isinstance(error, ExecutionFailure):
            return ExecutionFailed(code=error.code, message=mend(error.message), hint=error.hint)
        logger.error(
            "the agent's run failed unexpectedly:\n%s",
            stack_of(error),
            extra={"execution_id": self._execution_id},
        )
        return defect(error, writer.last_sequence)
