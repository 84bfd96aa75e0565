"""Which addresses are called for an agent: what an address is that nobody but this machine may call."""

import ipaddress
from typing import Final

from stigmer_contract.ip_addresses import IpAddress, destination_of, why_refused

_GLOBAL_UNICAST: Final = ipaddress.IPv6Network("2000::/3")
"""RFC 4291, section 2.4: what IANA has given out so far. Further translations of IPv4 lie beside it."""


def why_not_public(address: str) -> str | None:
    """What an address is that is no part of the public internet; None: it is one."""
    why = why_refused(address)
    if why is not None:
        return why
    parsed = _destination(address)
    is_public = parsed.is_global and (parsed.version == 4 or parsed in _GLOBAL_UNICAST)
    return None if is_public else "a private or reserved address"


def _destination(address: str) -> IpAddress:
    return destination_of(ipaddress.ip_address(address.partition("%")[0]))
