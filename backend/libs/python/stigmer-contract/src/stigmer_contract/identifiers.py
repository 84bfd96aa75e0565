"""Ids: what they look like and how they are made. Sorting ids of one kind sorts them by time."""

import secrets
import time
from datetime import datetime, timedelta

EXECUTION_PREFIX = "exe"
SESSION_PREFIX = "ses"
INPUT_PREFIX = "inp"
DELIVERY_PREFIX = "msg"
OWNER_PATTERN = r"^[a-z0-9]([a-z0-9.@_-]{0,61}[a-z0-9])?$"
"""What somebody who owns things may be called."""
TOKEN_PREFIX = "tok"  # noqa: S105 - of the token's id

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"  # Crockford's base 32, lower case
_LENGTH = 26


def new_id(prefix: str, *, after: str | None = None) -> str:
    """A fresh id such as `exe_01k9…`: 48 bits of milliseconds, then 80 random bits (the ULID layout).

    The random part makes a session's directory name unguessable. `after` is the greatest id there is; the
    new one follows it, also where the clock was set back meanwhile.
    """
    milliseconds = max(time.time_ns() // 1_000_000, _milliseconds_of(after) + 1)
    return _format(prefix, (milliseconds << 80) | secrets.randbits(80))


def first_id(prefix: str, time: datetime, slack: timedelta = timedelta()) -> str:
    """The smallest id of a moment, `slack` after a time: all that were made since are as great or greater."""
    milliseconds = int((time.timestamp() + slack.total_seconds()) * 1000)
    return _format(prefix, min(max(milliseconds, 0), 2**48 - 1) << 80)


def _format(prefix: str, number: int) -> str:
    digits = [_ALPHABET[(number >> (5 * place)) & 31] for place in reversed(range(_LENGTH))]
    return f"{prefix}_{''.join(digits)}"


def _milliseconds_of(any_id: str | None) -> int:
    """The time in an id; 0 where it is none of ours."""
    digits = "" if any_id is None else any_id.rpartition("_")[2]
    if len(digits) != _LENGTH or not set(digits) <= set(_ALPHABET):
        return 0
    number = 0
    for digit in digits:
        number = number << 5 | _ALPHABET.index(digit)
    return number >> 80
