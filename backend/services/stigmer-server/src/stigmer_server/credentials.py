"""Who a call's token stands for, found without asking the database. Makes and revokes no tokens.

All tokens that hold are kept in memory by their SHA-256, so that a request costs a look-up, and a stranger's
guess nothing. What is looked up is a digest, which tells nothing to whoever measures how long that takes.
"""

import hashlib
import time
from collections.abc import Generator, Iterable, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from stigmer_contract.api import ADMINISTRATOR, NO_POLICY, TokenPolicy, TokenScope
from stigmer_server.owners import Caller

RUNNER_TOKEN_NAME: Final = "STIGMER_RUNNER_TOKEN"  # noqa: S105 - a variable's name


@dataclass(slots=True, eq=False)
class Credential:
    """A token that somebody holds; the same object for as long as the token is known."""

    token_id: str
    """Of a token that the environment names: that of its variable."""
    name: str
    scope: TokenScope
    owner: str
    """Who it stands for."""
    expires_at: float | None = None
    """Seconds since 1970."""
    is_revoked: bool = False
    used_at: float | None = None
    """When a call carried it, where that has not been written down yet."""
    sees_earlier: bool = False
    """Whether what was there before owners came is shared with its owner."""
    policy: TokenPolicy = NO_POLICY

    @property
    def holds(self) -> bool:
        """Whether calls with it are still answered."""
        return not self.is_revoked and (self.expires_at is None or time.time() < self.expires_at)

    @property
    def caller(self) -> Caller:
        """What calls with it see."""
        is_admin = self.scope is TokenScope.ADMIN
        return Caller(self.owner, is_admin, self.sees_earlier, self.token_id, self.policy)

    @property
    def expiry(self) -> datetime | None:
        """`expires_at` as a time."""
        return None if self.expires_at is None else datetime.fromtimestamp(self.expires_at, UTC)


class Credentials:
    """Every credential that may be shown, by the digest of its token."""

    def __init__(self, admin_token: str, runner_token: str | None) -> None:
        """Those of the environment hold for as long as the process lives."""
        administrator = Credential("admin", ADMINISTRATOR, TokenScope.ADMIN, ADMINISTRATOR)
        self._fixed = {digest_of(admin_token): administrator}
        if runner_token is not None:
            runner = Credential("runner", RUNNER_TOKEN_NAME, TokenScope.RUNNER, RUNNER_TOKEN_NAME)
            self._fixed[digest_of(runner_token)] = runner
        self._stored: dict[str, Credential] = {}
        self._reloads: list[Reload] = []

    def find(self, token: str) -> Credential | None:
        """Whose token it is; None where nobody's, or it does not hold any more."""
        digest = digest_of(token)
        credential = self._stored.get(digest) or self._fixed.get(digest)
        if credential is None or not credential.holds:
            return None
        credential.used_at = time.time()
        return credential

    def find_by_id(self, token_id: str) -> tuple[str, Credential] | None:
        """The token of this id with its digest, where it holds."""
        for digest, credential in (*self._fixed.items(), *self._stored.items()):
            if credential.token_id == token_id and credential.holds:
                return digest, credential
        return None

    @contextmanager
    def reload(self) -> "Generator[Reload]":
        """Open while the database is read: what changes here meanwhile is newer than what is found."""
        reload = Reload(self)
        self._reloads.append(reload)
        try:
            yield reload
        finally:
            self._reloads.remove(reload)

    def replace_stored(self, found: Mapping[str, Credential]) -> None:
        """Make the stored credentials those of the database, by digest; what is gone is revoked."""
        kept: dict[str, Credential] = {}
        for digest, credential in found.items():
            kept[digest] = self._stored.pop(digest, credential)
        for gone in self._stored.values():
            gone.is_revoked = True
        self._stored = kept

    def add(self, digest: str, credential: Credential) -> None:
        """Know a token that was made just now."""
        self._stored[digest] = credential
        self._note(digest, credential)

    def revoke(self, digest: str) -> None:
        """Answer no more calls with the token, nor go on with streams that it opened."""
        credential = self._stored.pop(digest, None)
        self._note(digest, None)
        if credential is not None:
            credential.is_revoked = True

    def take_used(self) -> Iterable[tuple[str, float]]:
        """The stored tokens used since the last time, with when that was."""
        for credential in list(self._stored.values()):
            if credential.used_at is not None:
                yield credential.token_id, credential.used_at
                credential.used_at = None

    def _note(self, digest: str, credential: Credential | None) -> None:
        for reload in self._reloads:
            reload.changes[digest] = credential


class Reload:
    """A reading of all stored credentials from the database, which takes its time."""

    def __init__(self, credentials: Credentials) -> None:
        self._credentials = credentials
        self.changes: dict[str, Credential | None] = {}
        """What was made here since the reading began, by digest, and, None, what was revoked."""

    def finish(self, found: Mapping[str, Credential]) -> None:
        """Take what was found, but for what has changed since."""
        newest = {**found, **self.changes}
        self._credentials.replace_stored(
            {digest: credential for digest, credential in newest.items() if credential is not None}
        )


def digest_of(token: str) -> str:
    """What is kept of a token. Unsalted: tokens are random, so there is nothing to try out."""
    return hashlib.sha256(token.encode("latin-1", errors="replace")).hexdigest()
