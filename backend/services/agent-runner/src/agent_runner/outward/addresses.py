"""Which addresses are called for an agent: what an address is that nobody but this machine may call."""

import ipaddress
import socket
from collections.abc import Collection
from typing import Final

from stigmer_contract.ip_addresses import IpAddress, destination_of

ANY: Final = "*"
"""Among allowed hosts: all of them."""
_METADATA: Final = frozenset(
    ipaddress.ip_address(address)
    # Amazon by IPv6, Alibaba, Azure; all others are link-local.
    for address in ("fd00:ec2::254", "100.100.100.200", "168.63.129.16")
)
_GLOBAL_UNICAST: Final = ipaddress.IPv6Network("2000::/3")
"""RFC 4291, section 2.4: what IANA has given out so far. Further translations of IPv4 lie beside it."""


def why_refused(address: str) -> str | None:
    """What an address is that nobody but this machine is to call; None: it may be called."""
    parsed = _destination(address)
    if parsed.is_loopback or parsed.is_unspecified:
        return "this machine itself"
    if parsed.is_link_local or parsed in _METADATA:
        return "a link-local or metadata address"
    if parsed.is_multicast or parsed == ipaddress.IPv4Address("255.255.255.255"):
        return "a multicast address"
    return None


def why_not_public(address: str) -> str | None:
    """What an address is that is no part of the public internet; None: it is one."""
    why = why_refused(address)
    if why is not None:
        return why
    parsed = _destination(address)
    is_public = parsed.is_global and (parsed.version == 4 or parsed in _GLOBAL_UNICAST)
    return None if is_public else "a private or reserved address"


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


def is_allowed(host: str, port: int, allowed: Collection[str]) -> bool:
    """Whether the operator lets a host be at any address."""
    return ANY in allowed or host in allowed or f"{host}:{port}" in allowed


def _destination(address: str) -> IpAddress:
    return destination_of(ipaddress.ip_address(address.partition("%")[0]))
