"""Where an IP address leads, for whoever may not call every one."""

import ipaddress
from collections.abc import Collection
from typing import Final

ANY: Final = "*"
"""Among allowed hosts: all of them."""
IpAddress = ipaddress.IPv4Address | ipaddress.IPv6Address

_METADATA: Final = frozenset(
    ipaddress.ip_address(address)
    # Amazon by IPv6, Alibaba, Azure; all others are link-local.
    for address in ("fd00:ec2::254", "100.100.100.200", "168.63.129.16")
)
_TRANSLATED: Final = ipaddress.IPv6Network("64:ff9b::/96")
"""NAT64 (RFC 6052): leads to the IPv4 address that it ends with."""


def destination_of(address: IpAddress) -> IpAddress:
    """The IPv4 address that one of IPv6 stands for (mapped, NAT64, 6to4, Teredo); else the address itself."""
    if isinstance(address, ipaddress.IPv4Address):
        return address
    if address in _TRANSLATED:
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped or address.sixtofour or (address.teredo or (None, None))[1] or address


def why_refused(address: str) -> str | None:
    """What an address is that nobody but this machine is to call; None: it may be called."""
    parsed = destination_of(ipaddress.ip_address(address.partition("%")[0]))
    if parsed.is_loopback or parsed.is_unspecified:
        return "this machine itself"
    if parsed.is_link_local or parsed in _METADATA:
        return "a link-local or metadata address"
    if parsed.is_multicast or parsed == ipaddress.IPv4Address("255.255.255.255"):
        return "a multicast address"
    return None


def is_allowed(host: str, port: int, allowed: Collection[str]) -> bool:
    """Whether an operator's list lets a host be at any address: of hosts, or `host:port`; `*` is all."""
    return ANY in allowed or host in allowed or f"{host}:{port}" in allowed
