"""Which addresses MCP servers at a URL may be at. A name is looked up once, and what was
found is connected to.

The manifest is another person's: it must not make the runner call what only this machine reaches.
"""

import asyncio
from collections.abc import Collection
from typing import Final

from agent_runner.mcp_servers.faults import ServerUnavailable
from stigmer_contract.hosts import look_up
from stigmer_contract.ip_addresses import is_allowed, why_refused

RESOLVE_SECONDS: Final = 30.0


class AddressRefused(ServerUnavailable):
    """The host is at an address that is not to be called."""

    def __init__(self, host: str, why: str) -> None:
        super().__init__(f"{host!r} is {why}, which the operator has not allowed (STIGMER_MCP_ALLOW_HOSTS)")


async def find_addresses(host: str, port: int, allowed: Collection[str]) -> list[str]:
    """The addresses to connect to, the best first; at least one.

    Args:
        allowed: hosts, or `host:port`, that may be at any address; `*` is all.

    Raises:
        AddressRefused: one of its addresses is this machine's own, or its cloud's.
        OSError: there is no such host.
    """
    async with asyncio.timeout(RESOLVE_SECONDS):
        addresses = await look_up(host, port)
    if not addresses:
        raise OSError(f"{host!r} has no address")
    check_host(host, port, allowed, addresses)
    return addresses


def check_host(host: str, port: int, allowed: Collection[str], addresses: Collection[str]) -> None:
    """See that the host may be called.

    Raises:
        AddressRefused: it may not.
    """
    if is_allowed(host, port, allowed):
        return
    for address in addresses:
        why = why_refused(address)
        if why is not None:
            raise AddressRefused(host, why)
