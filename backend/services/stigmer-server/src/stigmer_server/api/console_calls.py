"""How a call of the console's page is told from everybody else's: its origin, its cookie, its header."""

import ipaddress
from typing import Final

from stigmer_contract.api import CONSOLE_HEADER

Headers = dict[bytes, bytes]

HEADER: Final = CONSOLE_HEADER.lower().encode()
_READING: Final = frozenset({"GET", "HEAD"})


def cookie_name(installation_id: str, *, is_secure: bool) -> str:
    """One of each installation: several of one machine share the cookies of all its ports.

    `__Host-` (RFC 6265bis, section 4.1.3.2) is what no other host of the domain can set.
    """
    return f"{'__Host-' if is_secure else ''}stigmer_{installation_id}"


def cookies_of(headers: Headers, installation_id: str) -> list[str]:
    """What the browser sent under that name; a page on another port may have set some of them."""
    names = {cookie_name(installation_id, is_secure=is_secure) for is_secure in (False, True)}
    pairs = (pair.strip().partition("=") for pair in headers.get(b"cookie", b"").decode("latin-1").split(";"))
    return [value for name, _, value in pairs if name in names and value]


def own_origin(headers: Headers) -> str | None:
    """The page's origin, where the browser says it and it is the address that was called, with its port."""
    origin = headers.get(b"origin", b"").decode("latin-1")
    scheme, separator, authority = origin.partition("://")
    host = headers.get(b"host", b"").decode("latin-1").lower()
    is_own = scheme in ("http", "https") and bool(separator) and authority == host
    return origin if is_own and _is_same_site(headers) else None


def comes_from_own_page(method: str, headers: Headers) -> bool:
    """Whether a page of this server makes the call.

    Browsers leave `Origin` out where a page reads from its own server, and nowhere else (Fetch, section 3.2).
    """
    if b"origin" not in headers:
        return method in _READING and _is_same_site(headers)
    return own_origin(headers) is not None


def is_this_machine(origin: str) -> bool:
    """Whether what goes to that origin stays on the machine of the browser."""
    authority = origin.partition("://")[2]
    name = authority.rpartition(":")[0] if authority.rpartition(":")[2].isdigit() else authority
    if name == "localhost":
        return True
    try:
        return ipaddress.ip_address(name.strip("[]")).is_loopback
    except ValueError:
        return False


def _is_same_site(headers: Headers) -> bool:
    return headers.get(b"sec-fetch-site", b"same-origin") == b"same-origin"
