"""One command from start to end: collects its output, shows it live, and has it killed when it must go.

How a command is started is `launcher`'s work; which processes belong to it, and how they die, that of
`zygote.main`.
"""

import asyncio
import codecs
import contextlib
import json
import os
import signal
import socket
import struct
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final, TypeAlias

from stigmer_isolation.attached_streams import AttachedStreams, StreamName

OutputListener: TypeAlias = Callable[[StreamName, str], None]

command_output_listener: ContextVar[OutputListener | None] = ContextVar(
    "command_output_listener", default=None
)
"""Is handed each piece of a running command's output as it is read, decoded, in order within one stream.

The listener of the context that runs the command is called in the event loop's thread. An error it raises
kills the command and is raised from there.
"""


class EndWish:
    """Lets whoever waits for the commands of a task ask them to end, before they are killed."""

    def __init__(self) -> None:
        """Nothing is asked yet."""
        self._asked: dict[int, Callable[[], None]] = {}
        self.has_cut = False
        """Whether a command was running when it was asked."""

    def add(self, ask_to_end: Callable[[], None]) -> int:
        """Take in a command that begins; the number by which `remove` knows it."""
        number = max(self._asked, default=0) + 1
        self._asked[number] = ask_to_end
        return number

    def remove(self, number: int) -> None:
        """Forget a command that has ended."""
        self._asked.pop(number, None)

    def ask(self) -> None:
        """Send SIGTERM to all processes of the commands that run."""
        for ask_to_end in self._asked.values():
            self.has_cut = True
            ask_to_end()


command_end_wish: ContextVar[EndWish | None] = ContextVar("command_end_wish", default=None)
"""Is told of each command that the context runs."""

MAX_OUTPUT_BYTES: Final = 10 * 1024 * 1024
"""Most that a command may write to stdout and stderr together before it is killed."""
START_SECONDS: Final = 10.0
"""Longest wait for a supervisor; a zygote that takes longer was stopped, or is otherwise lost."""
KILL_SECONDS: Final = 10.0
"""Longest wait for the supervisor to report that all is dead; it gives up by itself sooner."""
DRAIN_SECONDS: Final = 2.0
"""Longest wait for the end of output once all is dead: something out of reach may hold a stream open."""

_READ_BYTES = 1 << 16


class EndCause(Enum):
    """Why a command was killed."""

    TIMEOUT = "timeout"
    OUTPUT = "output"
    """It wrote more than `MAX_OUTPUT_BYTES`."""
    DISK = "disk"
    """It, or its session, took more of the disk than it may."""
    DIRECTORY = "directory"
    """The directory it works in was removed."""
    CALLER = "caller"
    """Whoever waited for it no longer does, or its output could not be shown."""


@dataclass(frozen=True)
class CommandEnd:
    """How a command ended, and what it wrote until then."""

    cause: EndCause | None
    """Why it was killed; None: it ended by itself."""
    report: Mapping[str, Any] | None
    """The supervisor's report, as `zygote.main` describes it; None: the supervisor died without one."""
    supervisor: int | None
    """Pid of the supervisor, as its zygote has it; None: it never started, and neither did the command."""
    is_hanging: bool
    """Whether the supervisor lives but did not answer in time."""
    stdout: bytes
    stderr: bytes
    killed_because: str | None = None
    """What the cause does not say by itself."""


class _Output:
    """One of the two output streams."""

    def __init__(self, name: StreamName, descriptor: int) -> None:
        self.name: StreamName = name
        self.descriptor = descriptor
        self.content = bytearray()
        self.decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self.ended = asyncio.get_running_loop().create_future()


class RunningCommand:
    """A command that the zygote was asked to start. Belongs to the event loop it is made in."""

    def __init__(
        self,
        control: socket.socket,
        stdout: int,
        stderr: int,
        *,
        has_our_pids: bool = True,
        attached: AttachedStreams | None = None,
    ) -> None:
        """Takes over the control socket and the reading ends of the two streams.

        `has_our_pids`: whether its processes have the same numbers here as where they are started.
        `attached` gets the output in the place of the result, without a bound.
        """
        self._attached = attached
        self._has_our_pids = has_our_pids
        self._loop = asyncio.get_running_loop()
        self._control = control
        self._messages = bytearray()
        self._outputs = (_Output("stdout", stdout), _Output("stderr", stderr))
        self._listener = command_output_listener.get()
        self._supervisor: int | None = None
        self._cause: EndCause | None = None
        self._because: str | None = None
        self._killed: asyncio.Future[None] = self._loop.create_future()
        self._report: asyncio.Future[Mapping[str, Any] | None] = self._loop.create_future()
        self._listener_error: BaseException | None = None
        self._is_told = False
        """Whether what to execute was said; a wish before that would be read as a part of it."""
        self._wish = command_end_wish.get()
        self._wish_number = 0 if self._wish is None else self._wish.add(self._ask_to_end)
        control.setblocking(False)
        self._loop.add_reader(control.fileno(), self._read_messages)
        for output in self._outputs:
            os.set_blocking(output.descriptor, False)
            self._loop.add_reader(output.descriptor, self._read_output, output)
        if attached is not None:
            attached.begin(self._pause_output, self._ask_to_end)

    @property
    def supervisor(self) -> int | None:
        """Pid of the supervisor, as its zygote has it; None: it has not started yet."""
        return self._supervisor

    def kill(self, cause: EndCause, because: str | None = None) -> None:
        """Have the command and all its descendants killed. Only the first cause counts."""
        if self._killed.done():
            return
        self._cause, self._because = cause, because
        self._killed.set_result(None)
        with contextlib.suppress(OSError):
            self._control.shutdown(socket.SHUT_WR)
        if self._supervisor is not None and self._has_our_pids and not self._report.done():
            with contextlib.suppress(OSError):
                os.kill(self._supervisor, signal.SIGCONT)  # its own command may have stopped it

    def _ask_to_end(self) -> None:
        if not self._is_told:
            return
        with contextlib.suppress(OSError):
            self._control.send(b"t")

    def _pause_output(self, is_paused: bool) -> None:
        """Let the process wait with what it writes to stdout, or go on."""
        stdout = self._outputs[0]
        if stdout.descriptor == -1:
            return
        if is_paused:
            self._loop.remove_reader(stdout.descriptor)
        else:
            self._loop.add_reader(stdout.descriptor, self._read_output, stdout)

    async def run(
        self,
        request: Mapping[str, object],
        timeout_seconds: float | None,
        *,
        on_silence: Callable[[], None],
    ) -> CommandEnd:
        """Say what to execute (`zygote.main` has the shape), and wait until it has ended and nothing is left.

        `on_silence` is called when no supervisor has started after `START_SECONDS`. It must end the zygote,
        which settles that none will.
        """
        sending = asyncio.create_task(self._send(request))
        silence = self._loop.call_later(START_SECONDS, lambda: self._supervisor or on_silence())
        try:
            await asyncio.wait(
                {self._report, self._killed}, timeout=timeout_seconds, return_when=asyncio.FIRST_COMPLETED
            )
            if not self._report.done():
                self.kill(EndCause.TIMEOUT)
                await asyncio.wait({self._report}, timeout=KILL_SECONDS)
            if self._attached is not None:
                self._attached.discard()
            if self._report.done():
                await asyncio.wait({output.ended for output in self._outputs}, timeout=DRAIN_SECONDS)
        finally:
            silence.cancel()
            sending.cancel()
            await asyncio.wait({sending})
            self.close()
        if self._listener_error is not None:
            raise self._listener_error
        return CommandEnd(
            cause=self._cause,
            report=self._report.result() if self._report.done() else None,
            supervisor=self._supervisor,
            is_hanging=not self._report.done(),
            stdout=bytes(self._outputs[0].content),
            stderr=bytes(self._outputs[1].content),
            killed_because=self._because,
        )

    def close(self) -> None:
        """Let go of the sockets and streams; what still runs is killed by that. Can be called again."""
        if self._wish is not None:
            self._wish.remove(self._wish_number)
        if self._control.fileno() != -1:
            self._loop.remove_reader(self._control.fileno())
            self._control.close()
        for output in self._outputs:
            self._end_output(output)

    async def _send(self, request: Mapping[str, object]) -> None:
        data = json.dumps(request).encode("ascii")
        with contextlib.suppress(OSError):  # the missing report tells of it
            await self._loop.sock_sendall(self._control, struct.pack(">I", len(data)) + data)
            self._is_told = True

    def _read_messages(self) -> None:
        try:
            chunk = self._control.recv(_READ_BYTES)
        except BlockingIOError:
            return
        except ConnectionError:
            chunk = b""
        self._messages += chunk
        *lines, rest = self._messages.split(b"\n")
        self._messages = rest
        for line in lines:
            message: dict[str, Any] = json.loads(line)
            if "supervisor" in message:
                self._supervisor = message["supervisor"]
            elif not self._report.done():
                self._report.set_result(message)
        if not chunk:
            self._loop.remove_reader(self._control.fileno())
            if not self._report.done():
                self._report.set_result(None)

    def _read_output(self, output: _Output) -> None:
        try:
            chunk = os.read(output.descriptor, _READ_BYTES)
        except BlockingIOError:
            return
        if self._attached is not None:
            self._attached.feed(output.name, chunk)
            if not chunk:
                self._end_output(output)
            return
        output.content += chunk
        self._show(output, output.decoder.decode(chunk, final=not chunk))
        if not chunk:
            self._end_output(output)
        elif sum(len(each.content) for each in self._outputs) > MAX_OUTPUT_BYTES:
            self.kill(EndCause.OUTPUT)
            self._end_output(output)

    def _show(self, output: _Output, text: str) -> None:
        if not text or self._listener is None or self._listener_error is not None:
            return
        try:
            self._listener(output.name, text)
        except Exception as error:  # raised again by `wait`
            self._listener_error = error
            self.kill(EndCause.CALLER)

    def _end_output(self, output: _Output) -> None:
        if output.descriptor != -1:
            self._loop.remove_reader(output.descriptor)
            os.close(output.descriptor)
            output.descriptor = -1
        if not output.ended.done():
            output.ended.set_result(None)
