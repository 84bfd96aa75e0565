"""Answers to creating calls, kept under the caller's `Idempotency-Key`, so that a call made twice acts once.

The answer is written in the transaction of the act itself: either both are there or neither.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from pydantic import BaseModel
from sqlalchemy import Connection, and_, select

from stigmer_server.database import insert_where_absent
from stigmer_server.errors import IdempotencyKeyReused, InvalidRequest
from stigmer_server.tables import idempotency_keys

KEY_LIFETIME: Final = timedelta(hours=24)
MAX_KEY_LENGTH: Final = 255
_PENDING_STATUS: Final = 0


@dataclass(frozen=True, slots=True)
class Answer:
    """What a creating call is answered, now and whenever it is repeated."""

    status: int
    body: str
    """JSON."""


def act_once(
    connection: Connection,
    owner: str,
    scope: str,
    key: str | None,
    request: BaseModel,
    act: Callable[[], BaseModel],
) -> tuple[Answer, bool]:
    """Act and keep the answer (201 and the resource), or give the answer of the first time.

    Keys are an owner's own. A call with the same key that runs at the same time is waited for.

    Returns:
        The answer, and whether it is a repeated one.

    Raises:
        IdempotencyKeyReused: the key came with another request.
    """
    if key is None:
        return _created(act()), False
    _check_length(key)
    digest = hashlib.sha256(request.model_dump_json(by_alias=True).encode()).hexdigest()
    mine = and_(
        idempotency_keys.c.owner == owner, idempotency_keys.c.scope == scope, idempotency_keys.c.key == key
    )
    claim = {
        "owner": owner,
        "scope": scope,
        "key": key,
        "request_digest": digest,
        "status": _PENDING_STATUS,
        "body": "",
        "created_at": datetime.now(UTC),
    }
    if not insert_where_absent(connection, idempotency_keys, claim):
        row = connection.execute(select(idempotency_keys).where(mine)).one()
        if row.request_digest != digest:
            raise IdempotencyKeyReused
        return Answer(row.status, row.body), True
    answer = _created(act())
    connection.execute(idempotency_keys.update().where(mine).values(status=answer.status, body=answer.body))
    return answer, False


def append_id(act: str, owner: str, key: str | None) -> str | None:
    """What an execution's log remembers a key by, for as long as it is kept. No runner can guess it.

    Args:
        act: what is done under the key, of which each has keys of its own.
        owner: whose key it is.

    Raises:
        InvalidRequest: the key is too long, or empty.
    """
    if key is None:
        return None
    _check_length(key)
    return hashlib.sha256(f"{act}\n{owner}\n{key}".encode()).hexdigest()


def _check_length(key: str) -> None:
    if not 0 < len(key) <= MAX_KEY_LENGTH:
        raise InvalidRequest(f"an Idempotency-Key has from 1 to {MAX_KEY_LENGTH} characters")


def delete_expired_keys(connection: Connection) -> None:
    """Forget keys older than `KEY_LIFETIME`."""
    oldest = datetime.now(UTC) - KEY_LIFETIME
    connection.execute(idempotency_keys.delete().where(idempotency_keys.c.created_at < oldest))


def _created(resource: BaseModel) -> Answer:
    return Answer(201, resource.model_dump_json(by_alias=True))
