"""One conversation with a server, held open by a task of its own, which the SDK's session needs."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Mapping
from contextlib import asynccontextmanager
from http import HTTPStatus
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final, cast

import mcp_types as types
from mcp.client import ClientRequestContext, ClientSession, IncomingMessage
from mcp.shared.exceptions import MCPError
from pydantic import BaseModel, FileUrl, JsonValue, TypeAdapter, ValidationError

from agent_runner.mcp_servers.calls import Asked, until_done
from agent_runner.mcp_servers.faults import (
    AnswerRefused,
    AuthorisationNeeded,
    CallLost,
    CallRefused,
    ServerUnavailable,
    SessionGone,
)
from agent_runner.mcp_servers.http import Bearer, Exchange, exchange, open_http
from agent_runner.mcp_servers.questions import (
    CALL_ANEW,
    ELICIT,
    INPUT_REQUIRED,
    SAMPLE,
    CallHost,
    ServerRequest,
    TakenUp,
)
from agent_runner.mcp_servers.requests import Requests
from agent_runner.mcp_servers.resources import (
    LIST_RESOURCES,
    list_resources,
    read_resource,
    with_resources,
)
from agent_runner.mcp_servers.stdio import ServerProcess, not_started, open_process
from agent_runner.mcp_servers.tool_list import read_tools
from agent_runner.workspace import SessionWorkspace
from stigmer_contract.manifest_mcp import McpProtocol, McpServer
from stigmer_contract.tool_lists import ToolList

logger = logging.getLogger(__name__)

CONNECT_SECONDS: Final = 120.0
"""Longest wait until a server is started and ready; some take half a minute."""
LIST_SECONDS: Final = 120.0
"""Longest wait until it has said what it offers, all pages together."""
SETTLE_SECONDS: Final = 2.0
MAX_PAGES: Final = 100
MAX_PROGRESS_CHARACTERS: Final = 500
STATELESS: Final = "2026-07-28"
"""The version from which on nothing is agreed at the start."""
_LOST: Final = (types.CONNECTION_CLOSED, types.REQUEST_TIMEOUT)

Progress = Callable[[str], None]


class _Session(ClientSession):
    """Leaves what a tool gave as it is: its schema is hostile, and it is the model that reads it."""

    async def validate_tool_result(self, name: str, result: types.CallToolResult) -> None:
        """Nothing."""


_Roots = Callable[[], Awaitable[types.ListRootsResult]]
_ANSWER: Final[TypeAdapter[types.InputResponse]] = TypeAdapter(types.InputResponse)


class Connection:
    """Begun by `open_connection`; belongs to one leg."""

    def __init__(
        self, server: McpServer, session: ClientSession, process: ServerProcess | None, roots: _Roots
    ) -> None:
        self._server = server
        self._session = session
        self._roots = roots
        self._process = process
        self.calls = list[Asked]()
        """Those under way, the newest last."""
        self.is_lost = False
        """Whether it can be used no more."""
        self._ours = frozenset[str]()
        """Tools that are no tools of the server's."""
        self.is_list_due = True
        """Whether the server has to be asked what it offers: nobody has yet, or it says that this changed."""

    @property
    def is_usable(self) -> bool:
        """Whether a call may be sent by it."""
        return not self.is_lost and (self._process is None or self._process.ending is None)

    async def list_tools(self) -> ToolList:
        """What the server offers now.

        Raises:
            CallLost, CallRefused: it does not say.
        """
        self.is_list_due = False  # what it tells from now on comes after
        try:
            async with asyncio.timeout(LIST_SECONDS):
                found = await self._listed()
        except BaseException as error:
            self.is_list_due = True
            if isinstance(error, TimeoutError):
                raise CallLost(f"it did not answer within {LIST_SECONDS:g} s") from error
            raise
        own = read_tools(self._server.name, found, self._session.protocol_version or "")
        listed = with_resources(own, self._session.server_capabilities)
        self._ours = frozenset(tool.name for tool in listed.tools if tool.is_ours)
        return listed

    async def _listed(self) -> list[JsonValue]:
        found, cursor, seen = list[JsonValue](), None, set[str]()
        if self._session.server_capabilities is not None and self._session.server_capabilities.tools is None:
            return found
        for _ in range(MAX_PAGES):
            params = None if cursor is None else types.PaginatedRequestParams(cursor=cursor)
            async with self._faults("tools/list"):
                page = await self._session.list_tools(params=params)
            found += [tool.model_dump(mode="json", by_alias=True, exclude_none=True) for tool in page.tools]
            cursor = page.next_cursor
            if not cursor or cursor in seen:
                return found
            seen.add(cursor)
        logger.warning("MCP server %s lists tools without an end", self._server.name)
        return found

    async def call(
        self,
        tool: str,
        arguments: Mapping[str, JsonValue],
        timeout_seconds: float,
        told: Progress,
        host: CallHost,
        taken_up: TakenUp | None = None,
    ) -> dict[str, JsonValue]:
        """What the call led to, in the protocol's words. The time limit holds while nobody is asked.

        Raises:
            CallRefused: the server does not do it.
            CallLost: nobody knows what became of it.
            StillOpen: a person has not answered what the server asks; the call was cancelled.
        """
        asked = Asked()
        self.calls.append(asked)
        try:
            async with self._faults(tool):
                calling = asyncio.create_task(self._send(tool, arguments, told, taken_up))
                try:
                    return await until_done(calling, asked, host, timeout_seconds)
                finally:
                    calling.cancel()
                    await asyncio.wait({calling})
        finally:
            self.calls.remove(asked)
            asked.drop()

    async def _send(
        self, tool: str, arguments: Mapping[str, JsonValue], told: Progress, taken_up: TakenUp | None
    ) -> dict[str, JsonValue]:
        async def show(progress: float, total: float | None, message: str | None) -> None:
            of = "" if total is None else f"/{total:g}"
            told(f"{(message or 'progress')[:MAX_PROGRESS_CHARACTERS]} ({progress:g}{of})\n")

        answers = None if taken_up is None else await self._answers(taken_up)
        state = None if taken_up is None else taken_up.state
        if tool in self._ours:
            if tool == LIST_RESOURCES:
                return await list_resources(self._session)
            return await read_resource(self._session, arguments, answers, state)
        try:
            result = await self._session.call_tool(
                tool,
                dict(arguments),
                progress_callback=show,
                input_responses=answers,
                request_state=state,
                allow_input_required=True,
            )
        except MCPError as error:
            if error.error.code != types.URL_ELICITATION_REQUIRED:
                raise
            return _pages_in(error)
        return cast("dict[str, JsonValue]", result.model_dump(mode="json", by_alias=True, exclude_none=True))

    async def _answers(self, taken_up: TakenUp) -> "types.InputResponses":
        answers: types.InputResponses = {}
        for name, each in taken_up.answers.items():
            answers[name] = await self._roots() if "roots" in _fields(each) else _ANSWER.validate_python(each)
        return answers

    @asynccontextmanager
    async def _faults(self, what: str) -> AsyncGenerator[None]:
        made = Exchange()
        token = exchange.set(made)
        try:
            yield
        except MCPError as error:
            if self._process is None:
                fault = fault_of(self._server, made, error)
                is_late = error.error.code == types.REQUEST_TIMEOUT
                # Who is asked who they are may go on with the conversation once that is known.
                is_away = isinstance(fault, CallLost | SessionGone | ServerUnavailable)
                self.is_lost |= is_away and not is_late and not isinstance(fault, AuthorisationNeeded)
                raise fault from error
            if error.error.code not in _LOST:
                raise CallRefused(error.error.message[:2000]) from error
            if error.error.code == types.REQUEST_TIMEOUT and self.is_usable:
                raise CallLost("it did not answer in time") from error
            self.is_lost = True
            await _settle(self._process)
            raise CallLost(self._process.why()) from error
        except (ValidationError, RuntimeError) as error:
            logger.warning("MCP server %s: malformed answer to %s", self._server.name, what)
            raise CallRefused("the server's answer is malformed") from error
        finally:
            exchange.reset(token)


@asynccontextmanager
async def open_connection(
    server: McpServer,
    values: Mapping[str, str],
    workspace: SessionWorkspace,
    allowed: Collection[str],
    bearer: Bearer,
) -> AsyncGenerator[Connection]:
    """Start or reach the server and agree on a version of the protocol; at the end it is ended.

    `values` are its environment or its headers; `allowed` are hosts that may be at any address.

    Entered and left in one task.

    Raises:
        ServerUnavailable: it cannot be had.
    """
    directory = await workspace.working_dir()

    async def roots(context: ClientRequestContext | None = None) -> types.ListRootsResult:
        workspace = types.Root(uri=FileUrl(Path(directory).as_uri()), name="workspace")
        return types.ListRootsResult(roots=[workspace])

    made: Connection | None = None

    async def asked(request: ServerRequest) -> dict[str, JsonValue] | types.ErrorData:
        # Which of several calls under way it asks for, a server does not say.
        if made is None or not made.calls:
            return types.ErrorData(code=types.INVALID_REQUEST, message="no call is under way")
        try:
            return await made.calls[-1].put(request)
        except AnswerRefused as error:
            return types.ErrorData(code=types.INVALID_REQUEST, message=str(error))

    async def elicit(
        context: ClientRequestContext, params: types.ElicitRequestParams
    ) -> types.ElicitResult | types.ErrorData:
        answer = await asked(ServerRequest(ELICIT, _dumped(params)))
        return answer if isinstance(answer, types.ErrorData) else types.ElicitResult.model_validate(answer)

    async def sample(
        context: ClientRequestContext, params: types.CreateMessageRequestParams
    ) -> types.CreateMessageResult | types.ErrorData:
        answer = await asked(ServerRequest(SAMPLE, _dumped(params)))
        if isinstance(answer, types.ErrorData):
            return answer
        return types.CreateMessageResult.model_validate(answer)

    async def log(params: types.LoggingMessageNotificationParams) -> None:
        logger.debug("MCP server %s logs at %s: %.500s", server.name, params.level, params.data)

    async def hear(message: IncomingMessage) -> None:
        if made is not None and isinstance(message, types.ToolListChangedNotification):
            made.is_list_due = True

    async with _open_streams(server, values, workspace, allowed, bearer) as (read, write, process):
        info = types.Implementation(name="stigmer", version=version("stigmer-agent-runner"))
        async with _Session(
            dispatcher=Requests(read, write),
            sampling_callback=sample if server.sampling == "allow" else None,
            elicitation_callback=elicit,
            list_roots_callback=roots,
            logging_callback=log,
            client_info=info,
            message_handler=hear,
        ) as session:
            began = Exchange()
            exchange.set(began)
            try:
                async with asyncio.timeout(CONNECT_SECONDS):
                    await _agree(session, server.protocol)
            except TimeoutError as error:
                raise ServerUnavailable(
                    f"could not start MCP server {server.name!r}: it did not answer within "
                    f"{CONNECT_SECONDS:.0f} s"
                ) from error
            except MCPError as error:
                if process is None:
                    raise _not_reached(server, fault_of(server, began, error)) from error
                if error.error.code == types.CONNECTION_CLOSED:
                    await _settle(process)
                    raise not_started(server, process) from error
                raise ServerUnavailable(
                    f"could not start MCP server {server.name!r}: {error.error.message[:300]}"
                ) from error
            except (ValidationError, RuntimeError) as error:
                raise ServerUnavailable(
                    f"could not start MCP server {server.name!r}: it does not speak the protocol"
                ) from error
            made = Connection(server, session, process, roots)
            yield made


def _dumped(params: BaseModel) -> dict[str, Any]:
    return params.model_dump(mode="json", by_alias=True, exclude_none=True)


def _fields(value: object) -> Mapping[str, Any]:
    return cast("Mapping[str, Any]", value) if isinstance(value, Mapping) else {}


def _pages_in(error: MCPError) -> dict[str, JsonValue]:
    """What a server wants a person to see to before it does anything (2025-11-25), in the newer form."""
    listed = _fields(error.error.data).get("elicitations")
    pages = cast("list[JsonValue]", listed) if isinstance(listed, list) else []
    requests: dict[str, JsonValue] = {
        str(n): {"method": ELICIT, "params": page} for n, page in enumerate(pages) if isinstance(page, dict)
    }
    if not requests:
        raise CallRefused(error.error.message[:2000]) from error
    return {"resultType": INPUT_REQUIRED, "inputRequests": requests, CALL_ANEW: True}


@asynccontextmanager
async def _open_streams(
    server: McpServer,
    values: Mapping[str, str],
    workspace: SessionWorkspace,
    allowed: Collection[str],
    bearer: Bearer,
) -> AsyncGenerator[tuple[Any, Any, ServerProcess | None]]:
    if server.url is None:
        async with open_process(server, values, workspace) as (read, write, process):
            yield read, write, process
    else:
        async with open_http(server.url, values, allowed, bearer) as (read, write):
            yield read, write, None


def fault_of(server: McpServer, made: Exchange, error: MCPError) -> Exception:
    """What is known of a request by HTTP that was not answered as it should be."""
    name, status = server.name, made.status
    if made.fault is not None:
        if made.was_sent:
            return CallLost(made.fault)
        return ServerUnavailable(f"could not reach MCP server {name!r}: {made.fault}")
    if status == HTTPStatus.UNAUTHORIZED or (status == HTTPStatus.FORBIDDEN and made.challenge):
        why = f"the MCP server {name!r} asks for authorisation (status {int(status)})"
        return AuthorisationNeeded(why, int(status), made.challenge)
    if status == HTTPStatus.SERVICE_UNAVAILABLE or (status == HTTPStatus.NOT_FOUND and made.had_session):
        return SessionGone(f"the MCP server {name!r} knows the conversation no more (status {status})")
    if error.error.code == types.REQUEST_TIMEOUT:
        return CallLost("it did not answer in time")
    if error.error.code == types.CONNECTION_CLOSED:
        return CallLost("the connection was lost")
    if (status or 0) >= HTTPStatus.INTERNAL_SERVER_ERROR and error.error.code == types.INTERNAL_ERROR:
        return CallLost(f"it answered with status {status}")
    if (status or 0) >= HTTPStatus.BAD_REQUEST:
        return CallRefused(f"{error.error.message[:2000]} (status {status})")
    return CallRefused(error.error.message[:2000])


def _not_reached(server: McpServer, fault: Exception) -> ServerUnavailable:
    if isinstance(fault, ServerUnavailable):
        return fault
    return ServerUnavailable(f"could not reach MCP server {server.name!r}: {fault}")


async def _agree(session: ClientSession, protocol: McpProtocol | None) -> None:
    """Initialise as most servers know it; where one does not, ask by the newer form of the protocol.

    In this order: some servers end when something else than `initialize` comes first.
    """
    if protocol == STATELESS:
        await session.discover()
        return
    try:
        await session.initialize()
    except MCPError as error:
        if error.error.code in _LOST or protocol is not None:
            raise
        await session.discover()


async def _settle(process: ServerProcess) -> None:
    """Its output may end a moment before it is known how it did."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(SETTLE_SECONDS):
            await process.ended.wait()
