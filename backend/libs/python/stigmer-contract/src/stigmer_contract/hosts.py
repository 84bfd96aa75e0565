"""Where a URL leads: its port, the proxy that stands before it, and the addresses of its host."""

import asyncio
import ipaddress
import socket
import urllib.request
from typing import Protocol


class Url(Protocol):
    """As much of a URL as that depends on; those of httpx have it."""

    @property
    def scheme(self) -> str:
        """In lower case."""
        ...

    @property
    def host(self) -> str:
        """In lower case, without brackets."""
        ...

    @property
    def port(self) -> int | None:
        """None where it is the scheme's."""
        ...


def port_of(url: Url) -> int:
    """The port that it names, or its scheme's."""
    return url.port or (443 if url.scheme == "https" else 80)


def proxy_for(url: Url) -> str | None:
    """What the environment says (`HTTPS_PROXY`, `NO_PROXY`, …)."""
    if urllib.request.proxy_bypass(url.host):
        return None
    return urllib.request.getproxies().get(url.scheme)


async def look_up(host: str, port: int) -> list[str]:
    """The addresses of a host, the best first.

    Raises:
        OSError, UnicodeError: there is no such host.
    """
    answers = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(each[4][0]) for each in answers))


def addresses_without_lookup(host: str) -> list[str]:
    """What can be known of a host that a proxy looks up: where it is no name, or this machine's."""
    local = "127.0.0.1" if host.rstrip(".").endswith("localhost") else None
    return [each for each in (literal_address(host), local) if each is not None]


def literal_address(host: str) -> str | None:
    """The address that a host is written as, in every form that resolvers take (`0x7f.1`); None: a name."""
    text = host.strip("[]").partition("%")[0].rstrip(".")
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        pass
    try:
        return socket.inet_ntoa(socket.inet_aton(text))
    except (OSError, UnicodeError):
        return None
