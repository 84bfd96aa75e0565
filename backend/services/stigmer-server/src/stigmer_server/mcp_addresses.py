"""Where the server itself calls for people's sign-ins at MCP servers: names are looked up once, checked, and
connected to; answers are bounded, and no redirect leaves its origin.

Whoever names an address is not trusted with it: a manifest, or a server's own description of itself.
"""

import asyncio
from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

import httpx2

from stigmer_contract.hosts import addresses_without_lookup, look_up, port_of, proxy_for
from stigmer_contract.ip_addresses import is_allowed, why_refused

MAX_ANSWER_BYTES: Final = 1 << 20
CALL_SECONDS: Final = 20.0


class AddressRefused(Exception):
    """An address is not called; says why."""


class NoAnswer(Exception):
    """There was no whole answer; says why."""


@dataclass(frozen=True)
class McpAddresses:
    """What may be called."""

    allowed: Collection[str]
    """Hosts, or `host:port`, that may be at any address, and without TLS; `*` is all."""

    def check(self, url: httpx2.URL) -> None:
        """Refuse an address that tokens would be readable on the way to, or that is none.

        Raises:
            AddressRefused: why.
        """
        if url.scheme not in ("https", "http") or not url.host:
            raise AddressRefused(f"{str(url)[:200]!r} is not the address of a server")
        if url.scheme != "https" and not is_allowed(url.host, port_of(url), self.allowed):
            raise AddressRefused(
                f"{_origin(url)} is not encrypted, and the operator has not allowed it "
                "(STIGMER_MCP_ALLOW_HOSTS)"
            )

    async def send(self, request: httpx2.Request) -> httpx2.Response:
        """The answer, read as a whole.

        Raises:
            AddressRefused: its address may not be called.
            NoAnswer: there is none.
        """
        self.check(request.url)
        try:
            async with asyncio.timeout(CALL_SECONDS):
                return await self._send(request)
        except TimeoutError as error:
            raise NoAnswer(f"{_origin(request.url)} did not answer within {CALL_SECONDS:.0f} s") from error
        except (httpx2.TransportError, OSError, ValueError) as error:
            why = str(error) or type(error).__name__
            raise NoAnswer(f"{_origin(request.url)} cannot be asked: {why}"[:500]) from error

    async def _send(self, request: httpx2.Request) -> httpx2.Response:
        url, proxy = request.url, proxy_for(request.url)
        addresses = await self._addresses(url, is_proxied=proxy is not None)
        headers = request.headers.copy()
        headers["accept-encoding"] = "identity"
        sent = httpx2.Request(
            request.method,
            url if proxy is not None else url.copy_with(host=addresses[0]),
            headers=headers,
            content=await request.aread(),
            extensions={**request.extensions, "sni_hostname": url.host},
        )
        # In a thread: reading the machine's certificates takes 0.04 s (2 cores, 2026-11).
        transport = await asyncio.to_thread(httpx2.AsyncHTTPTransport, proxy=proxy)
        try:
            response = await transport.handle_async_request(sent)
            content = bytearray()
            assert isinstance(response.stream, httpx2.AsyncByteStream)
            try:
                async for piece in response.stream:
                    content += piece
                    if len(content) > MAX_ANSWER_BYTES:
                        raise NoAnswer(f"{_origin(url)} answered with more than {MAX_ANSWER_BYTES >> 20} MiB")
            finally:
                await response.aclose()
        finally:
            await transport.aclose()
        kept = [
            (name, value)
            for name, value in response.headers.multi_items()
            if name.lower() not in ("content-encoding", "transfer-encoding", "content-length")
        ]
        return httpx2.Response(response.status_code, headers=kept, content=bytes(content), request=request)

    async def _addresses(self, url: httpx2.URL, *, is_proxied: bool) -> list[str]:
        host, port = url.host, port_of(url)
        if is_proxied:
            found = addresses_without_lookup(host)
        else:
            found = await look_up(host, port)
            if not found:
                raise NoAnswer(f"{host!r} has no address")
        if not is_allowed(host, port, self.allowed):
            for address in found:
                why = why_refused(address)
                if why is not None:
                    raise AddressRefused(
                        f"{host!r} is {why}, which the operator has not allowed (STIGMER_MCP_ALLOW_HOSTS)"
                    )
        return found


def _origin(url: httpx2.URL) -> str:
    return f"{url.scheme}://{url.netloc.decode('ascii', 'replace')}"[:200]
