"""Links that answer one input without a token: whoever has one decides, until it expires or somebody has.

Only a hash of each is kept. What is asked and whether an answer fits is `inputs`' matter.
"""

import hashlib
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from sqlalchemy import Connection, select

from stigmer_server.database import Database
from stigmer_server.tables import answer_links

LONGEST_LIFE: Final = timedelta(days=7)
"""Of a link to an input that does not expire sooner."""
SECRET_BYTES: Final = 32


@dataclass(frozen=True, slots=True)
class AnswerLink:
    """A link that holds."""

    input_id: str
    webhook: str
    """To which it was told."""


class AnswerLinks:
    """The links, by their secrets."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def create(self, input_id: str, webhook: str, expires_at: datetime | None) -> str:
        """Make a link to an input; its secret, which is kept nowhere."""
        secret, longest = secrets.token_urlsafe(SECRET_BYTES), datetime.now(UTC) + LONGEST_LIFE
        row = {
            "digest": _digest(secret),
            "input_id": input_id,
            "webhook": webhook,
            "expires_at": longest if expires_at is None else min(expires_at, longest),
        }
        await self._database.write(lambda connection: connection.execute(answer_links.insert(), row))
        return secret

    async def find(self, secret: str) -> AnswerLink | None:
        """What a link is to; None where there is no such link, or none any more."""
        query = select(answer_links.c.input_id, answer_links.c.webhook).where(
            answer_links.c.digest == _digest(secret), answer_links.c.expires_at > datetime.now(UTC)
        )

        def work(connection: Connection) -> AnswerLink | None:
            row = connection.execute(query).one_or_none()
            return None if row is None else AnswerLink(row.input_id, row.webhook)

        return await self._database.read(work)

    async def forget_expired(self) -> None:
        """Remove what has expired."""
        expired = answer_links.c.expires_at <= datetime.now(UTC)
        await self._database.write(
            lambda connection: connection.execute(answer_links.delete().where(expired))
        )


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()
