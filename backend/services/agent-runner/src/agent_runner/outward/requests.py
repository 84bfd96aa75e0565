"""Sends one request for an agent: the host's addresses are looked up once, checked, and connected to.

Whoever names the address is not trusted with it: a manifest's document, or a model. Nothing is kept between
requests: no connection, no cookie.
"""

import asyncio
import contextlib
import functools
import ssl
import zlib
from collections.abc import AsyncGenerator, Callable, Collection, Mapping
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Final

import httpx2

from agent_runner.outward.addresses import why_not_public
from agent_runner.outward.connecting import at_address
from stigmer_contract.hosts import addresses_without_lookup, literal_address, look_up, port_of, proxy_for
from stigmer_contract.ip_addresses import is_allowed

CONNECT_SECONDS: Final = 30.0
READ_SECONDS: Final = 600.0
"""Between two pieces of an answer; the whole has a limit of its own."""
MAX_REDIRECTS: Final = 10
MAX_URL_CHARACTERS: Final = 8_000
_REDIRECTED: Final = (301, 302, 303, 307, 308)
_READING: Final = ("GET", "HEAD", "OPTIONS")
_INFLATED: Final = ("gzip", "x-gzip", "deflate")
_NOT_ALLOWED: Final = "which the operator has not allowed (STIGMER_WEB_ALLOW_HOSTS)"


class NotSent(Exception):
    """Nothing was asked of anybody; says why."""


class AnswerLost(Exception):
    """The request was sent, and there is no whole answer; says why."""


class Redirects(Enum):
    """Which redirections are followed. A request that may change anything never is."""

    SAME_ORIGIN = auto()
    """Where scheme, host and port stay: whatever credentials the request has go nowhere else."""
    ANYWHERE = auto()
    WEB = auto()
    """Anywhere, by HTTPS to its own port: an address with `http://` is asked by HTTPS."""


@dataclass(frozen=True)
class Answer:
    """What came back."""

    status: int
    url: str
    """Where it came from in the end."""
    headers: Mapping[str, str] = field(repr=False)
    """Their names in lower case."""
    content: bytes = field(repr=False)
    is_cut: bool = False
    """Whether there was more than was wanted."""

    @property
    def media_type(self) -> str:
        """Without parameters, in lower case; empty where it is not said."""
        return self.headers.get("content-type", "").partition(";")[0].strip().lower()

    @property
    def charset(self) -> str | None:
        """As the headers say it."""
        for part in self.headers.get("content-type", "").split(";")[1:]:
            name, _, value = part.partition("=")
            if name.strip().lower() == "charset":
                return value.strip().strip("\"'") or None
        return None


async def send(
    method: str,
    url: str,
    headers: Mapping[str, str],
    content: bytes = b"",
    *,
    allowed: Collection[str],
    max_bytes: int,
    seconds: float,
    redirects: Redirects,
    admits: Callable[[str], bool] | None = None,
) -> Answer:
    """Send a request, and return its answer.

    Args:
        allowed: hosts, or `host:port`, that may be at any address; `*` is all.
        max_bytes: so much of the answer is read, after it was decompressed.
        seconds: how long all of it may take.
        admits: whether a host may be asked at all, be it by a redirection; None: every one.

    Raises:
        NotSent: the address may not be called, or cannot be connected to.
        AnswerLost: it was sent, and the answer did not come, or cannot be read.
    """
    is_sent = False
    try:
        async with asyncio.timeout(seconds):
            at = _parsed(url)
            for _ in range(MAX_REDIRECTS + 1):
                if redirects is Redirects.WEB:
                    at = _by_https(at, allowed)
                if admits is not None and not admits(at.host):
                    raise NotSent(f"the agent may not read pages of {at.host!r} (spec.web.hosts)")
                async with _response(method, at, headers, content, allowed) as response:
                    is_sent = True
                    there = _redirected(method, at, response, redirects)
                    if there is None:
                        body, is_cut = await _read(response, max_bytes)
                        plain = {name.lower(): value for name, value in response.headers.items()}
                        return Answer(response.status_code, str(at), plain, body, is_cut)
                at = there
            raise AnswerLost(f"{url!r} leads on and on: more than {MAX_REDIRECTS} redirections")
    except TimeoutError as error:
        lost = AnswerLost if is_sent or method not in _READING else NotSent
        raise lost(f"{_origin(url)} did not answer within {seconds:g}s") from error
    except NotSent as error:
        if is_sent:  # of a redirection
            raise AnswerLost(str(error)) from error
        raise


def _parsed(url: str) -> httpx2.URL:
    if len(url) > MAX_URL_CHARACTERS:
        raise NotSent(f"the address is longer than {MAX_URL_CHARACTERS} characters")
    try:
        parsed = httpx2.URL(url)
    except (httpx2.InvalidURL, ValueError, TypeError) as error:
        raise NotSent(f"{url[:200]!r} is not an address: {error}") from error
    if parsed.scheme not in ("http", "https") or not parsed.host:
        raise NotSent(f"{url[:200]!r} is not an address that begins with https:// or http://")
    if parsed.userinfo:
        raise NotSent("an address cannot hold a user or a password")
    return parsed.copy_with(fragment=None)


def _origin(url: str) -> str:
    return "/".join(url.split("/", 3)[:3])[:200]


def _redirected(
    method: str, at: httpx2.URL, response: httpx2.Response, redirects: Redirects
) -> httpx2.URL | None:
    """Where the answer sends on to, if that is followed."""
    location = response.headers.get("location")
    if response.status_code not in _REDIRECTED or method not in _READING or location is None:
        return None
    try:
        there = _parsed(str(at.join(location)))
    except (httpx2.InvalidURL, ValueError, NotSent):
        return None
    if redirects is Redirects.SAME_ORIGIN and (there.scheme, there.host, port_of(there)) != (
        at.scheme, at.host, port_of(at),
    ):  # fmt: skip
        return None
    return there


def _by_https(url: httpx2.URL, allowed: Collection[str]) -> httpx2.URL:
    """The address by HTTPS, unless the operator lets the host be anywhere.

    Raises:
        NotSent: it names another port.
    """
    if is_allowed(url.host, port_of(url), allowed):
        return url
    if url.port not in (None, 80 if url.scheme == "http" else 443):
        raise NotSent(f"pages are read by HTTPS at port 443 alone, not at port {url.port}")
    return url.copy_with(scheme="https", port=None)


@contextlib.asynccontextmanager
async def _response(
    method: str, url: httpx2.URL, headers: Mapping[str, str], content: bytes, allowed: Collection[str]
) -> AsyncGenerator[httpx2.Response]:
    proxy = proxy_for(url)
    addresses = await _addresses(url, allowed, is_proxied=proxy is not None)
    transport = httpx2.AsyncHTTPTransport(verify=_tls(), proxy=proxy)
    wanted = {name: value for name, value in headers.items() if name.lower() != "accept-encoding"}
    request = httpx2.Request(
        method,
        url,
        headers={**wanted, "accept-encoding": "identity"},
        content=content or None,
        extensions={"timeout": httpx2.Timeout(READ_SECONDS, connect=CONNECT_SECONDS).as_dict()},
    )
    try:
        response = await _first(transport, request, addresses)
        try:
            yield response
        except (httpx2.TransportError, httpx2.StreamError) as error:
            raise AnswerLost(f"the connection was lost ({type(error).__name__})") from error
        finally:
            await response.aclose()
    finally:
        await transport.aclose()


async def _first(
    transport: httpx2.AsyncHTTPTransport, request: httpx2.Request, addresses: list[str]
) -> httpx2.Response:
    """The answer of the first of the addresses that can be connected to; without any, of the host."""
    tried: Exception | None = None
    for address in addresses or [None]:
        try:
            there = request if address is None else at_address(address, request)
            return await transport.handle_async_request(there)
        except (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout, httpx2.ProxyError) as error:
            tried = error
        except httpx2.TransportError as error:
            raise AnswerLost(f"the connection was lost ({type(error).__name__})") from error
        except (OSError, ValueError) as error:
            raise NotSent(str(error) or type(error).__name__) from error
    assert tried is not None
    why = str(tried) or type(tried).__name__
    raise NotSent(f"{request.url.host!r} cannot be connected to: {why}") from tried


async def _addresses(url: httpx2.URL, allowed: Collection[str], *, is_proxied: bool) -> list[str]:
    """The addresses to connect to, all of which may be called; none where a proxy looks the name up.

    Raises:
        NotSent: one may not be called, or there is none.
    """
    host, port = url.host, port_of(url)
    if is_proxied:
        found = addresses_without_lookup(host)
    elif (literal := literal_address(host)) is not None:
        found = [literal]
    else:
        try:
            found = await look_up(host, port)
        except (OSError, UnicodeError) as error:
            raise NotSent(f"there is no host {host!r}: {error}") from error
        if not found:
            raise NotSent(f"the host {host!r} has no address")
    if not is_allowed(host, port, allowed):
        for address in found:
            why = why_not_public(address)
            if why is not None:
                raise NotSent(f"{host!r} is {why}, {_NOT_ALLOWED}")
    return [] if is_proxied else found


@functools.cache
def _tls() -> ssl.SSLContext:
    return httpx2.create_ssl_context()


async def _read(response: httpx2.Response, max_bytes: int) -> tuple[bytes, bool]:
    """The answer's content, and whether there is more of it."""
    coding = response.headers.get("content-encoding", "identity").strip().lower()
    if coding not in ("identity", "", *_INFLATED):
        raise AnswerLost(f"the answer is compressed as {coding[:40]!r}, which was not asked for")
    inflating = zlib.decompressobj(wbits=zlib.MAX_WBITS | 32) if coding in _INFLATED else None
    content = bytearray()
    stream = response.stream
    assert isinstance(stream, httpx2.AsyncByteStream)
    async for piece in stream:
        if inflating is not None:
            try:
                piece = inflating.decompress(piece, max_bytes + 1 - len(content))
            except zlib.error as error:
                raise AnswerLost("the answer is compressed, and damaged") from error
        content += piece
        if len(content) > max_bytes:
            return bytes(content[:max_bytes]), True
    return bytes(content), False
