"""Asks the person at the terminal what an execution waits for. Sends nothing.

What a person types is read by a thread that looks every moment whether it is still wanted: an answer that
comes by another way takes the question away, and what was typed half with it.
"""

import contextlib
import os
import select
import sys
import termios
import threading
from collections.abc import Callable
from typing import Final

from pydantic import JsonValue

from stigmer_cli.commands.answers import make_decision, question_of, read_answer, read_field
from stigmer_cli.output import is_terminal
from stigmer_cli.rendering.inputs import describe_approval, describe_question, in_one_line
from stigmer_contract.answer_schemas import Schema, find_problem
from stigmer_contract.api import InputResource, ResolveInput
from stigmer_contract.inputs import Approval, InputKind, InputOutcome

LOOK_SECONDS: Final = 0.1
END_SECONDS: Final = 5.0
"""Longest wait for the thread that reads; it looks every `LOOK_SECONDS`."""
MAX_LINE_BYTES: Final = 4096


class Prompt:
    """One input, asked line by line."""

    def __init__(self, resource: InputResource) -> None:
        """`resource` with its content."""
        self.resource = resource
        self._question = question_of(resource)
        self._schema: Schema = resource.answer_schema or {}
        properties = self._schema.get("properties")
        self._fields = dict(properties) if isinstance(properties, dict) else {}
        self._given: dict[str, JsonValue] = {}
        self._is_denied = False

    @property
    def heading(self) -> list[str]:
        """What the person has to know."""
        if self.resource.kind is InputKind.APPROVAL:
            return describe_approval(self._approval())
        return describe_question(self._question, None)

    @property
    def text(self) -> str:
        """What stands before the place where the person types."""
        if self._is_denied:
            return "Why not? The agent is told. [Enter: no reason] "
        if self.resource.kind is InputKind.APPROVAL:
            always = ", a: all of this kind" if self._approval().kind_rule else ""
            return f"Run it? [y/n{always}, Enter: later] "
        if self._fields:
            return f"{in_one_line(self._next_field())}: "
        if self._question.choices:
            return "Which? [number or words, Enter: later] "
        return "Answer [Enter: later]: "

    def take(self, line: str) -> ResolveInput | str | None:
        """What the person decided with a line; a text: what is wrong with it; None: nothing yet."""
        text = line.strip()
        if self._is_denied:
            try:
                return make_decision(InputOutcome.DENIED, reason=text)
            except ValueError as error:
                return str(error)
        if self.resource.kind is InputKind.APPROVAL:
            return self._take_decision(text.lower())
        if self._fields:
            return self._take_field(text)
        try:
            answer = read_answer(line, self._question, self._schema)
        except ValueError as error:
            return str(error)
        return ResolveInput(outcome=InputOutcome.ANSWERED, answer=answer)

    def _take_decision(self, text: str) -> ResolveInput | str | None:
        if text in ("y", "yes"):
            return ResolveInput(outcome=InputOutcome.APPROVED)
        if text == "a" and self._approval().kind_rule:
            return ResolveInput(outcome=InputOutcome.APPROVED, grants_kind=True)
        if text in ("n", "no"):
            self._is_denied = True
            return None
        return "write y or n"

    def _take_field(self, text: str) -> ResolveInput | str | None:
        name = self._next_field()
        field = self._fields[name]
        required = self._schema.get("required")
        if text or (isinstance(required, list) and name in required):
            try:
                value = read_field(text, field)
            except ValueError as error:
                return str(error)
            problem = find_problem(value, field) if isinstance(field, dict) else None
            if problem is not None:
                return problem.replace("the answer", name, 1)
            self._given[name] = value
        del self._fields[name]
        if self._fields:
            return None
        return ResolveInput(outcome=InputOutcome.ANSWERED, answer=self._given)

    def _next_field(self) -> str:
        return next(iter(self._fields))

    def _approval(self) -> Approval:
        assert self.resource.content.kind == "inline"
        return Approval.model_validate(self.resource.content.value)

    @property
    def may_wait(self) -> bool:
        """Whether Enter alone means that the person decides later."""
        return not self._is_denied and not (self.resource.kind is InputKind.QUESTION and self._fields)


class TerminalLines:
    """What the person types at the controlling terminal, line by line, while it is wanted."""

    def __init__(self, on_line: Callable[[str], None]) -> None:
        """`on_line` is called in a thread; with an empty text at the end of input."""
        self._on_line = on_line
        self._is_wanted = threading.Event()
        self._reader: threading.Thread | None = None

    @staticmethod
    def are_there() -> bool:
        """Whether a person could be asked."""
        if not is_terminal(sys.stderr):
            return False
        try:
            os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY))
        except OSError:
            return False
        return True

    def begin(self) -> None:
        """Read what is typed from here on. What was typed before is no answer to what is asked now."""
        if self._reader is not None:
            return
        try:
            # Not stdin: the prompt may have come from there.
            descriptor = os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
        except OSError:
            return
        _forget_typed(descriptor)
        self._is_wanted.set()
        self._reader = threading.Thread(target=self._read, args=(descriptor,), daemon=True, name="terminal")
        self._reader.start()

    def end(self) -> None:
        """Read no further; what was typed half is forgotten, and what comes is another reader's."""
        self._is_wanted.clear()
        if self._reader is not None:
            self._reader.join(END_SECONDS)
            self._reader = None

    def _read(self, descriptor: int) -> None:
        try:
            while self._is_wanted.is_set():
                ready, _, _ = select.select([descriptor], [], [], LOOK_SECONDS)
                if not ready or not self._is_wanted.is_set():
                    continue
                try:
                    line = os.read(descriptor, MAX_LINE_BYTES)
                except BlockingIOError:  # another program was faster
                    continue
                self._on_line(line.decode("utf-8", errors="replace"))
                if not line:
                    return
            _forget_typed(descriptor)
        except OSError:
            return
        finally:
            os.close(descriptor)


def _forget_typed(descriptor: int) -> None:
    with contextlib.suppress(OSError, termios.error):
        if os.tcgetpgrp(descriptor) == os.getpgrp():  # else SIGTTOU would stop the process
            termios.tcflush(descriptor, termios.TCIFLUSH)
