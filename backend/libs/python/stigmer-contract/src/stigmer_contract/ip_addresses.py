"""Where an IP address leads, for whoever may not call every one."""

import ipaddress
from typing import Final

IpAddress = ipaddress.IPv4Address | ipaddress.IPv6Address

_TRANSLATED: Final = ipaddress.IPv6Network("64:ff9b::/96")
"""NAT64 (RFC 6052): leads to the IPv4 address that it ends with."""


def destination_of(address: IpAddress) -> IpAddress:
    """The IPv4 address that one of IPv6 stands for (mapped, NAT64, 6to4, Teredo); else the address itself."""
    if isinstance(address, ipaddress.IPv4Address):
        return address
    if address in _TRANSLATED:
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped or address.sixtofour or (address.teredo or (None, None))[1] or address
