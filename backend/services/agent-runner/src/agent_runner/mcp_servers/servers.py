"""The servers of one leg: each is started when it is first needed, and all end with the leg.

What a call is told to have led to is decided here: a call that was sent and not answered is done again where
that is harmless, and else nobody knows what became of it.
"""

import asyncio
import importlib
import logging
import shlex
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final, cast

from pydantic import JsonValue, SecretStr

from agent_runner.mcp_servers.faults import (
    AuthorisationNeeded,
    CallLost,
    CallRefused,
    ServerUnavailable,
    SessionGone,
)
from agent_runner.mcp_servers.questions import NOBODY, CallHost, TakenUp
from agent_runner.workspace import SessionWorkspace
from stigmer_contract.manifest_mcp import McpServer
from stigmer_contract.mcp_logins import McpToken, rejected_digest
from stigmer_contract.tool_lists import ToolList

if TYPE_CHECKING:
    from agent_runner.mcp_servers.connection import Connection
    from agent_runner.mcp_servers.http import Bearer

logger = logging.getLogger(__name__)

TRIES: Final = 2
"""How often a call that changes nothing is made, where its connection is lost."""
CHANGED: Final = (
    "Not called: the MCP server {server!r} describes {tool!r} otherwise than when its tools were pinned, and "
    "a person has to accept that first, with `stigmer apply --accept-tools`. Go on without it, or tell them."
)
Listed = Callable[[ToolList], Awaitable[frozenset[str]]]
"""Takes in what a server offers; gives the names of the tools that are not to be called."""
TokenOf = Callable[[str, str | None], Awaitable[McpToken]]
"""What somebody's sign-in at a server, by its name, led to; the digest of a token says that this one is not
taken."""
RESTARTED: Final = "[the server {name!r} had ended and was started again: what it held in memory is gone]"
BEGUN_ANEW: Final = "[the conversation with the server {name!r} was begun anew: what it knew may be gone]"


class McpServers:
    """Belongs to one leg. `close` ends them all."""

    def __init__(
        self,
        servers: Sequence[McpServer],
        secrets: Mapping[str, SecretStr],
        workspace: SessionWorkspace,
        timeout_seconds: float,
        on_listed: Listed,
        allowed_hosts: Collection[str] = (),
        token_of: TokenOf | None = None,
    ) -> None:
        """Starts nothing. `secrets` are handed to the servers that name them. `on_listed` is told what a
        server offers, before a tool of it is called. `allowed_hosts` may be at any address. `token_of` is
        asked before a server at a URL is called."""
        self._held = {
            server.name: _Held(
                server, _values(server, secrets), workspace, on_listed, allowed_hosts, token_of
            )
            for server in servers
        }
        self._timeout_seconds = timeout_seconds

    async def look(self, server: str) -> None:
        """Start the server, so that `on_listed` is told what it offers now.

        Raises:
            ServerUnavailable: it cannot be had, or does not say.
        """
        await self._held[server].connection()

    async def call(
        self,
        server: str,
        tool: str,
        arguments: Mapping[str, JsonValue],
        *,
        may_repeat: bool,
        progress: Callable[[str], None],
        host: CallHost = NOBODY,
        taken_up: TakenUp | None = None,
    ) -> tuple[dict[str, JsonValue], str | None]:
        """What the call led to, and what is to be said of the server besides. A server that speaks the newer
        protocol may put the call down: then it is no result, but `resultType` is `input_required`.

        Args:
            server: its name.
            tool: the server's own name for it.
            arguments: as its schema has them.
            may_repeat: whether it may be made twice.
            progress: shows what the server says of its progress.
            host: answers what the server asks meanwhile.
            taken_up: what the server is told where it had put the call down.

        Raises:
            StillOpen: the server asks a person, who has not answered yet; the call was cancelled.
            AuthorisationNeeded: somebody has to sign in there first; nothing was done.
            ServerUnavailable: it cannot be had; nothing was asked of it.
            CallRefused: it does not do it.
            CallLost: nobody knows what became of the call.
        """
        held, is_unknown, is_authorised = self._held[server], False, False
        attempt = 0
        while attempt < TRIES:
            attempt += 1
            try:
                connection = await held.connection()
            except ServerUnavailable as error:
                if not is_unknown:
                    raise
                # Of the first try nobody knows what became.
                raise CallLost(f"the connection was lost, and then: {error}") from error
            if tool in held.refused:
                raise CallRefused(CHANGED.format(tool=tool, server=server))
            try:
                result = await connection.call(
                    tool, arguments, self._timeout_seconds, progress, host, taken_up
                )
            except AuthorisationNeeded as needed:
                await held.authorise(needed, is_further=is_authorised)
                is_authorised, attempt = True, attempt - 1  # nothing was done
            except SessionGone as gone:
                if attempt == TRIES:
                    raise ServerUnavailable(str(gone)) from gone
                logger.info("MCP server %s began a new conversation", server)
            except CallLost:
                if not may_repeat or attempt == TRIES or connection.is_usable:
                    raise
                is_unknown = True
                logger.info("MCP server %s was lost during a call, which is made again", server)
            else:
                return result, held.take_note()
        raise AssertionError

    async def close(self) -> None:
        """End them all, each in good order; at the same time. Can be called again."""
        await asyncio.gather(*(held.close() for held in self._held.values()))


class _Held:
    """One server, and the task that holds its connection."""

    def __init__(
        self,
        server: McpServer,
        values: Mapping[str, str],
        workspace: SessionWorkspace,
        on_listed: Listed,
        allowed_hosts: Collection[str],
        token_of: TokenOf | None,
    ) -> None:
        self.refused = frozenset[str]()
        """Tools that are not to be called."""
        self._on_listed = on_listed
        self._server = server
        self._values = values
        self._allowed_hosts = allowed_hosts
        self._workspace = workspace
        self._token_of = token_of if server.takes_logins else None
        self._token: str | None = None
        self._bearer: Bearer | None = None
        self._connecting = asyncio.Lock()
        self._connection: Connection | None = None
        self._holder: asyncio.Task[None] | None = None
        self._closing = asyncio.Event()
        self._was_lost = False
        self._is_closed = False

    async def connection(self) -> "Connection":
        """One that can be used; where there is none, the server is started."""
        async with self._connecting:
            if self._is_closed:
                raise ServerUnavailable("the leg has ended")
            if self._connection is not None and not self._connection.is_usable:
                self._was_lost = True
                await self._let_go()
            is_authorised = False
            while True:
                try:
                    if self._connection is None:
                        await self._connect()
                    assert self._connection is not None
                    if self._connection.is_list_due:
                        await self._list(self._connection)
                    return self._connection
                except AuthorisationNeeded as needed:
                    await self.authorise(needed, is_further=is_authorised)
                    is_authorised = True

    async def authorise(self, needed: AuthorisationNeeded, *, is_further: bool) -> None:
        """Show the server something else than it has refused.

        `is_further`: it has refused another one already.

        Raises:
            AuthorisationNeeded: there is nothing else, and what a person can do about it.
        """
        if self._token_of is None:
            if "authorization" in {name.lower() for name in self._server.headers}:
                raise _needed(needed, "it does not take the header Authorization of the manifest", None)
            raise needed
        is_refused = needed.status == HTTPStatus.UNAUTHORIZED and self._token is not None
        rejected = rejected_digest(self._token or "") if is_refused else None
        found = await self._token_of(self._server.name, rejected)
        command = f"stigmer mcp login {shlex.quote(self._server.url or '')}"
        if found.access_token is None:
            why = "nobody has signed in" if found.problem is None else f"the sign-in is over: {found.problem}"
            raise _needed(needed, why, command)
        if found.access_token == self._token or is_further:
            why = "the sign-in does not reach for that" if not is_refused else "it does not take the sign-in"
            raise _needed(needed, why, command)
        self._show(found.access_token)

    def _show(self, token: str | None) -> None:
        self._token = token
        if self._bearer is not None:
            self._bearer.token = token

    async def _list(self, connection: "Connection") -> None:
        try:
            found = await connection.list_tools()
        except (CallLost, CallRefused, SessionGone) as error:
            raise ServerUnavailable(
                f"could not list the tools of MCP server {self._server.name!r}: {error}"
            ) from error
        self.refused = await self._on_listed(found)

    def take_note(self) -> str | None:
        """What the next result is to say besides, once."""
        was_lost, self._was_lost = self._was_lost, False
        if not was_lost:
            return None
        return (RESTARTED if self._server.url is None else BEGUN_ANEW).format(name=self._server.name)

    async def close(self) -> None:
        """End the server."""
        self._is_closed = True
        await self._let_go()

    async def _connect(self) -> None:
        # In a thread: importing the SDK takes half a second, and other legs go on meanwhile.
        module: Any = await asyncio.to_thread(importlib.import_module, "agent_runner.mcp_servers.connection")
        if self._token is None and self._token_of is not None:
            self._show((await self._token_of(self._server.name, None)).access_token)
        self._bearer = module.Bearer(self._token)
        self._closing = asyncio.Event()
        ready: asyncio.Future[Connection] = asyncio.get_running_loop().create_future()
        self._holder = asyncio.create_task(
            self._hold(module.open_connection, ready, self._closing), name=f"MCP server {self._server.name}"
        )
        try:
            await asyncio.wait({ready, self._holder}, return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            await self._let_go()
            raise
        if not ready.done():
            self._holder, holder = None, self._holder
            error = _first(holder.exception())
            if isinstance(error, ServerUnavailable):
                raise error
            logger.error("MCP server %s could not be started", self._server.name, exc_info=error)
            raise ServerUnavailable(f"could not start MCP server {self._server.name!r}") from error
        self._connection = ready.result()

    async def _hold(
        self, open_connection: Any, ready: "asyncio.Future[Connection]", closing: asyncio.Event
    ) -> None:
        async with open_connection(
            self._server, self._values, self._workspace, self._allowed_hosts, self._bearer
        ) as connection:
            ready.set_result(connection)
            await closing.wait()

    async def _let_go(self) -> None:
        is_ready = self._connection is not None
        holder, self._holder, self._connection = self._holder, None, None
        if holder is None:
            return
        self._closing.set()
        if not is_ready:
            holder.cancel()
        try:
            await asyncio.wait({holder})
        except asyncio.CancelledError:
            holder.cancel()
            await asyncio.wait({holder})
            raise
        if not holder.cancelled() and (error := holder.exception()) is not None:
            logger.debug("the connection to MCP server %s ended: %s", self._server.name, error)


def _needed(needed: AuthorisationNeeded, why: str, command: str | None) -> AuthorisationNeeded:
    advice = "" if command is None else f"; run `{command}`"
    return AuthorisationNeeded(f"{needed}: {why}{advice}", needed.status, needed.challenge)


def _first(error: BaseException | None) -> BaseException | None:
    """The error itself: task groups wrap what passes through them."""
    while isinstance(error, BaseExceptionGroup):
        error = cast("BaseExceptionGroup[BaseException]", error).exceptions[0]
    return error


def _values(server: McpServer, secrets: Mapping[str, SecretStr]) -> dict[str, str]:
    """The server's environment, or its headers; only its own secrets."""
    return {
        name: value if isinstance(value, str) else secrets[value.secret].get_secret_value()
        for name, value in (*server.env.items(), *server.headers.items())
    }
