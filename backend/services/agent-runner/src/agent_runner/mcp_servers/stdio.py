"""Carries messages to and from a server that is a process: started in the session's isolation, ended well.

The order is the specification's (2025-11-25, lifecycle, shutdown): its input is closed, then it is asked to
end, then all that it started is killed.
"""

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import anyio
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream
from mcp.shared.message import SessionMessage
from mcp_types import jsonrpc_message_adapter
from pydantic import ValidationError

from agent_runner.mcp_servers.endings import NODE, advice_on, telling_line
from agent_runner.mcp_servers.faults import ServerUnavailable
from agent_runner.mcp_servers.wire import Lines, LineTooLong, message_in
from agent_runner.workspace import SessionWorkspace
from stigmer_contract.manifest_mcp import McpServer
from stigmer_contract.manifest_packages import MAX_PACKAGE_BYTES
from stigmer_isolation.attached_streams import AttachedStreams

logger = logging.getLogger(__name__)

CLOSE_SECONDS: Final = 2.0
"""What a server gets to end by itself once its input is closed ..."""
TERMINATE_SECONDS: Final = 2.0
"""... and once it is asked to, before it is killed."""

NOT_EXECUTABLE: Final = 126
NOT_FOUND: Final = 127
OFFLINE: Final[Mapping[str, str]] = {"npm_config_offline": "true", "UV_OFFLINE": "1"}
"""What tells npm and uv that there is no network: they would try for more than a minute."""

_Read = MemoryObjectReceiveStream[SessionMessage | Exception]
_Write = MemoryObjectSendStream[SessionMessage]


class ServerProcess:
    """A server that runs."""

    def __init__(self, name: str, streams: AttachedStreams) -> None:
        self._name = name
        self._streams = streams
        self.ending: str | None = None
        """How it ended, once it has."""
        self.is_missing = False
        """Whether there was no such program."""
        self.ended = asyncio.Event()

    def why(self) -> str:
        """How it ended, in one line, with what tells most of what it wrote to stderr."""
        line = telling_line(self._streams.stderr)
        said = "" if line is None else f": {line}"
        return f"{self.ending or 'it closed its output'}{said}"


@asynccontextmanager
async def open_process(
    server: McpServer, environment: Mapping[str, str], workspace: SessionWorkspace
) -> AsyncGenerator[tuple[_Read, _Write, ServerProcess]]:
    """Start the server; at the end nothing of it is left."""
    streams = AttachedStreams()
    process = ServerProcess(server.name, streams)
    to_session, from_server = anyio.create_memory_object_stream[SessionMessage | Exception](0)
    to_server, from_session = anyio.create_memory_object_stream[SessionMessage](0)
    running = asyncio.create_task(_run(server, environment, workspace, streams, process))
    reading = asyncio.create_task(_read(server.name, streams, to_session))
    writing = asyncio.create_task(_write(streams, from_session, to_session))
    try:
        yield from_server, to_server, process
    finally:
        await _end(running, streams)
        for task in (reading, writing):
            task.cancel()
        await asyncio.wait({reading, writing})
        for stream in (to_session, from_server, to_server, from_session):
            stream.close()


async def _run(
    server: McpServer,
    environment: Mapping[str, str],
    workspace: SessionWorkspace,
    streams: AttachedStreams,
    process: ServerProcess,
) -> None:
    if server.network == "none":
        environment = {**OFFLINE, **environment}
    try:
        command, readable = await _program_of(server, workspace)
        result = await workspace.run_attached(
            command, environment, server.network, streams, readable=readable
        )
    except Exception as error:
        process.ending = str(error) or type(error).__name__
    else:
        process.ending = f"it ended with exit code {result.exit_code}"
        process.is_missing = result.exit_code == NOT_FOUND
        if result.exit_code in (NOT_EXECUTABLE, NOT_FOUND) and result.stderr:
            process.ending = result.stderr.strip()
    finally:
        process.ended.set()
        streams.end()


async def _program_of(server: McpServer, workspace: SessionWorkspace) -> tuple[list[str], list[Path]]:
    """What is started, and the folder that its program lies in, where no command gets by itself.

    Raises:
        PackError, ServerRefused, OSError: what was fetched of its package cannot be had.
    """
    fetched = server.fetched
    if fetched is None or workspace.packs is None:
        return list(server.command or []), []
    packs = {name: reference.removeprefix("sha256:") for name, reference in fetched.packs.items()}
    folder = await workspace.packs.folder(packs, max_bytes=MAX_PACKAGE_BYTES)
    return [NODE, str(folder / fetched.program), *server.args], [folder]


async def _read(
    name: str, streams: AttachedStreams, to_session: MemoryObjectSendStream[SessionMessage | Exception]
) -> None:
    """Hand messages on; what is none is passed over."""
    lines = Lines()
    with contextlib.suppress(anyio.BrokenResourceError, anyio.ClosedResourceError), to_session:
        while chunk := await streams.read():
            try:
                for line in lines.feed(chunk):
                    message = message_in(line)
                    if message is None:
                        logger.debug("MCP server %s wrote a line that is no message", name)
                        continue
                    await to_session.send(_parsed(message))
            except LineTooLong:
                logger.warning("MCP server %s wrote a message that is too long", name)
                break
    # Whoever waits is told that the connection is closed; what comes now is nobody's.
    while await streams.read():
        pass


def _parsed(message: dict[str, Any]) -> SessionMessage | Exception:
    try:
        return SessionMessage(jsonrpc_message_adapter.validate_python(message, by_name=False))
    except ValidationError as error:
        return error


async def _write(
    streams: AttachedStreams,
    from_session: MemoryObjectReceiveStream[SessionMessage],
    to_session: MemoryObjectSendStream[SessionMessage | Exception],
) -> None:
    try:
        async for message in from_session:
            text = message.message.model_dump_json(by_alias=True, exclude_unset=True)
            await streams.write(text.encode() + b"\n")
    except (BrokenPipeError, OSError):
        to_session.close()


async def _end(running: "asyncio.Task[None]", streams: AttachedStreams) -> None:
    async def wait(seconds: float) -> bool:
        done, _ = await asyncio.wait({running}, timeout=seconds)
        return bool(done)

    try:
        streams.close_input()
        if not await wait(CLOSE_SECONDS):
            streams.ask_to_end()
            await wait(TERMINATE_SECONDS)
    finally:
        running.cancel()
        await asyncio.wait({running})


def not_started(server: McpServer, process: ServerProcess) -> ServerUnavailable:
    """What is raised where a server's process ended before it was ready."""
    command = server.command or [NODE]
    advice = advice_on(command, server.network, is_missing=process.is_missing)
    return ServerUnavailable(f"could not start MCP server {server.name!r}: {process.why()}{advice}")
