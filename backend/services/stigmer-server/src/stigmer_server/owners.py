"""Who a call stands for, and what that lets it see. Gives nobody a token, and changes nothing.

Everything has an owner. Its owner sees it, whoever it is shared with, and every administrator; to all
others it is not there.
"""

from dataclasses import dataclass
from typing import Final

from sqlalchemy import ColumnElement, Connection, Table, exists, func, or_, select, true

from stigmer_contract.api import ADMINISTRATOR, NO_POLICY, SharedWith, TokenPolicy
from stigmer_server.errors import NotFound
from stigmer_server.tables import sessions, tokens

MANY_SESSIONS: Final = 5000


@dataclass(frozen=True, slots=True)
class Caller:
    """Who makes a call."""

    owner: str
    """Of what the call makes."""
    sees_all: bool = False
    sees_earlier: bool = False
    """Whether what was there before owners came is shared with it."""
    token_id: str | None = None
    policy: TokenPolicy = NO_POLICY

    def may_see(self, table: Table) -> ColumnElement[bool]:
        """The condition on a table's rows, which have `owner` and `shared_with`."""
        return true() if self.sees_all else self.is_given(table)

    def is_given(self, table: Table) -> ColumnElement[bool]:
        """As `may_see`, without what only an administrator sees: what a bare name can mean."""
        shared = [SharedWith.EVERYBODY.value]
        if self.sees_earlier:
            shared.append(SharedWith.EARLIER.value)
        return or_(table.c.owner == self.owner, table.c.shared_with.in_(shared))

    def may_see_session(self, session_id: ColumnElement[str]) -> ColumnElement[bool]:
        """The condition on a column with a session's id: whoever sees a session sees what belongs to it."""
        if self.sees_all:
            return true()
        return session_id.in_(select(sessions.c.session_id).where(self.may_see(sessions)))

    def sees_many_sessions(self, connection: Connection) -> bool:
        """Whether a list finds what the caller sees sooner by looking at one after the other than by going
        through all of the caller's sessions."""
        if self.sees_all:
            return True
        seen = select(sessions.c.session_id).where(self.may_see(sessions)).limit(MANY_SESSIONS).subquery()
        return connection.execute(select(func.count()).select_from(seen)).scalar_one() == MANY_SESSIONS

    def may_see_one_session(self, session_id: ColumnElement[str]) -> ColumnElement[bool]:
        """As `may_see_session`, and the database looks at each row's session by itself."""
        if self.sees_all:
            return true()
        return exists().where(sessions.c.session_id == session_id, self.may_see(sessions))

    def named(self, owner: str | None) -> str:
        """Whose object a call means that may name an owner.

        Raises:
            NotFound: another's, which nobody but an administrator reaches by name.
        """
        if owner is None or owner == self.owner:
            return self.owner
        if not self.sees_all:
            raise NotFound("owner", owner)
        return owner

    def own_first(self, table: Table) -> ColumnElement[bool]:
        """Orders one's own before what is shared."""
        return table.c.owner != self.owner


THE_ADMINISTRATOR: Final = Caller(ADMINISTRATOR, sees_all=True)


def find_owner(connection: Connection, owner: str) -> Caller:
    """Somebody of whom no call is at hand, such as an execution's owner; sees no more than a user would."""
    earlier = select(tokens.c.token_id).where(tokens.c.owner == owner, tokens.c.sees_earlier)
    return Caller(owner, sees_earlier=connection.execute(earlier.limit(1)).first() is not None)
