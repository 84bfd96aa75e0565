"""Secrets, encrypted in the database: kept for the tools of agents, and given to legs only.

Every change of key happens under one lock with every change of a secret, so that none is left behind
under a key that is gone.
"""

import logging
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from pydantic import SecretStr
from sqlalchemy import Connection, Row, func, select, text

from stigmer_contract.api import Page, SecretResource, SecretsKeyRotation
from stigmer_server.database import Database, insert_where_absent
from stigmer_server.errors import Conflict, NotFound, SecretsKeyUnusable
from stigmer_server.pages import decode_cursor, page_of
from stigmer_server.secret_keys import SecretKey, SecretKeyFile, new_key
from stigmer_server.tables import secrets

logger = logging.getLogger(__name__)

_LOCK: Final = text("LOCK TABLE secrets IN SHARE ROW EXCLUSIVE MODE")


class Secrets:
    """The secrets, by name."""

    def __init__(self, database: Database, key_file: SecretKeyFile) -> None:
        self._database = database
        self._key_file = key_file

    async def set(self, name: str, value: SecretStr) -> tuple[SecretResource, bool]:
        """Keep a value under a name, in the place of the one before.

        Returns:
            The secret, and whether it is new.

        Raises:
            SecretsKeyUnusable: it cannot be encrypted.
        """

        def work(connection: Connection) -> tuple[SecretResource, bool]:
            _lock(connection)
            key = self._encrypting_key(connection)
            now = datetime.now(UTC)
            sealed = {"key_id": key.key_id, "ciphertext": key.encrypt(name, value.get_secret_value())}
            values = {"name": name, **sealed, "created_at": now, "updated_at": now}
            is_new = insert_where_absent(connection, secrets, values)
            if not is_new:
                change = secrets.update().where(secrets.c.name == name)
                connection.execute(change.values(**sealed, updated_at=now))
            row = connection.execute(select(secrets).where(secrets.c.name == name)).one()
            return _resource(row), is_new

        return await self._database.write(work)

    async def list(self, limit: int, cursor: str | None) -> Page[SecretResource]:
        """Secrets by name, without their values."""
        after = "" if cursor is None else decode_cursor(cursor)

        def work(connection: Connection) -> list[SecretResource]:
            query = select(secrets).where(secrets.c.name > after).order_by(secrets.c.name).limit(limit + 1)
            return [_resource(row) for row in connection.execute(query)]

        return page_of(await self._database.read(work), limit, lambda secret: secret.name)

    async def delete(self, name: str) -> None:
        """Forget a secret.

        Raises:
            NotFound: there is none.
        """

        def work(connection: Connection) -> None:
            if connection.execute(secrets.delete().where(secrets.c.name == name)).rowcount == 0:
                raise NotFound("secret", name)

        await self._database.write(work)

    async def reveal(self, names: Sequence[str]) -> dict[str, SecretStr]:
        """The values of these secrets, by name, for a leg; without those that cannot be had."""
        if not names:
            return {}

        def work(connection: Connection) -> Sequence[Row[Any]]:
            return connection.execute(select(secrets).where(secrets.c.name.in_(names))).all()

        rows = await self._database.read(work)
        try:
            keys = {key.key_id: key for key in self._key_file.read()}
            return {row.name: SecretStr(_decrypt(row, keys)) for row in rows}
        except SecretsKeyUnusable as error:
            logger.error("%s; %s", error.detail, error.hint)
            return {}

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
            sealed = current.encrypt(row.name, _decrypt(row, by_id))
            change = secrets.update().where(secrets.c.name == row.name)
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
                "restore it, or delete these secrets with `stigmer secrets delete` and set them again",
            )
        return self._key_file.create()


def find_missing_secrets(connection: Connection, names: Sequence[str]) -> list[str]:
    """Those of the names under which nothing is kept, in their order."""
    if not names:
        return []
    known = set(connection.execute(select(secrets.c.name).where(secrets.c.name.in_(names))).scalars())
    return [name for name in names if name not in known]


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
    return key.decrypt(row.name, row.ciphertext)


def _resource(row: Row[Any]) -> SecretResource:
    return SecretResource(name=row.name, created_at=row.created_at, updated_at=row.updated_at)
