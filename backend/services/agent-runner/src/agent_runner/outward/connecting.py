"""How a checked address is connected to, by tools that ask something there and with MCP servers at a URL."""

import asyncio
import socket
import urllib.request

import httpx2

from agent_runner.outward.addresses import literal_address


def port_of(url: httpx2.URL) -> int:
    """The port that it names, or its scheme's."""
    return url.port or (443 if url.scheme == "https" else 80)


def proxy_for(url: httpx2.URL) -> str | None:
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


def at_address(address: str, request: httpx2.Request) -> httpx2.Request:
    """The request to an address. The name stays what TLS and the server are told."""
    return httpx2.Request(
        request.method,
        request.url.copy_with(host=address),
        headers=request.headers,
        stream=request.stream,
        extensions={**request.extensions, "sni_hostname": request.url.host},
    )
