"""Watches an execution to its end for `run` and `executions follow`: events, waiting, Ctrl-C.

A thread reads the events; the main thread shows them. A signal only leaves a word in the queue between the
two, so it never tears a line or an event apart.
"""

import contextlib
import queue
import signal
import sys
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum
from types import FrameType
from typing import Protocol

from stigmer_cli.api_client import ApiClient, follow_events
from stigmer_cli.commands.prompting import Prompt, TerminalLines
from stigmer_cli.errors import (
    CallRefused,
    ExecutionFailed,
    Interrupted,
    ServerUnreachable,
    StigmerError,
    WaitsForPerson,
)
from stigmer_cli.output import is_terminal, sanitize, write_stderr
from stigmer_cli.rendering.inputs import how_to_decide
from stigmer_contract import events
from stigmer_contract.api import ResolveInput
from stigmer_contract.error_codes import ErrorCode
from stigmer_contract.inputs import MAX_OPEN_INPUTS
from stigmer_contract.phases import ExecutionPhase
from stigmer_contract.waits import WaitKind

PENDING_NOTE_AFTER_SECONDS = 2.0
STANDING_NOTE_AFTER_SECONDS = 5.0
"""A silence for so long may be a long command's; the server knows whether somebody works on it."""
TICK_SECONDS = 0.25
TERMINATION_SECONDS = 5.0
"""How long SIGTERM waits for the execution to say that it has stopped."""
CANCEL_TIMEOUT_SECONDS = 15.0
"""How long a cancelled execution may take to say so."""


_PEOPLES = (WaitKind.APPROVAL, WaitKind.ANSWER)
"""What a person ends."""
_RAISED_BY = {
    ErrorCode.LIMIT_TURNS: " --turns N",
    ErrorCode.LIMIT_TOKENS: " --tokens N",
    ErrorCode.LIMIT_COST: " --cost USD",
    ErrorCode.LIMIT_DURATION: " --duration TIME",
}


class View(Protocol):
    """Shows an execution."""

    def show(self, event: events.RecordedEvent | events.LiveEvent) -> None:
        """Shows one event."""
        ...

    def show_note(self, text: str) -> None:
        """Shows a remark that is none of the execution's events."""
        ...

    def tick(self) -> None:
        """Called several times a second, for a sign of life."""
        ...

    def clear(self) -> None:
        """Takes away what stands on the screen for the moment only."""
        ...

    def show_summary(self) -> None:
        """Ends a finished execution."""
        ...


class _Choice(Enum):
    CANCEL = "cancel"
    DETACH = "detach"
    GO_ON = "go on"


@dataclass(frozen=True)
class _Note:
    text: str


class _Interrupt:
    """The person pressed Ctrl-C."""


class _HangUp:
    """The terminal went away: SIGHUP."""


class _Terminate:
    """The process is to end: SIGTERM."""


@dataclass(frozen=True)
class _Typed:
    """A line that the person typed, with its end; empty: there will be none."""

    text: str


class _End:
    """The log holds no more, and the execution has ended."""


_Item = (
    events.RecordedEvent
    | events.LiveEvent
    | _Note
    | _Interrupt
    | _HangUp
    | _Terminate
    | _Typed
    | _End
    | BaseException
)


class Following:
    """One watch over one execution."""

    def __init__(
        self,
        client: ApiClient,
        execution_id: str,
        view: View,
        *,
        cancels: bool,
        asks: bool = False,
        waits: bool = True,
    ) -> None:
        """`cancels`: whether Ctrl-C may cancel the execution; else it only ends the watch.

        Args:
            asks: whether the person at the terminal is asked what the execution waits for.
            waits: whether the watch goes on while it waits for a person who is not asked here.
        """
        self._waits = waits
        self._lines = TerminalLines(self._take_line) if asks and TerminalLines.are_there() else None
        self._prompt: Prompt | None = None
        self._later: set[str] = set()
        """Inputs that the person at the terminal does not decide now."""
        self._asks_soon = False
        """Whether it is not known yet what is to be asked, because the server did not answer."""
        self._client = client
        self._execution_id = execution_id
        self._view = view
        self._cancels = cancels
        self._queue: queue.SimpleQueue[_Item] = queue.SimpleQueue()
        self._has_started = False
        self._told_reason: str | None = None
        """Why the execution stands still, as was said last."""
        self._failure: events.ExecutionFailed | None = None
        self._cancelled_at: float | None = None
        self._cancel_timeout_seconds = CANCEL_TIMEOUT_SECONDS
        self._heard_at = time.monotonic()
        self._looked_at = 0.0

    def follow(self, after: int = 0) -> None:
        """Shows the events after the sequence `after` until the execution has completed.

        Raises:
            ExecutionFailed: it failed, or somebody else cancelled it.
            Interrupted: the person cancelled it, or stopped watching.
            CallRefused, ServerUnreachable: the events cannot be read.
        """
        threading.Thread(target=self._read, args=(after,), daemon=True, name="events").start()
        with self._interrupts_in_queue(), contextlib.ExitStack() as ending:
            ending.callback(self._view.clear)
            ending.callback(self._end_prompt)
            while True:
                try:
                    item = self._queue.get(timeout=TICK_SECONDS)
                except queue.Empty:
                    if self._prompt is None:
                        self._view.tick()
                    if self._asks_soon:
                        self._ask_next()
                    self._look_after_silence()
                    continue
                self._heard_at = time.monotonic()
                match item:
                    case _Interrupt():
                        self._handle_interrupt()
                    case _HangUp():
                        raise self._no_longer_watching()
                    case _Terminate():
                        self._handle_termination()
                    case _End():
                        raise self._failed()
                    case _Note():
                        with self._above_prompt():
                            self._view.show_note(item.text)
                    case _Typed():
                        self._decide(item.text)
                    case BaseException():
                        raise item
                    case _:
                        self._show(item)
                        if isinstance(item, events.RecordedEvent):
                            if self._take(item.event):
                                return
                            self._look_for_inputs(item)

    def _show(self, event: events.RecordedEvent | events.LiveEvent) -> None:
        if self._prompt is None:
            self._view.show(event)
        elif isinstance(event, events.RecordedEvent):  # what is live would tear at the prompt
            with self._above_prompt():
                self._view.show(event)

    def _read(self, after: int) -> None:
        def report(text: str) -> None:
            self._queue.put(_Note(text))

        try:
            for event in follow_events(
                self._client.transport, self._execution_id, after=after, report=report
            ):
                self._queue.put(event)
            self._queue.put(_End())
        except BaseException as error:
            self._queue.put(error)

    def _take(self, event: events.AnyEvent) -> bool:
        """Whether the execution has completed."""
        match event:
            case events.LegStarted():
                self._has_started = True
            case events.ExecutionCompleted():
                self._view.show_summary()
                return True
            case events.ExecutionFailed():
                self._failure = event  # until the stream ends with it
            case events.ExecutionRetried():
                self._failure, self._has_started = None, False
            case events.ExecutionCancelled():
                self._view.show_summary()
                if self._cancelled_at is not None:
                    raise Interrupted("the execution was cancelled")
                reason = f": {event.reason}" if event.reason else ""
                raise ExecutionFailed(f"somebody cancelled the execution{reason}")
            case _:
                pass
        return False

    def _failed(self) -> ExecutionFailed:
        self._view.show_summary()
        assert self._failure is not None, "the log of an execution that has not failed has ended"
        raised = _RAISED_BY.get(self._failure.code, "")
        retry = f"`stigmer executions retry {self._execution_id}{raised}` goes on from its log"
        hint = f"{self._failure.hint}; {retry}" if self._failure.hint else retry
        return ExecutionFailed(f"the execution failed ({self._failure.code}): {self._failure.message}", hint)

    def _look_after_silence(self) -> None:
        if self._cancelled_at is not None:
            if time.monotonic() - self._cancelled_at > self._cancel_timeout_seconds:
                raise Interrupted(
                    "the execution was asked to stop, and has not said yet that it has",
                    f"run `stigmer executions get {self._execution_id}` to see how it stands",
                )
            return
        now = time.monotonic()
        after_seconds = STANDING_NOTE_AFTER_SECONDS if self._has_started else PENDING_NOTE_AFTER_SECONDS
        if now - max(self._heard_at, self._looked_at) < after_seconds:
            return
        self._looked_at = now
        try:
            execution = self._client.get_execution(self._execution_id)
        except StigmerError:
            return  # the thread that reads tells of a lost server
        reason = execution.standing_reason or execution.pending_reason
        is_pending = execution.phase is ExecutionPhase.PENDING
        if (is_pending or reason is not None) and reason != self._told_reason:
            self._view.show_note(f"waiting: {reason or 'the execution has not begun yet'}")
        self._told_reason = reason

    # --- what waits for a person --------------------------------------------------------------

    def _take_line(self, text: str) -> None:
        self._queue.put(_Typed(text))

    def _look_for_inputs(self, recorded: events.RecordedEvent) -> None:
        """Ask what the execution waits for, or say that somebody has to, where that is how it stands now."""
        event = recorded.event
        if isinstance(event, events.InputResolved) and self._prompt is not None:
            if event.input_id == self._prompt.resource.input_id:
                self._end_prompt()
                self._view.show_note("that was decided elsewhere")
                self._ask_next()
        elif isinstance(event, events.LegEnded) and any(
            reason.kind in _PEOPLES for reason in event.waiting_for
        ):
            try:
                standing = self._client.get_execution(self._execution_id)
            except ServerUnreachable:
                self._asks_soon = True
                return
            if standing.last_sequence == recorded.sequence or standing.phase is ExecutionPhase.WAITING:
                self._ask_next()

    def _ask_next(self) -> None:
        """Ask; where the server is away for a moment, as soon as it is back."""
        self._asks_soon = False
        try:
            self._ask_first()
        except ServerUnreachable:  # the thread that reads tells of it, and gives up where it lasts
            self._asks_soon = True

    def _ask_first(self) -> None:
        waiting = self._client.list_inputs(MAX_OPEN_INPUTS, execution_id=self._execution_id)
        open_ids = [each.input_id for each in waiting if each.input_id not in self._later]
        if self._lines is None:
            if waiting and not self._waits:
                raise WaitsForPerson(self._execution_id, waiting[0].title, how_to_decide(waiting[0]))
            return
        if self._prompt is not None or not open_ids:
            return
        self._prompt = Prompt(self._client.get_input(open_ids[0]))
        self._view.clear()
        for line in self._prompt.heading:
            self._view.show_note(line)
        self._lines.begin()
        self._show_prompt()

    def _show_prompt(self) -> None:
        if self._prompt is not None:
            self._view.clear()
            write_stderr(self._prompt.text)

    @contextmanager
    def _above_prompt(self) -> Generator[None]:
        """What is written meanwhile stands in the place of the prompt, which is asked again below."""
        if self._prompt is not None:
            write_stderr("\r\x1b[K")  # ECMA-48: EL to the end of the line
        yield
        self._show_prompt()

    def _end_prompt(self) -> None:
        if self._lines is not None:
            self._lines.end()
        if self._prompt is not None:
            self._prompt = None
            write_stderr("\n")

    def _decide(self, line: str) -> None:
        """Take what was typed; Enter alone leaves it to later, or to another way."""
        prompt = self._prompt
        if prompt is None:
            return
        is_later = not line.strip() and prompt.may_wait
        decision = None if is_later else prompt.take(line.rstrip("\r\n"))
        if not is_later and not isinstance(decision, ResolveInput) and line:
            if isinstance(decision, str):
                self._view.show_note(decision)
            self._show_prompt()
            return
        self._prompt = None
        if self._lines is not None:
            self._lines.end()
        if isinstance(decision, ResolveInput):
            try:
                self._client.resolve_input(prompt.resource.input_id, decision)
            except (CallRefused, ServerUnreachable) as refusal:
                self._view.show_note(refusal.message)
        else:
            self._later.add(prompt.resource.input_id)
            self._view.show_note(f"It waits. {how_to_decide(prompt.resource)}")
        self._ask_next()

    # --- Ctrl-C -------------------------------------------------------------------------------

    @contextmanager
    def _interrupts_in_queue(self) -> Generator[None]:
        def take_note(number: int, _frame: FrameType | None) -> None:
            self._queue.put(words[signal.Signals(number)]())

        words = {signal.SIGINT: _Interrupt, signal.SIGHUP: _HangUp, signal.SIGTERM: _Terminate}

        before = {number: signal.signal(number, take_note) for number in words}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _no_longer_watching(self) -> Interrupted:
        return Interrupted(
            "no longer watching; the execution goes on",
            f"run `stigmer executions follow {self._execution_id}` to watch it again",
        )

    def _handle_termination(self) -> None:
        if not self._cancels:
            raise self._no_longer_watching()
        if self._cancelled_at is None:
            self._cancel("the process that ran it was ended by SIGTERM")
        self._cancel_timeout_seconds = TERMINATION_SECONDS

    def _cancel(self, reason: str) -> None:
        self._view.show_note("cancelling …")
        self._cancelled_at = time.monotonic()
        self._client.cancel_execution(self._execution_id, reason)

    def _handle_interrupt(self) -> None:
        if self._cancelled_at is not None:
            raise Interrupted("interrupted; the execution was asked to stop")
        self._view.clear()
        if self._lines is not None:
            self._lines.end()  # or the answer would be taken for one to the agent
        choice = _ask() if self._cancels else _Choice.DETACH
        match choice:
            case _Choice.GO_ON:
                if self._lines is not None and self._prompt is not None:
                    self._lines.begin()
                    self._show_prompt()
            case _Choice.DETACH:
                raise self._no_longer_watching()
            case _Choice.CANCEL:
                self._prompt = None
                self._cancel("interrupted by the person who ran it")


def _ask() -> _Choice:
    """What to do about the execution; a second Ctrl-C means cancel, and so does the lack of a terminal."""
    if not is_terminal(sys.stderr):
        return _Choice.CANCEL
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        # Not stdin: the prompt may have come from there.
        with open("/dev/tty", encoding="utf-8", errors="replace") as terminal:  # noqa: PTH123 - a device
            sys.stderr.write("\nCancel the execution, or detach and let it go on? [c/d, Enter: neither] ")
            sys.stderr.flush()
            answer = sanitize(terminal.readline())
    except KeyboardInterrupt:
        return _Choice.CANCEL
    except OSError:  # no controlling terminal
        return _Choice.CANCEL
    finally:
        signal.signal(signal.SIGINT, before)
    if not answer:  # end of input: the terminal is gone, or Ctrl-D
        return _Choice.DETACH
    return {"c": _Choice.CANCEL, "d": _Choice.DETACH}.get(answer.strip().lower()[:1], _Choice.GO_ON)
