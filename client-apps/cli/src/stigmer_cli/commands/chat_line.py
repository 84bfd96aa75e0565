"""The line that a person types in during a conversation: keys, history, completion, and commands.

prompt_toolkit is imported with this module, which only a conversation needs.
"""

import os
import signal
from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Final

from prompt_toolkit import PromptSession
from prompt_toolkit.completion import CompleteEvent, Completer, Completion, PathCompleter
from prompt_toolkit.document import Document
from prompt_toolkit.formatted_text import StyleAndTextTuples
from prompt_toolkit.history import FileHistory
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent
from prompt_toolkit.patch_stdout import patch_stdout

from stigmer_cli.commands.conversation import ChatScreen, Conversation
from stigmer_cli.errors import StigmerError
from stigmer_cli.output import sanitize
from stigmer_cli.rendering.screen import RED

REFRESH_SECONDS: Final = 0.5
HELP: Final = (
    "/new          begin a new session",
    "/resume [ID]  go on with another session; without an ID, list some",
    "/model [NAME] let another model answer from the next turn on",
    "/cost         what the session has used so far",
    "/files        which files the agent changed in the newest turn; /diff shows what",
    "/compact      begin the next turn with a shorter conversation",
    "/approve      let the call run that waits for you; /deny [REASON] refuses it",
    "/quit         leave, as Ctrl-D does; what the agent does goes on",
    "Ctrl-C or Esc stops the turn; Alt-Enter begins a new line; Tab completes @path.",
    "What you type while the agent works, it reads before its next turn.",
)


class ChatLine:
    """Reads lines until the person leaves."""

    def __init__(self, conversation: Conversation, history: Path) -> None:
        """`history` is the file of what was typed before."""
        self._conversation = conversation
        history.touch(mode=0o600, exist_ok=True)
        self._session = PromptSession[str](
            history=TypedHistory(str(history)),
            completer=MentionCompleter(),
            complete_while_typing=False,
            key_bindings=self._keys(),
            bottom_toolbar=self._toolbar,
            erase_when_done=False,
            refresh_interval=REFRESH_SECONDS,
        )
        self._commands: dict[str, Callable[[str], None]] = {
            "/help": lambda _rest: self._help(),
            "/new": lambda _rest: conversation.begin_anew(),
            "/resume": conversation.resume,
            "/model": conversation.choose_model,
            "/cost": lambda _rest: conversation.show_cost(),
            "/files": lambda _rest: conversation.show_files(with_diff=False),
            "/diff": lambda _rest: conversation.show_files(with_diff=True),
            "/compact": lambda _rest: conversation.compact(),
            "/approve": lambda _rest: conversation.decide(approves=True),
            "/deny": lambda rest: conversation.decide(approves=False, reason=rest or None),
        }

    def run(self) -> None:
        """Talk until the person leaves."""
        with patch_stdout(raw=True), _terminal_restored_at_sigterm():
            self._conversation.screen = ChatScreen(self._session.app.invalidate)
            self._trying(self._conversation.begin)
            while True:
                try:
                    text = _readable(self._session.prompt("› ")).strip()
                    if text in ("/quit", "/exit"):
                        break
                    if text:
                        self._trying(lambda text=text: self._take(text))
                except KeyboardInterrupt:  # from elsewhere, or while the line is not there
                    self._stop()
                except EOFError:
                    break
            self._say_how_to_come_back()

    def _take(self, text: str) -> None:
        word, _, rest = text.partition(" ")
        command = self._commands.get(word)
        if command is not None:
            command(rest.strip())
        elif word.startswith("/") and os.sep not in word[1:]:
            self._conversation.note(f"there is no {word}; /help shows what there is", RED)
        else:
            self._conversation.say(text)

    def _trying(self, do: Callable[[], None]) -> None:
        try:
            do()
        except StigmerError as error:
            self._conversation.note(f"error: {error.message}", RED)
            if error.hint:
                self._conversation.note(f"hint: {error.hint}")

    def _help(self) -> None:
        for line in HELP:
            self._conversation.note(line)

    def _say_how_to_come_back(self) -> None:
        conversation = self._conversation
        if conversation.session_id is None:
            return
        if conversation.is_working:
            conversation.note("the agent goes on")
        conversation.note(f"`stigmer chat --session {conversation.session_id}` comes back")

    def _toolbar(self) -> StyleAndTextTuples:
        lines = [sanitize(line).replace("\n", " ") for line in self._conversation.screen.lines]
        return [("noreverse", "\n".join(lines))] if lines else []

    def _keys(self) -> KeyBindings:
        keys = KeyBindings()

        @keys.add("escape", "enter")
        def _(event: KeyPressEvent) -> None:
            event.current_buffer.insert_text("\n")

        @keys.add("escape")
        @keys.add("c-c")
        def _(event: KeyPressEvent) -> None:
            event.app.create_background_task(_in_thread(self._stop))
            event.current_buffer.reset()

        return keys

    def _stop(self) -> None:
        def stop() -> None:
            if not self._conversation.stop_turn():
                self._conversation.note("nothing to stop; Ctrl-D leaves")

        self._trying(stop)


@contextmanager
def _terminal_restored_at_sigterm() -> Generator[None]:
    """Else the shell would get a terminal back that shows nothing of what is typed."""

    def end(_number: int, _frame: FrameType | None) -> None:
        raise SystemExit(128 + signal.SIGTERM)

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _readable(typed: str) -> str:
    """What was typed, without bytes that are no UTF-8, for which a terminal's reader puts half characters."""
    return typed.encode("utf-8", errors="surrogateescape").decode("utf-8", errors="replace")


class TypedHistory(FileHistory):
    """What was typed before. A disk that is full ends no conversation."""

    def store_string(self, string: str) -> None:
        """Keep a line for the next time."""
        with suppress(OSError):
            super().store_string(_readable(string))


async def _in_thread(do: Callable[[], None]) -> None:
    import asyncio

    await asyncio.to_thread(do)


class MentionCompleter(Completer):
    """Completes the names of files behind an @."""

    def __init__(self) -> None:
        self._paths = PathCompleter(expanduser=True)

    def get_completions(self, document: Document, complete_event: CompleteEvent) -> Iterable[Completion]:
        """Those that fit the word before the cursor."""
        word = document.get_word_before_cursor(WORD=True)
        if not word.startswith("@"):
            return
        path = Document(word[1:], len(word) - 1)
        yield from self._paths.get_completions(path, complete_event)
