"""Answers to creating calls, kept under the caller's `Idempotency-Key`, so that a call made twice acts once.

The answer is written in the transaction of the act itself: either both are there or neither.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from pydantic import BaseModel
from sqlalchemy import ColumnElement, Connection, and_, select

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
    claim = {
        "owner": owner,
        "scope": scope,
        "key": key,
        "request_digest": _digest(request),
        "status": _PENDING_STATUS,
        "body": "",
        "created_at": datetime.now(UTC),
    }
    if not insert_where_absent(connection, idempotency_keys, claim):
        kept = find_answer(connection, owner, scope, key, request)
        assert kept is not None
        return kept, True
    answer = _created(act())
    given = {"status": answer.status, "body": answer.body}
    connection.execute(idempotency_keys.update().where(_is(owner, scope, key)).values(given))
    return answer, False


def find_answer(
    connection: Connection, owner: str, scope: str, key: str | None, request: BaseModel
) -> Answer | None:
    """The answer of the first time; None: the key is new, or there is none.

    Raises:
        IdempotencyKeyReused: the key came with another request.
    """
    if key is None:
        return None
    row = connection.execute(select(idempotency_keys).where(_is(owner, scope, key))).one_or_none()
    if row is None:
        return None
    if row.request_digest != _digest(request):
        raise IdempotencyKeyReused
    return Answer(row.status, row.body)


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


def _is(owner: str, scope: str, key: str) -> ColumnElement[bool]:
    table = idempotency_keys.c
    return and_(table.owner == owner, table.scope == scope, table.key == key)


def _digest(request: BaseModel) -> str:
    return hashlib.sha256(request.model_dump_json(by_alias=True).encode()).hexdigest()


def _check_length(key: str) -> None:
    if not 0 < len(key) <= MAX_KEY_LENGTH:
        raise InvalidRequest(f"an Idempotency-Key has from 1 to {MAX_KEY_LENGTH} characters")


def delete_expired_keys(connection: Connection) -> None:
    """Forget keys older than `KEY_LIFETIME`."""
    oldest = datetime.now(UTC) - KEY_LIFETIME
    connection.execute(idempotency_keys.delete().where(idempotency_keys.c.created_at < oldest))


def _created(resource: BaseModel) -> Answer:
    return Answer(201, resource.model_dump_json(by_alias=True))
