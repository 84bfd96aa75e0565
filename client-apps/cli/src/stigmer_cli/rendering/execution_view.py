"""Shows a running execution to a person: the answer as it is written, tool calls, what it cost.

On a terminal the text of every turn is shown as it comes, piece by piece of its Markdown, above one line that
says what is happening; a program that reads stdout gets the final answer alone. Where nobody watches, notes
are a plain log.
"""

import json
import time
from collections.abc import Callable

from stigmer_cli.output import sanitize
from stigmer_cli.rendering.artifacts import describe_artifacts, describe_missing
from stigmer_cli.rendering.cells import SEPARATOR, cell_width, shorten, wrap, wrap_parts
from stigmer_cli.rendering.changed_tools import describe_changed_tools
from stigmer_cli.rendering.command_output import CommandOutput
from stigmer_cli.rendering.compactions import describe_compaction
from stigmer_cli.rendering.execution_log import describe_event, describe_resolution
from stigmer_cli.rendering.execution_table import describe_waits
from stigmer_cli.rendering.markdown_blocks import MarkdownBlocks
from stigmer_cli.rendering.quantities import format_seconds, format_usage
from stigmer_cli.rendering.screen import BOLD, DIM, GREEN, MAX_RENDERED_WIDTH, RED, YELLOW, Screen
from stigmer_cli.rendering.status_line import Activity, status_line
from stigmer_cli.rendering.tool_calls import describe_call, describe_calls, describe_ending
from stigmer_cli.rendering.warned_files import describe_warning
from stigmer_contract.conversation import ModelAnswer
from stigmer_contract.events import (
    ArtifactsCollected,
    ExecutionCompleted,
    ExecutionFailed,
    ExecutionPaused,
    ExecutionResumed,
    ExecutionRetried,
    ExecutionStarted,
    GrantRevoked,
    HistoryRepaired,
    InputReminded,
    InputRequested,
    InputResolved,
    LegEnded,
    LegEndReason,
    LegStarted,
    LiveEvent,
    MessageReceived,
    ModelDelta,
    ModelInterrupted,
    ModelPartial,
    ModelResponded,
    ModelRetry,
    Payload,
    RecordedEvent,
    StepFinished,
    ToolFinished,
    ToolOutput,
    ToolsChanged,
    ToolStarted,
    Usage,
    WorkspaceWarned,
)

_LOG_COLUMNS = 200
_STATUS_CALL_COLUMNS = 40
_SHOWN_CALLS = 4
UNFINISHED_LINES = 8
"""Of an answer's piece that is not complete yet."""


class ExecutionView:
    """Takes the events of one execution in order."""

    def __init__(
        self,
        screen: Screen,
        load_payload: Callable[[Payload], object],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._screen = screen
        self._load_payload = load_payload
        self._clock = clock
        self._began_at = clock()
        self._activity = Activity("starting", self._began_at)
        self._is_over = False
        self._blocks = MarkdownBlocks()
        self._turn = 0
        self._shown = ""  # text of this turn that stands on the screen
        self._awaits_object = False
        """Whether the answer is an object: what the model writes on the way to it is none."""
        self._calls: dict[str, str] = {}
        self._running: dict[str, str] = {}
        self._outputs: dict[str, CommandOutput] = {}
        self._usage = Usage()
        self._warnings: list[str] = []
        self._failure: str | None = None
        """Not shown before it is known to be the end, which the command itself tells."""
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
            case ModelRetry():
                self._show_retry(event)
            case ToolOutput():
                self._show_output(event)
            case RecordedEvent():
                self._first = self._first or event
                self._last = event
                self._show_recorded(event)
        self.tick()

    def tick(self) -> None:
        """Draws the sign of life anew; to be called a few times a second."""
        if self._is_over:
            return
        status = status_line(self._activity, now=self._clock(), began_at=self._began_at, usage=self._usage)
        reason = [f"↻ {self._activity.reason}"] if self._activity.reason else []
        self._screen.show_live([*self._unfinished_answer(), *self._windows(), *reason, status])

    def clear(self) -> None:
        """Takes the sign of life away until the next tick."""
        self._screen.show_live([])

    def show_note(self, text: str) -> None:
        """Shows a remark that is none of the execution's events."""
        self._screen.write_note(text, DIM)

    def show_summary(self) -> None:
        """The last line: turns, tokens, cost, time, and the session that `--session` goes on with."""
        self._is_over = True
        self._screen.show_live([])
        parts = format_usage(self._usage).split(SEPARATOR)
        if self._first and self._last:
            seconds = (self._last.recorded_at - self._first.recorded_at).total_seconds()
            parts.append(format_seconds(seconds))
        if self._session_id:
            parts.append(f"session {self._session_id}")
        for line in wrap_parts(parts, self._screen.width if self._screen.shows_notes else _LOG_COLUMNS):
            self._screen.write_note(line, DIM)
        for warning in self._warnings:  # last, where it is seen
            self._screen.write_note(f"warning: {warning}", BOLD, YELLOW)

    # --- the answer ---------------------------------------------------------------------------

    def _show_text(self, turn: int, text: str) -> None:
        if turn < self._turn or not self._screen.shows_answer or self._awaits_object:
            return
        self._begin_turn(turn)
        self._shown += text
        self._do("writing the answer")
        if not self._screen.renders_answer:
            self._screen.write_answer(text)
            return
        for piece in self._blocks.take(text):
            self._screen.render_answer(piece)

    def _show_partial(self, turn: int, text: str) -> None:
        """The text so far: the screen holds its beginning, or an answer that broke off."""
        if turn < self._turn or not self._screen.shows_answer or self._awaits_object:
            return
        self._begin_turn(turn)
        if not text.startswith(self._shown):
            self._screen.write_note("(the answer broke off and is asked for again)", YELLOW)
            self._shown, self._blocks = "", MarkdownBlocks()
            self._do("asking the model again")
        self._show_text(turn, text[len(self._shown) :])

    def _show_retry(self, event: ModelRetry) -> None:
        """Why nothing comes, and until when; where nobody watches, in the log."""
        now = self._clock()
        reason = " ".join(sanitize(event.reason).split())
        self._activity = Activity("asking the model again", now, now + event.seconds, reason)
        if not self._screen.shows_notes:
            wait = format_seconds(event.seconds)
            self._screen.write_note(f"↻ asking the model again in {wait}: {shorten(reason, _LOG_COLUMNS)}")

    def _begin_turn(self, turn: int) -> None:
        if turn > self._turn:
            self._turn, self._shown = turn, ""
            self._blocks = MarkdownBlocks()

    def _show_thinking(self) -> None:
        self._do("thinking")

    def _finish_turn(self, event: ModelResponded) -> None:
        answer = ModelAnswer.model_validate(self._load_payload(event.response))
        self._calls |= describe_calls(answer)
        self._usage += event.usage
        self._show_partial(event.turn, answer.text)
        if self._screen.renders_answer and (rest := self._blocks.finish()):
            self._screen.render_answer(rest)
        self._screen.end_line()

    def _cut_turn(self, event: ModelInterrupted) -> None:
        """What was said until the answer was cut off stays on the screen."""
        self._usage += event.usage
        text = str(self._load_payload(event.text))
        self._show_partial(event.turn, text)
        if self._screen.renders_answer and (rest := self._blocks.finish()):
            self._screen.render_answer(rest)
        self._screen.end_line()
        if text:
            self._screen.write_note("(cut off here)", YELLOW)

    def _show_answer(self, answer: object) -> None:
        text = answer if isinstance(answer, str) else json.dumps(answer, indent=2, ensure_ascii=False)
        if self._screen.shows_answer and text.strip() == self._shown.strip():
            return
        if self._screen.renders_answer and isinstance(answer, str):
            self._screen.render_answer(text)
        else:
            self._screen.write_answer(text if text.endswith("\n") else text + "\n")

    # --- everything else ----------------------------------------------------------------------

    def _show_recorded(self, recorded: RecordedEvent) -> None:
        match recorded.event:
            case ExecutionStarted() as event:
                self._session_id = event.session_id
                self._awaits_object = event.spec.output is not None
            case ModelResponded() as event:
                self._finish_turn(event)
            case ModelInterrupted() as event:
                self._cut_turn(event)
            case ToolStarted() as event:
                self._begin_call(event)
            case ToolFinished() as event:
                self._finish_call(event)
            case HistoryRepaired() as event:
                self.show_note(f"the conversation was changed for the provider: {event.message}")
            case StepFinished(kind="compact", result=result) if result is not None:
                self.show_note(describe_compaction(self._load_payload(result)))
            case LegStarted() as event:
                self._do("asking the model")
                if event.attempt > 1:
                    self.show_note(f"taken up again by {event.runner}")
            case LegEnded(reason=LegEndReason.WAITING) as event:
                what = describe_waits(event.waiting_for)
                self._do(f"waiting for {what}")
                self._screen.write_note(f"waiting for {what}", BOLD, YELLOW)
            case ExecutionFailed() as event:
                self._failure = f"failed ({event.code}): {event.message}"
            case ExecutionRetried():
                if self._failure is not None:
                    self._screen.write_note(self._failure, RED)
                    self._failure = None
                self.show_note("retried")
                self._do("waiting for a runner")
            case MessageReceived() as event:
                message = sanitize(str(self._load_payload(event.message)))
                self._screen.write_note(f"message: {shorten(message, self._screen.width)}", DIM)
            case InputRequested() as event:
                self._screen.write_note(f"{event.kind}: {sanitize(event.title)}", BOLD, YELLOW)
            case InputResolved() as event:
                self.show_note(sanitize(describe_resolution(event)))
            case ToolsChanged() as event:
                self._warnings.append(sanitize(describe_changed_tools(event)))
            case (ExecutionPaused() | ExecutionResumed() | InputReminded() | GrantRevoked()) as event:
                self.show_note(sanitize(describe_event(event, self._load_payload)))
            case WorkspaceWarned() as event:
                self._warnings.append(sanitize(describe_warning(event)))
            case ArtifactsCollected() as event:
                if event.files:
                    self.show_note(sanitize(f"kept {describe_artifacts(event.files)}"))
                self._warnings += map(sanitize, describe_missing(event))
            case ExecutionCompleted() as event:
                self._show_answer(self._load_payload(event.output))
            case _:
                pass  # of concern to the command, or to nobody who watches

    def _begin_call(self, event: ToolStarted) -> None:
        call = describe_call(event.tool, self._load_payload(event.arguments))
        self._calls[event.call_id] = call
        self._running[event.call_id] = call
        self._do(self._running_text())
        if not self._screen.shows_notes:
            self._screen.write_note(f"→ {shorten(sanitize(call), _LOG_COLUMNS)}")

    def _show_output(self, event: ToolOutput) -> None:
        if self._screen.shows_notes:
            self._outputs.setdefault(event.call_id, CommandOutput()).take(event.text)

    def _unfinished_answer(self) -> list[str]:
        """The end of what is being written and cannot be rendered yet."""
        width = max(20, min(self._screen.width - 1, MAX_RENDERED_WIDTH))
        lines = list[str]()
        for line in self._blocks.pending[-UNFINISHED_LINES * width :].split("\n"):
            lines += wrap(line, width) or [""]
        return lines[-UNFINISHED_LINES:] if any(lines) else []

    def _windows(self) -> list[str]:
        """The calls that run, each with the last lines of what it writes."""
        lines = list[str]()
        for call_id, call in list(self._running.items())[-_SHOWN_CALLS:]:
            lines.append(f"→ {call}")
            if call_id in self._outputs:
                lines += [f"  │ {line}" for line in self._outputs[call_id].window()]
        return lines

    def _write_output(self, lines: list[str]) -> None:
        for line in lines:
            self._screen.write_note(shorten(f"  │ {sanitize(line)}", self._screen.width), DIM)

    def _running_text(self) -> str:
        if len(self._running) == 1:
            [call] = self._running.values()
            return f"running {shorten(call, _STATUS_CALL_COLUMNS)}"
        return f"running {len(self._running)} calls" if self._running else "asking the model"

    def _do(self, text: str) -> None:
        """Something else is happening from now on."""
        if text != self._activity.text:
            self._activity = Activity(text, self._clock())

    def _finish_call(self, event: ToolFinished) -> None:
        self._running.pop(event.call_id, None)
        self._do(self._running_text())
        ending = describe_ending(event, self._load_payload(event.result))
        mark = self._screen.paint(ending.mark, GREEN if ending.is_good else _STYLES.get(ending.mark, RED))
        seconds = format_seconds(event.duration_seconds)
        width = (self._screen.width if self._screen.shows_notes else _LOG_COLUMNS) - len(f"x  {seconds}")
        detail = sanitize(ending.detail)
        # Where both are long, the call gets the half of it, and the reason what is left.
        call = shorten(
            sanitize(self._calls.pop(event.call_id, event.tool)),
            max(width - cell_width(detail) - 1, width // 2),
        )
        detail = f" {shorten(detail, width - cell_width(call) - 1)}" if detail else ""
        self._screen.write_painted_note(f"{mark} {call} {self._screen.paint(seconds, DIM)}{detail}")
        if event.call_id in self._outputs:
            self._write_output(self._outputs.pop(event.call_id).finish())


_STYLES = {"↻": YELLOW, "?": YELLOW}
"""Of the marks of calls that did not end well but are not lost yet."""
