"""How people sign in to the console: links that open it once, and the sessions that they open. Knows no HTTP.

Browsers send a cookie of one port of a machine to every other port of it, so a session is opened by two
secrets together: one in a cookie, and one that the page keeps for its own origin. Stored are the first's
digest, and a code made of the token's digest by the second: whoever reads the database can open nothing, nor
try tokens out, and a session ends with its token, that of the environment included.
"""

import hashlib
import hmac
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from sqlalchemy import Connection, select

from stigmer_server.credentials import Credential, Credentials, digest_of
from stigmer_server.database import Database
from stigmer_server.errors import Forbidden, SignInRefused
from stigmer_server.tables import console_secrets

LINK_LIFETIME: Final = timedelta(minutes=2)
SESSION_LIFETIME: Final = timedelta(hours=12)
MOST_OF_A_TOKEN: Final = 50
"""Links, and sessions, of one token; the one that would end first makes room."""
MOST_COOKIES: Final = 4
"""Others of the same name may have been set by whoever listens on another port."""
RECHECK_SECONDS: Final = 2.0
"""How long a session may go on here that was signed out on another server of the database."""
_SECRET_BYTES: Final = 32
_LINK: Final = "link"
_SESSION: Final = "session"


@dataclass(slots=True, eq=False)
class ConsoleCredential(Credential):
    """A token as its owner's browser holds it: as long as the token, and no longer than the session."""

    session_digest: str = ""
    parent: Credential | None = None

    @property
    def holds(self) -> bool:
        """Whether calls of the session are still answered."""
        is_over = self.expires_at is None or time.time() >= self.expires_at
        return not (self.is_revoked or is_over) and self.parent is not None and self.parent.holds


@dataclass(frozen=True, slots=True)
class Link:
    """What opens the console once."""

    secret: str
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class OpenedSession:
    """What a browser keeps."""

    cookie: str
    secret: str
    credential: ConsoleCredential
    expires_at: datetime


@dataclass(slots=True)
class _Known:
    """A session as the database had it a moment ago."""

    credential: ConsoleCredential
    token_digest: str
    proof: str
    checked_at: float

    def is_opened_by(self, secret: str) -> bool:
        return hmac.compare_digest(self.proof, _proof(secret, self.token_digest)) and self.credential.holds

    def is_fresh(self) -> bool:
        return time.monotonic() - self.checked_at < RECHECK_SECONDS


class ConsoleSessions:
    """Makes and ends sessions, and says whose a call of one is."""

    def __init__(self, database: Database, credentials: Credentials) -> None:
        self._database = database
        self._credentials = credentials
        self._known: dict[str, _Known] = {}

    async def create_link(self, credential: Credential) -> Link:
        """Make a link for whoever makes the call with a token.

        Raises:
            Forbidden: the call is a page's own, which must not outlive its session that way.
        """
        if isinstance(credential, ConsoleCredential):
            raise Forbidden("a page of the console makes no links", "run `stigmer console`")
        secret = secrets.token_urlsafe(_SECRET_BYTES)
        expires_at = _no_later_than(credential, LINK_LIFETIME)
        await self._store(digest_of(secret), _LINK, credential.token_id, secret, expires_at)
        return Link(secret, expires_at)

    async def sign_in(self, secret: str) -> OpenedSession:
        """Open a session with a link's secret, which is worth nothing afterwards.

        Raises:
            SignInRefused: it is no link's, was used, is too old, or its token does not hold any more.
        """
        digest = digest_of(secret)

        def take(connection: Connection) -> tuple[str, str] | None:
            of_link = (console_secrets.c.digest == digest) & (console_secrets.c.kind == _LINK)
            row = connection.execute(select(console_secrets).where(of_link).with_for_update()).first()
            # Of two that come at once, one deletes it.
            if row is None or connection.execute(console_secrets.delete().where(of_link)).rowcount != 1:
                return None
            return (row.token_id, row.proof) if row.expires_at > datetime.now(UTC) else None

        found = await self._database.write(take)
        token = None if found is None else self._credentials.find_by_id(found[0])
        if found is None or token is None or not hmac.compare_digest(found[1], _proof(secret, token[0])):
            raise SignInRefused(
                "this link was used, is too old, or its token does not hold any more",
                "run `stigmer console` for a new one, or sign in with a token",
            )
        token_digest, parent = token
        cookie, page_secret = (secrets.token_urlsafe(_SECRET_BYTES) for _ in range(2))
        expires_at = _no_later_than(parent, SESSION_LIFETIME)
        session_digest = digest_of(cookie)
        await self._store(session_digest, _SESSION, parent.token_id, page_secret, expires_at)
        known = self._know(
            session_digest, token_digest, parent, _proof(page_secret, token_digest), expires_at
        )
        return OpenedSession(cookie, page_secret, known.credential, expires_at)

    def recall(self, cookies: Sequence[str], secret: str) -> ConsoleCredential | None:
        """As `find`, of sessions that were looked up a moment ago, and so without asking the database."""
        for cookie in cookies[:MOST_COOKIES]:
            known = self._known.get(digest_of(cookie))
            if known is not None and known.is_fresh() and known.is_opened_by(secret):
                return self._note_used(known)
        return None

    async def find(self, cookies: Sequence[str], secret: str) -> ConsoleCredential | None:
        """Whose session it is that one of these cookies and the page's secret open; None where nobody's.

        Raises:
            Unavailable: the database does not answer.
        """
        for cookie in cookies[:MOST_COOKIES]:
            known = await self._look_up(digest_of(cookie))
            if known is not None and known.is_opened_by(secret):
                return self._note_used(known)
        return None

    async def sign_out(self, credential: Credential) -> None:
        """End the session of the call: here at once, with its streams; on other servers within seconds.

        Raises:
            Forbidden: the call carries a token, and is of no session.
        """
        if not isinstance(credential, ConsoleCredential):
            raise Forbidden("the call carries a token, and is of no session of the console")
        digest = credential.session_digest
        await self._database.write(
            lambda connection: connection.execute(
                console_secrets.delete().where(console_secrets.c.digest == digest)
            )
        )
        self._forget(digest)

    async def _look_up(self, digest: str) -> _Known | None:
        query = select(console_secrets).where(
            console_secrets.c.digest == digest,
            console_secrets.c.kind == _SESSION,
            console_secrets.c.expires_at > datetime.now(UTC),
        )
        row = await self._database.read(lambda connection: connection.execute(query).first())
        token = None if row is None else self._credentials.find_by_id(row.token_id)
        if row is None or token is None:
            self._forget(digest)
            return None
        known = self._known.get(digest)
        if known is None or known.token_digest != token[0] or not known.credential.holds:
            return self._know(digest, *token, row.proof, row.expires_at)
        known.checked_at = time.monotonic()
        return known

    def _know(
        self, digest: str, token_digest: str, parent: Credential, proof: str, expires_at: datetime
    ) -> _Known:
        for over in [each for each, known in self._known.items() if not known.credential.holds]:
            self._forget(over)
        credential = ConsoleCredential(
            parent.token_id,
            parent.name,
            parent.scope,
            parent.owner,
            expires_at=expires_at.timestamp(),
            sees_earlier=parent.sees_earlier,
            policy=parent.policy,
            session_digest=digest,
            parent=parent,
        )
        known = self._known[digest] = _Known(credential, token_digest, proof, time.monotonic())
        return known

    def _forget(self, digest: str) -> None:
        known = self._known.pop(digest, None)
        if known is not None:
            known.credential.is_revoked = True

    def _note_used(self, known: _Known) -> ConsoleCredential:
        assert known.credential.parent is not None
        known.credential.parent.used_at = time.time()
        return known.credential

    async def _store(self, digest: str, kind: str, token_id: str, secret: str, expires_at: datetime) -> None:
        token = self._credentials.find_by_id(token_id)
        if token is None:
            raise SignInRefused("the token does not hold any more", "sign in with another one")
        row = {
            "digest": digest,
            "kind": kind,
            "token_id": token_id,
            "proof": _proof(secret, token[0]),
            "expires_at": expires_at,
        }
        of_token = (console_secrets.c.token_id == token_id) & (console_secrets.c.kind == kind)
        oldest_too_many = (
            select(console_secrets.c.digest)
            .where(of_token)
            .order_by(console_secrets.c.expires_at.desc())
            .offset(MOST_OF_A_TOKEN)
        )

        def work(connection: Connection) -> None:
            connection.execute(
                console_secrets.delete().where(console_secrets.c.expires_at <= datetime.now(UTC))
            )
            connection.execute(console_secrets.insert(), row)
            gone = connection.execute(oldest_too_many).scalars().all()
            connection.execute(console_secrets.delete().where(console_secrets.c.digest.in_(gone)))

        await self._database.write(work)


def _no_later_than(credential: Credential, lifetime: timedelta) -> datetime:
    expires_at = datetime.now(UTC) + lifetime
    return expires_at if credential.expiry is None else min(expires_at, credential.expiry)


def _proof(secret: str, token_digest: str) -> str:
    key = secret.encode("latin-1", errors="replace")
    return hmac.new(key, token_digest.encode(), hashlib.sha256).hexdigest()
