"""Secrets, encrypted in the database: kept for the tools of agents, and given to legs only.

Every change of key happens under one lock with every change of a secret, so that none is left behind
under a key that is gone. Names are an owner's own: one's own secret comes before the shared one of its name.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final, TypeVar

from pydantic import SecretStr
from sqlalchemy import Connection, Row, and_, func, select, text, tuple_
from sqlalchemy.exc import IntegrityError

from stigmer_contract.api import (
    Page,
    SecretResource,
    SecretsKeyRotation,
    SetOwner,
    SharedWith,
)
from stigmer_server.database import Database, insert_where_absent
from stigmer_server.errors import Conflict, Forbidden, NotFound, SecretsKeyUnusable
from stigmer_server.owners import Caller, find_owner
from stigmer_server.pages import decode_name_cursor, name_cursor_key, page_of
from stigmer_server.secret_keys import SEALING_BYTES, SecretKey, SecretKeyFile, new_key
from stigmer_server.tables import secrets

logger = logging.getLogger(__name__)

ResultT = TypeVar("ResultT")

WEBHOOKS: Final = ":webhooks"
"""Owner of the secrets that messages are signed with: nobody's name, so that nobody reaches them."""
MCP_LOGINS: Final = ":mcp-logins"
"""Owner of what people's sign-ins at MCP servers led to; each is named after its person and its server."""
_OF_THE_SERVER: Final = (WEBHOOKS, MCP_LOGINS)
_LOCK: Final = text("LOCK TABLE secrets IN SHARE ROW EXCLUSIVE MODE")


class Secrets:
    """The secrets, by owner and name."""

    def __init__(self, database: Database, key_file: SecretKeyFile, model_keys: Sequence[str] = ()) -> None:
        """`model_keys` are the names of those that every leg is given for models' endpoints."""
        self._database = database
        self._key_file = key_file
        self._model_keys = model_keys

    async def set(
        self, name: str, value: SecretStr, caller: Caller, owner: str | None = None
    ) -> tuple[SecretResource, bool]:
        """Keep a value under a name of the caller's, in the place of the one before.

        Returns:
            The secret, and whether it is new.

        Raises:
            NotFound: the caller may not name this owner.
            SecretsKeyUnusable: it cannot be encrypted.
        """
        whose = caller.named(owner)

        def work(connection: Connection) -> tuple[SecretResource, bool]:
            _lock(connection)
            key = self._encrypting_key(connection)
            now = datetime.now(UTC)
            ciphertext = key.encrypt(name, whose, value.get_secret_value())
            sealed = {"key_id": key.key_id, "ciphertext": ciphertext, "updated_at": now}
            new = {"owner": whose, "name": name, "shared_with": SharedWith.NOBODY.value, "created_at": now}
            is_new = insert_where_absent(connection, secrets, new | sealed)
            if not is_new:
                connection.execute(secrets.update().where(_is(name, whose)).values(sealed))
            return _resource(connection.execute(select(secrets).where(_is(name, whose))).one()), is_new

        return await self._database.write(work)

    async def set_signing(self, name: str, value: SecretStr) -> None:
        """Keep what a webhook's messages are signed with.

        Raises:
            SecretsKeyUnusable: it cannot be encrypted.
        """
        await self.set(name, value, Caller(WEBHOOKS))

    async def forget_signing(self, name: str) -> None:
        """Forget it; one that is not there is fine."""
        await self._database.write(
            lambda connection: connection.execute(secrets.delete().where(_is(name, WEBHOOKS)))
        )

    async def change_own(
        self, whose: str, name: str, decide: Callable[[str | None], tuple[str | None, ResultT]]
    ) -> ResultT:
        """Look at a value of the server's own, and keep another one in its place, at once; None is none.

        `decide` may be called more than once, and only what it said last counts. A value whose key is gone
        is none to it, and stays until there is another one.

        Raises:
            SecretsKeyUnusable: it cannot be encrypted, or the key file cannot be read.
        """

        def work(connection: Connection) -> ResultT:
            _lock(connection)
            row = connection.execute(select(secrets).where(_is(name, whose))).one_or_none()
            keys = {key.key_id: key for key in self._key_file.read()}
            before = None if row is None else _decrypt_if_possible(row, keys)
            after, result = decide(before)
            if after is None:
                if before is not None:
                    connection.execute(secrets.delete().where(_is(name, whose)))
            elif after != before:
                key, now = self._encrypting_key(connection), datetime.now(UTC)
                ciphertext = key.encrypt(name, whose, after)
                sealed = {"key_id": key.key_id, "ciphertext": ciphertext, "updated_at": now}
                new = {
                    "owner": whose,
                    "name": name,
                    "shared_with": SharedWith.NOBODY.value,
                    "created_at": now,
                }
                if not insert_where_absent(connection, secrets, new | sealed):
                    connection.execute(secrets.update().where(_is(name, whose)).values(sealed))
            return result

        return await self._database.write(work)

    async def own(self, whose: str, prefix: str) -> dict[str, str]:
        """The server's own values whose names begin so, by the rest of the name.

        Without those whose key is gone.

        Raises:
            SecretsKeyUnusable: the key file cannot be read.
        """

        def work(connection: Connection) -> Sequence[Row[Any]]:
            begins = secrets.c.name.startswith(prefix, autoescape=True)
            return connection.execute(select(secrets).where(secrets.c.owner == whose, begins)).all()

        rows = await self._database.read(work)
        keys = {key.key_id: key for key in self._key_file.read()} if rows else {}
        values = {row.name.removeprefix(prefix): _decrypt_if_possible(row, keys) for row in rows}
        return {name: value for name, value in values.items() if value is not None}

    async def forget_own(self, whose: str, name: str) -> bool:
        """Forget a value of the server's own, whether its key is there or not; whether there was one."""
        return await self._database.write(
            lambda connection: connection.execute(secrets.delete().where(_is(name, whose))).rowcount > 0
        )

    async def list(self, caller: Caller, limit: int, cursor: str | None) -> Page[SecretResource]:
        """The secrets that the caller sees, by name and owner, without their values."""
        after = decode_name_cursor(cursor)
        key = tuple_(secrets.c.name, secrets.c.owner)

        def work(connection: Connection) -> list[SecretResource]:
            query = select(secrets).where(caller.may_see(secrets), key > tuple_(*after))
            query = query.where(secrets.c.owner.not_in(_OF_THE_SERVER))
            query = query.order_by(secrets.c.name, secrets.c.owner).limit(limit + 1)
            return [_resource(row) for row in connection.execute(query)]

        return page_of(
            await self._database.read(work), limit, lambda secret: name_cursor_key(secret.name, secret.owner)
        )

    async def set_owner(
        self, name: str, request: SetOwner, caller: Caller, owner: str | None = None
    ) -> SecretResource:
        """Give the secret that the name means to the caller to somebody.

        Raises:
            NotFound: there is none.
            Conflict: they have one of this name, or another one is shared under it.
            SecretsKeyUnusable: it cannot be encrypted for them.
        """

        def work(connection: Connection) -> SecretResource:
            _lock(connection)
            before = _find(connection, name, caller, owner)
            keys = self._key_file.read()
            value = _decrypt(before, {key.key_id: key for key in keys})
            whose = request.owner or before.owner
            changes = {
                "owner": whose,
                "shared_with": request.shared_with.value,
                "key_id": keys[0].key_id,
                "ciphertext": keys[0].encrypt(name, whose, value),
            }
            connection.execute(secrets.update().where(_is(name, before.owner)).values(changes))
            return _resource(connection.execute(select(secrets).where(_is(name, whose))).one())

        try:
            return await self._database.write(work)
        except IntegrityError as error:
            raise Conflict(
                f"the new owner has a secret {name!r} already, or another one is shared",
                "delete one of them first",
            ) from error

    async def delete(self, name: str, caller: Caller, owner: str | None = None) -> None:
        """Forget the secret that the name means to the caller.

        Raises:
            NotFound: there is none.
            Forbidden: it is shared, and not the caller's.
        """

        def work(connection: Connection) -> None:
            found = _find(connection, name, caller, owner)
            if found.owner != caller.owner and not caller.sees_all:
                raise Forbidden(f"secret {name!r} is shared: only its owner or an administrator deletes it")
            connection.execute(secrets.delete().where(_is(name, found.owner)))

        await self._database.write(work)

    async def reveal(self, names: Sequence[str], owner: str) -> dict[str, SecretStr]:
        """The values that these names mean to an execution's owner, for a leg of it.

        Without those that cannot be had.
        """
        if not names:
            return {}

        def work(connection: Connection) -> Sequence[Row[Any]]:
            caller = find_owner(connection, owner)
            query = select(secrets).where(secrets.c.name.in_(names), caller.is_given(secrets))
            # Its own come last, and so in the place of the shared ones.
            return connection.execute(query.order_by(caller.own_first(secrets).desc())).all()

        rows = {row.name: row for row in await self._database.read(work)}
        try:
            keys = {key.key_id: key for key in self._key_file.read()}
            return {name: SecretStr(_decrypt(row, keys)) for name, row in rows.items()}
        except SecretsKeyUnusable as error:
            logger.error("%s; %s", error.detail, error.hint)
            return {}

    async def reveal_model_keys(self, owner: str) -> Mapping[str, SecretStr]:
        """The values that this owner has for the keys of models' endpoints, by name."""
        return await self.reveal(self._model_keys, owner)

    async def rotate_key(self) -> SecretsKeyRotation:
        """Encrypt every secret with a new key, and forget the old ones.

        Cut off at any point, it leaves every secret readable; done again, it goes on. Where the key file
        cannot be written, whoever keeps it adds the new key as its first line before.

        Raises:
            SecretsKeyUnusable: a secret cannot be decrypted, so nothing was changed.
            Conflict: there is no new key.
        """
        is_ours = await self._database.write(self._add_key)
        reencrypted = await self._database.write(self._reencrypt)
        if is_ours:
            await self._database.write(self._forget_old_keys)
        return SecretsKeyRotation(reencrypted=reencrypted, old_keys_removed=is_ours)

    def _add_key(self, connection: Connection) -> bool:
        """Whether the key file is this server's to write."""
        _lock(connection)
        keys = self._key_file.read() or [self._key_file.create()]
        try:
            self._key_file.write([new_key(), *keys])
        except SecretsKeyUnusable as error:
            if len(keys) > 1:
                return False
            raise Conflict(
                f"there is no new key to change to: {error.detail}",
                "add the new key as the first line of the key file, keep the old one, and try again",
            ) from error
        return True

    def _reencrypt(self, connection: Connection) -> int:
        _lock(connection)
        keys = self._key_file.read()
        by_id, current = {key.key_id: key for key in keys}, keys[0]
        rows = connection.execute(select(secrets).where(secrets.c.key_id != current.key_id)).all()
        for row in rows:
            sealed = current.encrypt(row.name, row.owner, _decrypt(row, by_id))
            change = secrets.update().where(_is(row.name, row.owner))
            connection.execute(change.values(key_id=current.key_id, ciphertext=sealed))
        return len(rows)

    def _forget_old_keys(self, connection: Connection) -> None:
        _lock(connection)
        used = set(connection.execute(select(secrets.c.key_id).distinct()).scalars())
        current, *others = self._key_file.read()
        self._key_file.write([current, *(key for key in others if key.key_id in used)])

    def _encrypting_key(self, connection: Connection) -> SecretKey:
        keys = self._key_file.read()
        if keys:
            return keys[0]
        if connection.execute(select(func.count()).select_from(secrets)).scalar_one():
            raise SecretsKeyUnusable(
                "the secrets' key file is gone, and with it the secrets that are stored",
                "restore it, or delete these secrets with `stigmer secrets delete`, and sign-ins at MCP "
                "servers with `stigmer mcp logout`, and set them again",
            )
        return self._key_file.create()


def find_missing_secrets(connection: Connection, names: Sequence[str], caller: Caller) -> list[str]:
    """Those of the names that mean nothing to the caller, in their order."""
    if not names:
        return []
    query = select(secrets.c.name).where(secrets.c.name.in_(names), caller.is_given(secrets))
    known = set(connection.execute(query).scalars())
    return [name for name in names if name not in known]


def size_of_secrets(connection: Connection, names: Sequence[str], caller: Caller) -> int:
    """How many bytes the values that these names mean to the caller have in all; no key is needed."""
    if not names:
        return 0
    query = select(secrets.c.name, func.length(secrets.c.ciphertext))
    query = query.where(secrets.c.name.in_(names), caller.is_given(secrets))
    # One's own come last, and so in the place of the shared ones.
    rows = connection.execute(query.order_by(caller.own_first(secrets).desc())).all()
    sizes: dict[str, int] = {row[0]: row[1] for row in rows}
    return sum(sizes.values()) - SEALING_BYTES * len(sizes)


def _find(connection: Connection, name: str, caller: Caller, owner: str | None) -> Row[Any]:
    query = select(secrets).where(secrets.c.name == name)
    if owner is None:
        query = query.where(caller.is_given(secrets)).order_by(caller.own_first(secrets))
    else:
        query = query.where(caller.may_see(secrets), secrets.c.owner == owner)
    row = connection.execute(query.limit(1)).one_or_none()
    if row is None:
        raise NotFound("secret", name)
    return row


def _is(name: str, owner: str) -> Any:
    return and_(secrets.c.name == name, secrets.c.owner == owner)


def _lock(connection: Connection) -> None:
    """SQLite has one writer at a time as it is."""
    if connection.dialect.name == "postgresql":
        connection.execute(_LOCK)


def _decrypt(row: Row[Any], keys: Mapping[str, SecretKey]) -> str:
    key = keys.get(row.key_id)
    if key is None:
        raise SecretsKeyUnusable(
            f"secret {row.name!r} cannot be decrypted: its key {row.key_id} is not in the key file",
            "restore the key file, or set the secret again",
        )
    return key.decrypt(row.name, row.owner, row.ciphertext)


def _decrypt_if_possible(row: Row[Any], keys: Mapping[str, SecretKey]) -> str | None:
    try:
        return _decrypt(row, keys)
    except SecretsKeyUnusable as error:
        logger.error("%s; %s", error.detail, error.hint)
        return None


def _resource(row: Row[Any]) -> SecretResource:
    return SecretResource(
        name=row.name,
        created_at=row.created_at,
        updated_at=row.updated_at,
        owner=row.owner,
        shared_with=SharedWith(row.shared_with),
    )
