"""Shows a running execution to a person: the answer as it is written, tool calls, what it cost.

On a terminal the text of every turn is shown as it comes; a program that reads stdout gets the final answer
alone. Where nobody watches, notes are a plain log.
"""

import json
from collections.abc import Callable

from stigmer_cli.output import sanitize
from stigmer_cli.rendering.command_output import CommandOutput
from stigmer_cli.rendering.execution_table import describe_waits
from stigmer_cli.rendering.quantities import format_seconds, format_usage
from stigmer_cli.rendering.screen import BOLD, DIM, GREEN, RED, YELLOW, Screen, shorten
from stigmer_cli.rendering.tool_calls import describe_call, describe_calls, describe_ending
from stigmer_contract.conversation import ModelAnswer
from stigmer_contract.events import (
    ApprovalRequested,
    ExecutionCompleted,
    ExecutionStarted,
    HistoryRepaired,
    LegEnded,
    LegEndReason,
    LegStarted,
    LiveEvent,
    MessageReceived,
    ModelDelta,
    ModelPartial,
    ModelResponded,
    Payload,
    RecordedEvent,
    ToolFinished,
    ToolOutput,
    ToolStarted,
    Usage,
)

_ENDING_COLUMNS = 24
"""Room that a call's line leaves for its ending."""


class ExecutionView:
    """Takes the events of one execution in order."""

    def __init__(self, screen: Screen, load_payload: Callable[[Payload], object]) -> None:
        self._screen = screen
        self._load_payload = load_payload
        self._turn = 0
        self._shown = ""  # text of this turn that stands on the screen
        self._is_thinking = False
        self._calls: dict[str, str] = {}
        self._open_call: str | None = None  # the call whose line waits for its ending
        self._outputs: dict[str, CommandOutput] = {}
        self._usage = Usage()
        self._session_id: str | None = None
        self._first: RecordedEvent | None = None
        self._last: RecordedEvent | None = None

    def show(self, event: RecordedEvent | LiveEvent) -> None:
        """Shows one event."""
        match event:
            case ModelDelta(kind="text"):
                self._show_text(event.turn, event.text)
            case ModelDelta():
                self._show_thinking()
            case ModelPartial():
                self._show_partial(event.turn, event.text)
            case ToolOutput():
                self._show_output(event)
            case RecordedEvent():
                self._first = self._first or event
                self._last = event
                self._show_recorded(event)

    def show_note(self, text: str) -> None:
        """Shows a remark that is none of the execution's events."""
        self._open_call = None
        self._screen.write_note(text, DIM)

    def show_summary(self) -> None:
        """The last line: turns, tokens, cost, time, and the session that `--session` goes on with."""
        parts = [format_usage(self._usage)]
        if self._first and self._last:
            seconds = (self._last.recorded_at - self._first.recorded_at).total_seconds()
            parts.append(format_seconds(seconds))
        if self._session_id:
            parts.append(f"session {self._session_id}")
        self._screen.write_note(" · ".join(parts), DIM)

    # --- the answer ---------------------------------------------------------------------------

    def _show_text(self, turn: int, text: str) -> None:
        if turn < self._turn or not self._screen.shows_answer:
            return
        self._begin_turn(turn)
        self._shown += text
        self._screen.write_answer(text)

    def _show_partial(self, turn: int, text: str) -> None:
        """The text so far: the screen holds its beginning, or an answer that broke off."""
        if turn < self._turn or not self._screen.shows_answer:
            return
        self._begin_turn(turn)
        if not text.startswith(self._shown):
            self._screen.write_note("(the answer broke off and is asked for again)", YELLOW)
            self._shown = ""
        self._show_text(turn, text[len(self._shown) :])

    def _begin_turn(self, turn: int) -> None:
        if turn > self._turn:
            self._turn, self._shown = turn, ""
        self._is_thinking = False
        self._open_call = None

    def _show_thinking(self) -> None:
        if self._screen.shows_notes and not self._is_thinking:
            self._screen.write_note("thinking …", DIM)
            self._is_thinking = True

    def _finish_turn(self, event: ModelResponded) -> None:
        answer = ModelAnswer.model_validate(self._load_payload(event.response))
        self._calls |= describe_calls(answer)
        self._usage += event.usage
        self._show_partial(event.turn, answer.text)
        self._screen.end_line()
        self._is_thinking = False

    def _show_answer(self, answer: object) -> None:
        text = answer if isinstance(answer, str) else json.dumps(answer, indent=2, ensure_ascii=False)
        if self._screen.shows_answer and text.strip() == self._shown.strip():
            return
        self._screen.write_answer(text if text.endswith("\n") else text + "\n")

    # --- everything else ----------------------------------------------------------------------

    def _show_recorded(self, recorded: RecordedEvent) -> None:
        match recorded.event:
            case ExecutionStarted() as event:
                self._session_id = event.session_id
            case ModelResponded() as event:
                self._finish_turn(event)
            case ToolStarted() as event:
                self._begin_call(event)
            case ToolFinished() as event:
                self._finish_call(event)
            case HistoryRepaired() as event:
                self.show_note(f"the conversation was changed for the provider: {event.message}")
            case LegStarted() as event if event.attempt > 1:
                self.show_note(f"taken up again by {event.runner}")
            case LegEnded(reason=LegEndReason.WAITING) as event:
                self._screen.write_note(f"waiting for {describe_waits(event.waiting_for)}", BOLD, YELLOW)
            case MessageReceived() as event:
                message = sanitize(str(self._load_payload(event.message)))
                self._screen.write_note(f"message: {shorten(message, self._screen.width)}", DIM)
            case ApprovalRequested() as event:
                call = describe_call(event.tool, self._load_payload(event.arguments))
                self._screen.write_note(f"waiting for approval: {call}", BOLD, YELLOW)
            case ExecutionCompleted() as event:
                self._show_answer(self._load_payload(event.output))
            case _:
                pass  # of concern to the command, or to nobody who watches

    def _begin_call(self, event: ToolStarted) -> None:
        call = describe_call(event.tool, self._load_payload(event.arguments))
        self._calls[event.call_id] = call
        if self._screen.shows_notes:
            self._screen.begin_note(f"→ {shorten(call, self._screen.width - _ENDING_COLUMNS)}")
            self._open_call = event.call_id

    def _show_output(self, event: ToolOutput) -> None:
        if self._screen.shows_notes:
            output = self._outputs.setdefault(event.call_id, CommandOutput())
            self._write_output(output.take(event.text))

    def _write_output(self, lines: list[str]) -> None:
        for line in lines:
            self._open_call = None
            self._screen.write_note(shorten(f"  │ {sanitize(line)}", self._screen.width), DIM)

    def _finish_call(self, event: ToolFinished) -> None:
        if event.call_id in self._outputs:
            self._write_output(self._outputs.pop(event.call_id).finish())
        ending = describe_ending(event, self._load_payload(event.result))
        mark = self._screen.paint(ending.mark, GREEN if ending.is_good else _STYLES.get(ending.mark, RED))
        duration = self._screen.paint(format_seconds(event.duration_seconds), DIM)
        detail = f" {shorten(sanitize(ending.detail), 100)}" if ending.detail else ""
        call = self._calls.pop(event.call_id, event.tool)
        if self._open_call == event.call_id:
            self._screen.extend_note(f" {mark} {duration}{detail}")
        else:
            self._screen.end_line()
            width = self._screen.width - _ENDING_COLUMNS if self._screen.shows_notes else 200
            self._screen.extend_note(f"{mark} {shorten(sanitize(call), width)} {duration}{detail}")
        self._open_call = None


_STYLES = {"↻": YELLOW, "?": YELLOW}
"""Of the marks of calls that did not end well but are not lost yet."""
