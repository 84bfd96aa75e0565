"""Ids: what they look like and how they are made. Sorting ids of one kind sorts them by time."""

import secrets
import time

EXECUTION_PREFIX = "exe"
SESSION_PREFIX = "ses"
TOKEN_PREFIX = "tok"  # noqa: S105 - of the token's id

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"  # Crockford's base 32, lower case
_LENGTH = 26


def new_id(prefix: str) -> str:
    """A fresh id such as `exe_01k9…`: 48 bits of milliseconds, then 80 random bits (the ULID layout).

    The random part makes a session's directory name unguessable.
    """
    number = (time.time_ns() // 1_000_000 << 80) | secrets.randbits(80)
    digits = [_ALPHABET[(number >> (5 * place)) & 31] for place in reversed(range(_LENGTH))]
    return f"{prefix}_{''.join(digits)}"
