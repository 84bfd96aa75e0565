"""Carries messages to and from a server at a URL, and keeps what became of each exchange.

The SDK has the protocol (streams, resumption, sessions); here is what it leaves open: which address may be
called, how large an answer may be, and whether a request that failed had been sent.
"""

import contextlib
import logging
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Collection, Mapping
from contextlib import asynccontextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, Final

import anyio
import httpx2
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.message import SessionMessage
from mcp_types import JSONRPCResponse

from agent_runner.mcp_servers.addresses import check_host, find_addresses
from agent_runner.mcp_servers.faults import ServerUnavailable
from agent_runner.mcp_servers.wire import mended
from agent_runner.outward.connecting import at_address
from stigmer_contract.hosts import addresses_without_lookup, port_of, proxy_for

logger = logging.getLogger(__name__)

MAX_ANSWER_BYTES: Final = 32 << 20
"""Of one answer, or one event of a stream."""
CONNECT_SECONDS: Final = 30.0
READ_SECONDS: Final = 3600.0
"""Between two pieces of an answer; a call's own limit is shorter."""
_BAD_GATEWAY: Final = 502
_PLAIN: Final = "identity"
"""The coding of an answer that is not compressed (RFC 9110, section 12.5.3)."""

_Read = MemoryObjectReceiveStream[SessionMessage | Exception]
_Write = MemoryObjectSendStream[SessionMessage]


@dataclass
class Exchange:
    """What is known of one request beyond what the SDK tells of it."""

    status: int | None = None
    fault: str | None = None
    """Why there was no answer, or no whole one."""
    was_sent: bool = False
    """Whether it may have reached the server."""
    had_session: bool = False
    challenge: str = ""
    """`WWW-Authenticate` of an answer that asks for authorisation (RFC 9110, section 11.6.1)."""


@dataclass
class Bearer:
    """What a conversation shows for who calls, where somebody has signed in; it may change meanwhile."""

    token: str | None = field(default=None, repr=False)


exchange: ContextVar[Exchange | None] = ContextVar("exchange", default=None)
"""Of the request that the present task makes; the SDK's streams carry it along to where it is sent."""


class _Body(httpx2.AsyncByteStream):
    """An answer's bytes, bounded; where they break off, that is written down and not raised."""

    def __init__(self, inner: Any, known: Exchange, *, is_stream: bool) -> None:
        self._inner, self._known, self._is_stream = inner, known, is_stream

    async def __aiter__(self) -> AsyncIterator[bytes]:
        size = 0
        try:
            async for piece in self._inner:
                size += len(piece)
                if size > MAX_ANSWER_BYTES and not self._is_stream:
                    self._known.fault = f"the answer is larger than {MAX_ANSWER_BYTES >> 20} MiB"
                    return
                yield piece
        except httpx2.TransportError as error:
            self._known.fault = f"the connection was lost ({type(error).__name__})"

    async def aclose(self) -> None:
        await self._inner.aclose()


class _Watched(httpx2.AsyncBaseTransport):
    """Sends requests to checked addresses, and never raises: the SDK would end the whole conversation."""

    def __init__(self, allowed: Collection[str], bearer: Bearer) -> None:
        self._allowed = allowed
        self._bearer = bearer
        self._tls: ssl.SSLContext | None = None
        self._inner: dict[str | None, httpx2.AsyncHTTPTransport] = {}

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        known = exchange.get() or Exchange()
        known.had_session = "mcp-session-id" in request.headers
        known.status, known.fault, known.was_sent = None, None, False
        if self._bearer.token is not None:
            request.headers["authorization"] = f"Bearer {self._bearer.token}"
        try:
            response = await self._send(request)
        except ServerUnavailable as error:
            known.fault = str(error)
        except (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout, httpx2.ProxyError) as error:
            known.fault = str(error) or type(error).__name__
        except httpx2.TransportError as error:
            known.fault, known.was_sent = f"the connection was lost ({type(error).__name__})", True
        except (OSError, ValueError) as error:
            known.fault = str(error) or type(error).__name__
        else:
            known.status, known.was_sent = response.status_code, True
            known.challenge = response.headers.get("www-authenticate", "")
            if response.headers.get("content-encoding", _PLAIN).lower() != _PLAIN:
                # A few bytes can become any number, and the SDK takes an answer as a whole.
                await response.aclose()
                known.fault = "the answer is compressed, which was not asked for"
                return httpx2.Response(_BAD_GATEWAY, request=request)
            is_stream = response.headers.get("content-type", "").lower().startswith("text/event-stream")
            return httpx2.Response(
                response.status_code,
                headers=response.headers,
                stream=_Body(response.stream, known, is_stream=is_stream),
                extensions=response.extensions,
            )
        logger.debug("MCP request failed: %s", known.fault)
        return httpx2.Response(_BAD_GATEWAY, request=request)

    async def aclose(self) -> None:
        for transport in self._inner.values():
            await transport.aclose()

    def _transport(self, proxy: str | None) -> httpx2.AsyncHTTPTransport:
        if proxy not in self._inner:
            self._tls = self._tls or httpx2.create_ssl_context()
            self._inner[proxy] = httpx2.AsyncHTTPTransport(verify=self._tls, proxy=proxy)
        return self._inner[proxy]

    async def _send(self, request: httpx2.Request) -> httpx2.Response:
        """Send the request to the first of the checked addresses that can be connected to."""
        host, port = request.url.host, port_of(request.url)
        proxy = proxy_for(request.url)
        transport = self._transport(proxy)
        if proxy is not None:
            check_host(host, port, self._allowed, addresses_without_lookup(host))
            return await transport.handle_async_request(request)
        *others, last = await find_addresses(host, port, self._allowed)
        for address in others:
            with contextlib.suppress(httpx2.ConnectError, httpx2.ConnectTimeout):
                return await transport.handle_async_request(at_address(address, request))
        return await transport.handle_async_request(at_address(last, request))


@asynccontextmanager
async def open_http(
    url: str, headers: Mapping[str, str], allowed: Collection[str], bearer: Bearer
) -> AsyncGenerator[tuple[_Read, _Write]]:
    """The streams of a conversation with the server at `url`; at the end its session is ended."""
    timeout = httpx2.Timeout(CONNECT_SECONDS, read=READ_SECONDS)
    sent = httpx2.Headers(headers)
    sent["accept-encoding"] = _PLAIN
    async with (
        httpx2.AsyncClient(transport=_Watched(allowed, bearer), headers=sent, timeout=timeout) as client,
        streamable_http_client(url, http_client=client, max_sse_event_size=MAX_ANSWER_BYTES) as (read, write),
        anyio.create_task_group() as tasks,
    ):
        to_session, from_server = anyio.create_memory_object_stream[SessionMessage | Exception](0)

        async def mend() -> None:
            async with to_session:
                async for message in read:
                    if isinstance(message, SessionMessage) and isinstance(message.message, JSONRPCResponse):
                        answer: dict[str, Any] = {"result": message.message.result}
                        message.message.result = mended(answer)["result"]
                    await to_session.send(message)

        tasks.start_soon(mend)
        try:
            yield from_server, write  # type: ignore[misc] - the SDK's stream has the same methods
        finally:
            tasks.cancel_scope.cancel()
            from_server.close()
