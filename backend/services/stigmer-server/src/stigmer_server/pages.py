"""Cursors of lists: opaque to callers, the last item's key inside. Knows nothing of what is listed."""

import base64
from collections.abc import Callable, Sequence
from typing import Final, TypeVar

from stigmer_contract.api import Page
from stigmer_server.errors import InvalidRequest

DEFAULT_PAGE_SIZE: Final = 50
MAX_PAGE_SIZE: Final = 500

ItemT = TypeVar("ItemT")


def encode_cursor(key: str) -> str:
    """A cursor that stands after the item with this key."""
    return base64.urlsafe_b64encode(key.encode()).decode().rstrip("=")


def decode_cursor(cursor: str) -> str:
    """The key inside a cursor.

    Raises:
        InvalidRequest: it is not one that this server gave out.
    """
    try:
        return base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True).decode()
    except ValueError as error:
        raise InvalidRequest(f"{cursor!r} is not a cursor of this list") from error


def page_of(items: Sequence[ItemT], limit: int, key: Callable[[ItemT], str]) -> Page[ItemT]:
    """A page of at most `limit` items, from a query that was asked for one more."""
    kept = list(items[:limit])
    return Page[ItemT](items=kept, next_cursor=encode_cursor(key(kept[-1])) if len(items) > limit else None)


def name_cursor_key(name: str, owner: str) -> str:
    """The key of an item of a list by name and owner, neither of which holds a line end."""
    return f"{name}\n{owner}"


def decode_name_cursor(cursor: str | None) -> tuple[str, str]:
    """Name and owner after which a list by both goes on; from its beginning where there is no cursor.

    Raises:
        InvalidRequest: it is not one that this server gave out.
    """
    name, _, owner = ("" if cursor is None else decode_cursor(cursor)).partition("\n")
    return name, owner
