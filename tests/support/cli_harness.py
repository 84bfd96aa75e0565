"""A real server process, the command as a subprocess, and a runner that does what a test tells it to."""

import codecs
import os
import pty
import secrets
import select
import socket
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pyte

from stigmer_cli.api_client import ApiClient
from stigmer_cli.config import Connection
from stigmer_contract import api, events
from stigmer_contract.conversation import (
    AnswerPart,
    AnswerText,
    AnswerToolCall,
    ModelAnswer,
    TextContent,
    ToolResult,
)

WAIT_SECONDS = 120.0
"""Bounds a test that hangs; a busy machine may take long for what takes a second elsewhere."""
TOKEN = "token-of-the-test"
UNHURRIED = """
from stigmer_cli.__main__ import main
from stigmer_cli.commands import following

following.PENDING_NOTE_AFTER_SECONDS = following.STANDING_NOTE_AFTER_SECONDS = float("inf")
main()
"""
"""The command, which does not remark on a silence, as may be long on a busy machine."""


def wait_for(find: Callable[[], object], what: str) -> None:
    """Returns once `find` gives something true."""
    deadline = time.monotonic() + WAIT_SECONDS
    while not find():
        assert time.monotonic() < deadline, f"waited {WAIT_SECONDS} s for {what}"
        select.select([], [], [], 0.02)


@dataclass
class Leg:
    """An attempt that the test holds."""

    client: ApiClient
    grant: api.LegGrant
    execution_id: str = field(init=False)

    def __post_init__(self) -> None:
        self.execution_id = self.grant.execution.execution_id

    def append(self, *appended: events.Event) -> api.AppendResult:
        """Appends events to the log."""
        body = api.AppendEvents(
            attempt=self.grant.attempt,
            append_id=secrets.token_hex(8),
            log_format=events.LOG_FORMAT,
            events=list(appended),
        )
        return api.AppendResult.model_validate_json(self._post("events", body.model_dump_json()))

    def is_asked_to_stop(self) -> bool:
        """Whether somebody asked for the execution to stop, as a runner finds out: by an append."""
        drained = events.LegEnded(attempt=self.grant.attempt, reason=events.LegEndReason.DRAINED)
        return self.append(drained).cancel_requested

    def show(self, *live: events.LiveEvent) -> None:
        """Publishes live events."""
        body = api.PublishLiveEvents(attempt=self.grant.attempt, events=list(live))
        self._post("live", body.model_dump_json())

    def write(self, turn: int, text: str) -> None:
        """Publishes a piece of an answer."""
        self.show(events.ModelDelta(turn=turn, text=text))

    def answer(self, turn: int, text: str, *, calls: Mapping[str, str] | None = None) -> None:
        """Appends a model's answer; `calls` are shell commands by call id."""
        parts: list[AnswerPart] = [AnswerText(text=text)] if text else []
        parts += [
            AnswerToolCall(call_id=call_id, tool="run_command", arguments={"command": command})
            for call_id, command in (calls or {}).items()
        ]
        response = events.InlinePayload(value=ModelAnswer(parts=parts).to_json())
        usage = events.Usage(requests=1, input_tokens=1200, output_tokens=30)
        self.append(
            events.ModelResponded(
                turn=turn, model="openai:gpt-5", response=response, usage=usage, duration_seconds=0.5
            )
        )

    def call(self, turn: int, call_id: str, command: str) -> None:
        """Appends the beginning of a shell command."""
        arguments = events.InlinePayload(value={"command": command})
        self.append(
            events.ToolStarted(
                turn=turn, call_id=call_id, tool="run_command", arguments=arguments, side_effects=True
            )
        )

    def print_output(self, call_id: str, text: str) -> None:
        """Publishes output of a shell command."""
        self.show(events.ToolOutput(call_id=call_id, stream="stdout", text=text))

    def finish_call(
        self, turn: int, call_id: str, result: str, outcome: events.ToolOutcome = events.ToolOutcome.SUCCEEDED
    ) -> None:
        """Appends the end of a shell command."""
        told = ToolResult(
            outcome=outcome,
            content=[TextContent(text=result)],
            correctable=outcome is events.ToolOutcome.INVALID,
        )
        self.append(
            events.ToolFinished(
                turn=turn,
                call_id=call_id,
                tool="run_command",
                outcome=outcome,
                result=events.InlinePayload(value=told.to_json()),
                duration_seconds=1.25,
            )
        )

    def complete(self, output: str) -> None:
        """Appends the end."""
        self.append(events.ExecutionCompleted(output=events.InlinePayload(value=output)))

    def _post(self, path: str, body: str) -> bytes:
        return self.client.transport.request(
            "POST",
            f"/v1/executions/{self.execution_id}/{path}",
            body=body.encode(),
            headers={"Content-Type": "application/json"},
        ).body


@dataclass(frozen=True)
class Server:
    """A stigmer-server without Temporal, so that nobody but the test runs executions."""

    port: int
    log: Path
    client: ApiClient

    def take_execution(self, execution_id: str | None = None) -> Leg:
        """Starts a leg of that execution, or of the one that is pending."""
        client = self.client
        found: list[str] = [execution_id] if execution_id else []

        def find() -> bool:
            found.extend(execution.execution_id for execution in client.list_executions(1, phase="pending"))
            return bool(found)

        wait_for(find, "a pending execution")
        body = (
            api.StartLeg(runner="1@test", runner_version="0", log_format=events.LOG_FORMAT)
            .model_dump_json()
            .encode()
        )
        answer = client.transport.request(
            "POST",
            f"/v1/executions/{found[0]}/legs",
            body=body,
            headers={"Content-Type": "application/json"},
        )
        return Leg(client, api.LegGrant.model_validate_json(answer.body))


def free_port() -> int:
    """A port that nobody holds at this moment."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


@contextmanager
def running_server(home: Path, port: int) -> Generator[Server]:
    """A server process with its state in `home`."""
    log = home / "server.log"
    environment = {
        "PATH": os.environ["PATH"],
        "STIGMER_HOME": str(home),
        "STIGMER_PORT": str(port),
        "STIGMER_TOKEN": TOKEN,
        "TEMPORAL_SERVICE_ADDRESS": "127.0.0.1:1",
    }
    with log.open("ab") as stream:
        process = subprocess.Popen(
            [sys.executable, "-m", "stigmer_server"], env=environment, stdout=stream, stderr=stream
        )
    try:
        wait_for(lambda: _answers(port) or process.poll() is not None, "the server")
        assert process.poll() is None, log.read_text(encoding="utf-8")
        with ApiClient(Connection(f"http://127.0.0.1:{port}", TOKEN)) as client:
            yield Server(port, log, client)
    finally:
        process.kill()
        process.wait()


def _answers(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


@dataclass(frozen=True)
class Result:
    """How a command ended."""

    exit_code: int
    stdout: str
    stderr: str


@dataclass(frozen=True)
class Command:
    """The `stigmer` command, in a home and a folder of the test's own."""

    environment: dict[str, str]
    folder: Path
    program: tuple[str, ...] = ("-m", "stigmer_cli")
    """What Python runs."""

    def start(self, *arguments: str, stdin: int | None = subprocess.DEVNULL) -> subprocess.Popen[str]:
        """Starts it with pipes, as a program would."""
        return subprocess.Popen(
            [sys.executable, *self.program, *arguments],
            env=self.environment,
            cwd=self.folder,
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            encoding="utf-8",
        )

    def run(self, *arguments: str, text: str | None = None) -> Result:
        """Runs it to its end, with `text` on standard input."""
        process = self.start(*arguments, stdin=subprocess.PIPE if text is not None else subprocess.DEVNULL)
        return finish(process, text)

    def start_in_terminal(self, *arguments: str, columns: int = 100, lines: int = 40) -> "Terminal":
        """Starts it as a person would see it."""
        sizes = {"COLUMNS": f"{columns}", "LINES": f"{lines}"}
        arguments = (sys.executable, *self.program, *arguments)
        return self.start_program(arguments, {**sizes, "NO_COLOR": "1"}, columns=columns, lines=lines)

    def start_program(
        self, arguments: Sequence[str], environment: Mapping[str, str], *, columns: int = 100, lines: int = 40
    ) -> "Terminal":
        """Starts another program in a terminal, such as a shell, with more of an environment."""
        controller, terminal = pty.openpty()
        termios.tcsetwinsize(terminal, (lines, columns))
        process = subprocess.Popen(
            arguments,
            env={**self.environment, "TERM": "xterm", **environment},
            cwd=self.folder,
            stdin=terminal,
            stdout=terminal,
            stderr=terminal,
            preexec_fn=lambda: os.login_tty(terminal),  # the controlling terminal: Ctrl-C and /dev/tty work
        )
        os.close(terminal)
        return Terminal(process, controller, columns, lines)


def finish(process: subprocess.Popen[str], text: str | None = None) -> Result:
    """Waits for a command's end."""
    stdout, stderr = process.communicate(text, timeout=WAIT_SECONDS)
    return Result(process.returncode, stdout, stderr)


class Terminal:
    """A command in a pseudo-terminal, and what a person sees there."""

    def __init__(self, process: subprocess.Popen[bytes], controller: int, columns: int, lines: int) -> None:
        self.process = process
        self.raw = ""
        """All that was written, as the terminal got it."""
        self._controller = controller
        # A piece may end within a character.
        self._decoder = codecs.getincrementaldecoder("utf-8")()
        self._emulator = pyte.HistoryScreen(columns, lines, history=10_000)
        self._stream = pyte.ByteStream(self._emulator)

    @property
    def screen(self) -> str:
        """The lines that a person sees, those that were scrolled away before them."""
        above = [
            "".join(line[column].data for column in range(self._emulator.columns))
            for line in self._emulator.history.top
        ]
        return "\n".join(line.rstrip() for line in [*above, *self._emulator.display]).rstrip("\n")

    def wait_for(self, text: str) -> None:
        """Returns once the text stands on the screen."""
        self.wait_until(lambda screen: text in screen, repr(text))

    def wait_until(self, is_so: Callable[[str], bool], what: str) -> None:
        """Returns once something is so of the screen."""
        try:
            wait_for(lambda: self._read() and is_so(self.screen), what)
        except AssertionError as error:
            raise AssertionError(f"{error}; the screen is {self.screen!r}") from error

    def type(self, keys: str) -> None:
        """Presses keys; `\\x03` is Ctrl-C."""
        self.type_bytes(keys.encode())

    def type_bytes(self, keys: bytes) -> None:
        """Presses keys that may be no text."""
        os.write(self._controller, keys)

    @property
    def echoes(self) -> bool:
        """Whether the terminal shows by itself what is typed, as a shell expects it."""
        return bool(termios.tcgetattr(self._controller)[3] & termios.ECHO)

    def hang_up(self) -> None:
        """Closes the window."""
        os.close(self._controller)

    def finish(self) -> int:
        """Waits for the end; answers the exit code."""
        wait_for(lambda: self._read() and self.process.poll() is not None, "the end of the command")
        self._read()
        os.close(self._controller)
        return self.process.returncode

    def _read(self) -> bool:
        while select.select([self._controller], [], [], 0)[0]:
            try:
                chunk = os.read(self._controller, 65536)
            except OSError:  # EIO: nobody has the terminal open any more
                break
            if not chunk:
                break
            self.raw += self._decoder.decode(chunk)
            self._stream.feed(chunk)
        return True
