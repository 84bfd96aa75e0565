"""Tokens: made, listed, revoked, and kept in step with other servers on the same database.

What is stored is a digest; the text of a token leaves the process once, in the answer that made it.
"""

import asyncio
import logging
import secrets
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, Row, bindparam, or_, select, true
from sqlalchemy.exc import IntegrityError

from stigmer_contract.api import (
    ADMINISTRATOR,
    NO_POLICY,
    CreatedToken,
    CreateToken,
    Page,
    TokenPolicy,
    TokenResource,
    TokenScope,
)
from stigmer_contract.identifiers import TOKEN_PREFIX, new_id
from stigmer_server.credentials import Credential, Credentials, digest_of
from stigmer_server.database import Database
from stigmer_server.errors import Conflict, Forbidden, InvalidRequest, NotFound, Unavailable
from stigmer_server.owners import Caller, find_owner
from stigmer_server.pages import decode_cursor, page_of
from stigmer_server.tables import tokens

logger = logging.getLogger(__name__)

TOKEN_BYTES: Final = 32
RELOAD_INTERVAL_SECONDS: Final = 2.0
"""How long another server's tokens may stay unknown here, and its revocations without effect."""
LAST_USED_INTERVAL_SECONDS: Final = 30.0


class Tokens:
    """The stored tokens, by name."""

    def __init__(self, database: Database, credentials: Credentials) -> None:
        self._database = database
        self._credentials = credentials

    async def create(self, request: CreateToken, created_by: Credential) -> CreatedToken:
        """Make a token. Nobody can ask for its text again.

        Raises:
            InvalidRequest: it would stand for the administrator, and is none.
            Forbidden: who makes it is bound by a policy, which the new token could go beyond.
            Conflict: a token of this name is not revoked, or it is that of the server's own.
        """
        if created_by.policy != NO_POLICY:
            raise Forbidden("a token with a policy makes no tokens", "use one without")
        owner = request.owner or request.name
        if owner == ADMINISTRATOR and request.scope is TokenScope.USER:
            raise InvalidRequest(
                f"a token that stands for {ADMINISTRATOR!r} has the scope admin", "name another owner"
            )
        if request.name == ADMINISTRATOR:  # logs name who decided
            raise Conflict(f"{ADMINISTRATOR!r} is the name of the server's own token", "take another name")
        # The prefix lets a scanner of secrets find it where it does not belong.
        text = f"stigmer_{request.scope}_{secrets.token_urlsafe(TOKEN_BYTES)}"
        now = datetime.now(UTC)
        lifetime = request.expires_in_seconds
        resource = TokenResource(
            token_id=new_id(TOKEN_PREFIX),
            name=request.name,
            scope=request.scope,
            owner=owner,
            created_at=now,
            created_by=created_by.name,
            expires_at=None if lifetime is None else now + timedelta(seconds=lifetime),
            policy=request.policy,
        )
        digest = digest_of(text)

        def work(connection: Connection) -> bool:
            sees_earlier = find_owner(connection, owner).sees_earlier
            stored = {"scope": request.scope.value, "policy": request.policy.model_dump_json()}
            row = resource.model_dump() | stored | {"digest": digest, "sees_earlier": sees_earlier}
            connection.execute(tokens.insert(), row)
            return sees_earlier

        try:
            sees_earlier = await self._database.write(work)
        except IntegrityError as error:
            raise Conflict(
                f"there is a token {request.name!r} already", "revoke it, or take another name"
            ) from error
        self._credentials.add(digest, _credential(resource, sees_earlier))
        return CreatedToken(**resource.model_dump(), token=text)

    async def list(
        self, caller: Caller, limit: int, cursor: str | None, *, with_revoked: bool
    ) -> Page[TokenResource]:
        """The caller's tokens, newest first; everybody's for an administrator."""
        query = select(tokens).where(_is_seen_by(caller))
        query = query.order_by(tokens.c.token_id.desc()).limit(limit + 1)
        if cursor is not None:
            query = query.where(tokens.c.token_id < decode_cursor(cursor))
        if not with_revoked:
            query = query.where(tokens.c.revoked_at.is_(None))

        def work(connection: Connection) -> Sequence[TokenResource]:
            return [_resource(row) for row in connection.execute(query)]

        return page_of(await self._database.read(work), limit, lambda token: token.token_id)

    async def revoke(self, name: str, caller: Caller) -> None:
        """Let the token hold no more: here at once, on other servers within seconds.

        Raises:
            NotFound: no token of this name that the caller sees is not revoked.
        """

        def work(connection: Connection) -> str:
            mine = (tokens.c.name == name) & tokens.c.revoked_at.is_(None) & _is_seen_by(caller)
            digest = connection.execute(select(tokens.c.digest).where(mine).with_for_update()).scalar()
            if digest is None:
                raise NotFound("token", name)
            connection.execute(tokens.update().where(mine).values(revoked_at=datetime.now(UTC)))
            return digest

        self._credentials.revoke(await self._database.write(work))

    async def load(self) -> None:
        """Know all tokens that hold.

        Raises:
            Unavailable: the database does not answer.
        """
        query = select(tokens).where(
            tokens.c.revoked_at.is_(None),
            or_(tokens.c.expires_at.is_(None), tokens.c.expires_at > datetime.now(UTC)),
        )

        def work(connection: Connection) -> dict[str, Credential]:
            return {
                row.digest: _credential(_resource(row), row.sees_earlier) for row in connection.execute(query)
            }

        with self._credentials.reload() as reload:
            reload.finish(await self._database.read(work))

    async def run(self) -> None:
        """Hear of other servers' changes, and write down when tokens were used, until cancelled."""
        written_at = time.monotonic()
        while True:
            await asyncio.sleep(RELOAD_INTERVAL_SECONDS)
            try:
                if self._database.is_shared:
                    await self.load()
                if time.monotonic() - written_at > LAST_USED_INTERVAL_SECONDS:
                    written_at = time.monotonic()
                    await self.write_last_used()
            except Unavailable as error:
                logger.warning("tokens were not kept in step with the database: %s", error)

    async def write_last_used(self) -> None:
        """Write down when tokens were last used, where that is not known yet.

        Raises:
            Unavailable: the database does not answer.
        """
        rows = [
            {"key": token_id, "used_at": datetime.fromtimestamp(used_at, UTC)}
            for token_id, used_at in self._credentials.take_used()
        ]
        if rows:
            await self._database.write(lambda connection: connection.execute(_update_last_used, rows))


_update_last_used = (
    tokens.update().where(tokens.c.token_id == bindparam("key")).values(last_used_at=bindparam("used_at"))
)


def _is_seen_by(caller: Caller) -> ColumnElement[bool]:
    return true() if caller.sees_all else tokens.c.owner == caller.owner


def _credential(resource: TokenResource, sees_earlier: bool) -> Credential:
    return Credential(
        resource.token_id,
        resource.name,
        resource.scope,
        resource.owner,
        expires_at=None if resource.expires_at is None else resource.expires_at.timestamp(),
        sees_earlier=sees_earlier,
        policy=resource.policy,
    )


def _resource(row: Row[Any]) -> TokenResource:
    return TokenResource(
        token_id=row.token_id,
        name=row.name,
        scope=TokenScope(row.scope),
        owner=row.owner,
        created_at=row.created_at,
        created_by=row.created_by,
        expires_at=row.expires_at,
        revoked_at=row.revoked_at,
        last_used_at=row.last_used_at,
        policy=TokenPolicy() if row.policy is None else TokenPolicy.model_validate_json(row.policy),
    )
