"""A conversation in the terminal: what the person says goes to the session, and what comes of it is shown.

A thread for each execution shows its events; the line that the person types in belongs to `chat_line`.
"""

import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from decimal import Decimal

from stigmer_cli.api_client import ApiClient, follow_events
from stigmer_cli.commands.answers import make_decision, question_of, read_answer
from stigmer_cli.commands.attaching import find_mentions, read_attachments
from stigmer_cli.commands.changed_in_session import changes_in
from stigmer_cli.commands.last_sessions import remember_last_session
from stigmer_cli.commands.references import find_session_id
from stigmer_cli.commands.run import Order, create_execution
from stigmer_cli.config import Configuration
from stigmer_cli.errors import CallRefused, StigmerError
from stigmer_cli.output import sanitize
from stigmer_cli.rendering.execution_view import ExecutionView
from stigmer_cli.rendering.inputs import describe_input, offers_kind
from stigmer_cli.rendering.quantities import format_cost, format_usage
from stigmer_cli.rendering.screen import BOLD, DIM, RED, YELLOW, Screen
from stigmer_contract import events
from stigmer_contract.api import MAX_INPUT_CHARACTERS, InputResource, ResolveInput
from stigmer_contract.error_codes import ErrorCode
from stigmer_contract.inputs import InputKind, InputOutcome

YES = ("y", "yes")
NO = ("n", "no")
ALL = "a"
MAX_LISTED = 1000


class ChatScreen(Screen):
    """A screen below which the person types: the live lines are shown with the line, by who draws it."""

    def __init__(self, on_change: Callable[[], None]) -> None:
        super().__init__(sys.stdout, sys.stderr)
        self.lines: Sequence[str] = ()
        self._on_change = on_change

    def show_live(self, lines: Sequence[str]) -> None:
        """Keep the lines for whoever draws them."""
        if list(lines) != list(self.lines):
            self.lines = list(lines)
            self._on_change()


class Conversation:
    """One session at a time. What it is told comes from one thread; what it shows, from those that watch."""

    def __init__(
        self,
        client: ApiClient,
        configuration: Configuration,
        order: Order | None,
        model: str | None,
        session_id: str | None,
    ) -> None:
        """Without an `order` the agent of the session's newest execution goes on."""
        self._client = client
        self._configuration = configuration
        self._order = order
        self._model = model
        self.session_id = session_id
        self.execution_id: str | None = None
        """The newest execution that this conversation knows of."""
        self._working: str | None = None
        self._is_stopping = False
        self._open: dict[str, InputResource] = {}
        self.screen: ChatScreen
        """To be set before anything is said."""

    @property
    def is_working(self) -> bool:
        """Whether an execution has not ended."""
        return self._working is not None

    def begin(self) -> None:
        """Go on with what the session does, if it was named."""
        if self.session_id is None:
            return
        [*newest] = self._client.list_executions(1, session_id=self.session_id)
        for execution in newest:
            self.execution_id = execution.execution_id
            self.note(f"session {self.session_id} of {execution.agent_name}")
            if not execution.phase.is_terminal:
                self._watch(execution.execution_id)

    def note(self, text: str, *styles: str) -> None:
        """Say something that is none of the agent's words."""
        self.screen.write_note(text, *(styles or (DIM,)))

    # --- what the person does -----------------------------------------------------------------

    def say(self, text: str) -> None:
        """Send what was typed to whoever waits for it: a question, the agent at work, or the next turn."""
        if len(text) > MAX_INPUT_CHARACTERS:
            raise StigmerError(
                f"that has {len(text)} characters, and may have {MAX_INPUT_CHARACTERS}",
                "put long texts into files of the workspace, and name them",
            )
        if waiting := self._waiting():
            self._answer(waiting[0], text)
            return
        mentioned = find_mentions(text)
        known = self._working or (self.execution_id if self._order is None else None)
        if known is not None:
            self._say_that_files_stay(mentioned)
            sent = self._client.send_message(known, text)
            if sent.execution_id != self._working:
                self._watch(sent.execution_id)
            return
        if self._order is None:
            raise StigmerError("there is nobody to talk with", "name an agent: `stigmer chat AGENT`")
        order = replace(self._order, prompt=text, session_id=self.session_id)
        if self.session_id is not None:
            order = replace(order, workspace=None)
        if mentioned:
            order = replace(order, attachments=read_attachments(mentioned))
            self.note(f"attached: {', '.join(mentioned)}")
        try:
            execution = create_execution(order, self._model, self._client, self._configuration)
        except CallRefused as refusal:
            if refusal.code != ErrorCode.SESSION_BUSY or self.session_id is None:
                raise
            self._say_that_files_stay(mentioned)
            self._say_to_another(self.session_id, text)
            return
        self.session_id = execution.session_id
        self._watch(execution.execution_id)

    def _say_that_files_stay(self, mentioned: Sequence[str]) -> None:
        if mentioned:
            names = ", ".join(mentioned)
            self.note(f"{names}: only what begins a turn takes files along; this is a message", YELLOW)

    def _say_to_another(self, session_id: str, text: str) -> None:
        """Somebody else has begun a turn of the session meanwhile: it is said to that."""
        [newest] = self._client.list_executions(1, session_id=session_id)
        sent = self._client.send_message(newest.execution_id, text)
        self.note("the session is at work on another turn, which reads it before its next answer", YELLOW)
        self._watch(sent.execution_id)

    def stop_turn(self) -> bool:
        """Stop what the agent does; False: it does nothing. The session goes on."""
        execution_id = self._working
        if execution_id is None:
            return False
        if not self._is_stopping:
            self._is_stopping = True
            self.note("stopping …")
            try:
                self._client.cancel_execution(execution_id, "interrupted in the conversation")
            except StigmerError:
                self._is_stopping = False  # to be tried again
                raise
        return True

    def begin_anew(self) -> None:
        """Leave the session; what is said next begins another one."""
        self._leave()
        if self._order is None:
            self.note("there is no agent for a new session; start `stigmer chat AGENT`", YELLOW)
            return
        self.session_id = self.execution_id = None
        self.note("a new session begins with what you say next")

    def resume(self, given: str) -> None:
        """Go on with another session, by its id or a part of it; without one, say which there are."""
        if not given:
            for session in self._client.list_sessions(10):
                self.note(f"{session.session_id}  {session.agent_name or ''}  {session.input_head or ''}")
            return
        session_id = find_session_id(self._client, given, last=False)
        self._leave()
        self.session_id = session_id
        self.begin()

    def choose_model(self, name: str) -> None:
        """Let another model answer from the next turn on; without a name, say which does."""
        from stigmer_contract.model_names import split_model

        if not name:
            self.note(f"model: {self._model or 'that of the agent'}")
            return
        try:
            split_model(name)
        except ValueError as error:
            self.note(f"/model: {error}", RED)
            return
        if self._order is None:
            self.note("the session's agent goes on as it was; start `stigmer chat AGENT --model …`", YELLOW)
            return
        self._model, self._order = name, replace(self._order, model=name, cassette=None)
        self.note(f"{name} answers from the next turn on")

    def show_cost(self) -> None:
        """Say what the session has cost so far."""
        if self.session_id is None:
            self.note("nothing yet")
            return
        usage = events.Usage()
        for execution in self._client.list_executions(MAX_LISTED, session_id=self.session_id):
            usage += execution.usage
        cost = "" if usage.cost_usd is None else f" · {format_cost(usage.cost_usd or Decimal(0))}"
        text = format_usage(usage)
        self.note(text if cost in ("", *[f" · {part}" for part in text.split(" · ")]) else text + cost)

    def compact(self) -> None:
        """Let the next turn begin with a shorter conversation: what is old is summarised."""
        if self.session_id is None:
            self.note("nothing yet")
            return
        self._client.compact_session(self.session_id)
        self.note("the next turn begins with a compacted conversation")

    def show_files(self, *, with_diff: bool) -> None:
        """Say which files the agent changed with its file tools in the newest turn, or what there."""
        if self.execution_id is None:
            self.note("nothing yet")
            return
        changes = changes_in(self._client.read_events(self.execution_id), self._client.load_payload)
        if not changes:
            self.note("no file was changed with the file tools; what commands change is not told here")
        elif with_diff:
            for line in [line for change in changes for line in change.diff]:
                self.note(sanitize(line))
        else:
            for path in dict.fromkeys(change.path for change in changes):
                self.note(sanitize(path))

    def decide(self, *, approves: bool, reason: str | None = None, of_kind: bool = False) -> None:
        """Approve or deny what waits for that; with `of_kind`, approve all calls of its kind."""
        waiting = [each for each in self._waiting() if each.kind is InputKind.APPROVAL]
        if not waiting:
            self.note("nothing waits for an approval")
            return
        outcome = InputOutcome.APPROVED if approves else InputOutcome.DENIED
        try:
            decision = make_decision(outcome, reason=reason, grants_kind=of_kind)
        except ValueError as error:
            self.note(f"that is no answer: {error}", RED)
            return
        self._resolve(waiting[0], decision)

    def _answer(self, waiting: InputResource, text: str) -> None:
        word = text.strip().lower()
        if waiting.kind is InputKind.APPROVAL:
            if word in YES:
                self.decide(approves=True)
            elif word == ALL and offers_kind(waiting):
                self.decide(approves=True, of_kind=True)
            else:
                self.decide(approves=False, reason=None if word in NO else text)
            return
        try:
            value = read_answer(text, question_of(waiting), waiting.answer_schema)
            decision = make_decision(InputOutcome.ANSWERED, answer=value)
        except ValueError as error:
            self.note(f"that does not answer it: {error}", RED)
            return
        self._resolve(waiting, decision)

    def _resolve(self, waiting: InputResource, request: ResolveInput) -> None:
        self._client.resolve_input(waiting.input_id, request)
        self._close(waiting.input_id)

    def _show_first(self) -> None:
        """Show the one that the next answer decides. The others are shown when it is their turn."""
        for waiting in self._waiting()[:1]:
            self.note(describe_input(waiting), YELLOW)
            if waiting.kind is InputKind.APPROVAL:
                always = ", a all of this kind" if offers_kind(waiting) else ""
                self.note(f"y approves it{always}, n denies it; anything else denies it, as the reason", BOLD)

    def _close(self, input_id: str) -> None:
        is_first = next(iter(self._open.copy()), None) == input_id
        if self._open.pop(input_id, None) is not None and is_first:
            self._show_first()

    def _waiting(self) -> list[InputResource]:
        return list(self._open.copy().values())  # a copy: another thread changes it

    def _leave(self) -> None:
        if self._working is not None:
            self.note(f"{self._working} goes on; `stigmer executions follow` shows it")
        self._working, self._is_stopping, self._open = None, False, {}
        self.screen.show_live([])

    # --- what the agent does ------------------------------------------------------------------

    def _watch(self, execution_id: str) -> None:
        self.execution_id = self._working = execution_id
        self._is_stopping, self._open = False, {}
        if self.session_id is not None:
            remember_last_session(self._configuration.home, self.session_id)
        threading.Thread(target=self._show, args=(execution_id,), daemon=True, name="events").start()

    def _show(self, execution_id: str) -> None:
        view = ExecutionView(self.screen, self._client.load_payload)
        try:
            for event in follow_events(self._client.transport, execution_id, report=self.note):
                if execution_id != self._working:
                    return  # the person has left it
                view.show(event)
                if isinstance(event, events.RecordedEvent):
                    self._take(event.event)
        except StigmerError as error:
            self.note(f"error: {error.message}", RED)
        if execution_id == self._working:
            # First, since who sees the summary goes on, with another execution.
            self._working, self._is_stopping, self._open = None, False, {}
            view.show_summary()
            self.screen.show_live([])

    def _take(self, event: events.AnyEvent) -> None:
        match event:
            case events.InputRequested(input_id=input_id):
                waiting = self._client.get_input(input_id)
                if waiting.resolution is not None:
                    return  # seen late
                self._open[input_id] = waiting
                if len(self._open) == 1:
                    self._show_first()
            case events.InputResolved(input_id=input_id):
                self._close(input_id)
            case events.ExecutionFailed():
                self.note(f"failed ({event.code}): {event.message}", RED)
                if event.hint:
                    self.note(f"hint: {event.hint}")
            case events.ExecutionCancelled():
                self.note("stopped", YELLOW)
            case _:
                pass
