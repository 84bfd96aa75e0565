"""Posts one signed message to an address that may be posted to: never into the server's own network.

The name of the host is resolved here, each time, and what is connected to is what was looked at: a name that
means another address a moment later leads nowhere. No redirect is followed.
"""

import asyncio
import ipaddress
import socket
import ssl
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, cast
from urllib.parse import urlsplit

import httpcore
from standardwebhooks import Webhook

from stigmer_contract.ip_addresses import IpAddress, destination_of

TIMEOUT_SECONDS: Final = 15.0
MAX_ANSWER_BYTES: Final = 16 * 1024
"""Nothing of an answer is of use; so much is read, so that the other side is done with it."""


class WebhookRefused(Exception):
    """A message is not sent, or was not taken. The message says why, and holds nothing of the answer's."""


@dataclass(frozen=True)
class WebhookRules:
    """Where may be posted to."""

    allowed_hosts: frozenset[str]
    """Names and addresses that are not public, or without TLS, and allowed all the same; lower case."""

    def check_url(self, url: str) -> None:
        """Refuse a URL that nothing is posted to, whatever its host's name means.

        Raises:
            ValueError: why.
        """
        try:
            parts = urlsplit(url)
            host, _ = parts.hostname, parts.port
        except ValueError as error:
            raise ValueError(f"{url!r} is not a URL: {error}") from None
        if not url.isascii() or not url.isprintable() or " " in url:
            raise ValueError(f"{url!r} is not a URL: it has characters that URLs write with %")
        if parts.scheme not in ("https", "http") or not host:
            raise ValueError(f"{url!r} is not a URL; write https://HOST/PATH")
        if parts.username is not None or parts.password is not None:
            raise ValueError("a webhook's URL holds no user and password; messages are signed instead")
        if parts.fragment:
            raise ValueError("a webhook's URL holds no fragment: it would not be sent")
        if host in self.allowed_hosts:
            return
        if parts.scheme != "https":
            raise ValueError(f"{url!r} is not encrypted; write https://, or allow the host on the server")
        address = _address_of(host)
        if address is not None and not _is_public(address):
            raise ValueError(f"{host} is not a public address; allow it on the server if it is meant")

    def pick(self, host: str, addresses: Iterable[str]) -> str:
        """The address of a host to connect to.

        Raises:
            WebhookRefused: one of them is not public. With one that is, a name could be put to the test.
        """
        found = list(addresses)
        for address in found:
            if host not in self.allowed_hosts and not _is_public(ipaddress.ip_address(address)):
                raise WebhookRefused(f"the host {host!r} has an address that is not public")
        return found[0]


async def post_message(rules: WebhookRules, url: str, secret: str, message_id: str, body: str) -> None:
    """Sign a message and post it; it was taken where this returns.

    Raises:
        WebhookRefused: it was not, or may not be sent there.
    """
    try:
        rules.check_url(url)
    except ValueError as error:
        raise WebhookRefused(str(error)) from error
    now = datetime.now(UTC)
    headers = {
        "Content-Type": "application/json",
        "User-Agent": "stigmer-server",
        "webhook-id": message_id,
        "webhook-timestamp": str(int(now.timestamp())),
        "webhook-signature": Webhook(secret).sign(message_id, now, body),
    }
    try:
        async with asyncio.timeout(TIMEOUT_SECONDS):
            status = await _post(rules, url, headers, body.encode())
    except TimeoutError as error:
        raise WebhookRefused(f"no answer within {TIMEOUT_SECONDS:.0f} s") from error
    except (OSError, UnicodeError, httpcore.NetworkError, httpcore.ProtocolError) as error:
        raise WebhookRefused(f"the connection failed: {_in_a_word(error)}") from error
    if not 200 <= status < 300:
        raise WebhookRefused(f"it answered {status}")


async def _post(rules: WebhookRules, url: str, headers: dict[str, str], body: bytes) -> int:
    async with httpcore.AsyncConnectionPool(
        ssl_context=ssl.create_default_context(), network_backend=_Vetted(rules), max_connections=1
    ) as pool:
        named = {**headers, "Host": urlsplit(url).netloc, "Content-Length": str(len(body))}
        wanted = [(name.encode(), value.encode()) for name, value in named.items()]
        async with pool.stream("POST", url, headers=wanted, content=body) as response:
            read = 0
            async for piece in response.aiter_stream():
                read += len(piece)
                if read > MAX_ANSWER_BYTES:
                    break
            return response.status


class _Vetted(httpcore.AsyncNetworkBackend):
    """Connects to addresses that were looked at, not to names."""

    def __init__(self, rules: WebhookRules) -> None:
        self._rules = rules
        # Declared in two ways, the other of which is for where anyio is missing.
        self._backend = cast("httpcore.AsyncNetworkBackend", httpcore.AnyIOBackend())

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 - the interface's name
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
        address = self._rules.pick(host, dict.fromkeys(str(each[4][0]) for each in found))
        return await self._backend.connect_tcp(address, port, timeout, local_address, socket_options)

    async def connect_unix_socket(
        self,
        path: str,
        timeout: float | None = None,  # noqa: ASYNC109 - the interface's name
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        raise WebhookRefused("nothing is posted to sockets of this machine")

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


def _address_of(host: str) -> IpAddress | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        pass
    # Also spelled as the resolver takes it: one number, octal, hexadecimal, fewer than four parts.
    try:
        return ipaddress.ip_address(socket.inet_aton(host))
    except OSError:
        return None


def _is_public(address: IpAddress) -> bool:
    destination = destination_of(address)
    return destination.is_global and not destination.is_multicast


def _in_a_word(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return type(error).__name__
