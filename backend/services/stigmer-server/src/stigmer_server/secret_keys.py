"""The keys that secrets are encrypted with, in a file beside the database. Knows no secrets.

The file holds one key a line, as base64 of 32 bytes. The first encrypts; all decrypt. It is read anew for
every use, which is rare, so that a rotation by another process needs no restart.
"""

import base64
import binascii
import contextlib
import hashlib
import os
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from stigmer_contract.api import ADMINISTRATOR
from stigmer_server.errors import SecretsKeyUnusable

KEY_BYTES: Final = 32
"""AES-256."""
_NONCE_BYTES: Final = 12
SEALING_BYTES: Final = _NONCE_BYTES + 16
"""By how much a ciphertext is longer than the value: nonce and tag."""
"""NIST SP 800-38D, section 8.2: random ones are safe for 2^32 encryptions with a key."""


@dataclass(frozen=True)
class SecretKey:
    """One key."""

    octets: bytes = field(repr=False)

    @property
    def key_id(self) -> str:
        """Names the key in the database, and tells nothing of it."""
        return hashlib.sha256(b"stigmer secrets key" + self.octets).hexdigest()[:16]

    def encrypt(self, name: str, owner: str, value: str) -> bytes:
        """The value, bound to the secret's name and owner: a row under others does not decrypt."""
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        nonce = secrets.token_bytes(_NONCE_BYTES)
        return nonce + AESGCM(self.octets).encrypt(nonce, value.encode(), _bound_to(name, owner))

    def decrypt(self, name: str, owner: str, ciphertext: bytes) -> str:
        """The value again.

        Raises:
            SecretsKeyUnusable: this is not the key, or the row is not what was written.
        """
        from cryptography.exceptions import InvalidTag
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        nonce, sealed = ciphertext[:_NONCE_BYTES], ciphertext[_NONCE_BYTES:]
        try:
            return AESGCM(self.octets).decrypt(nonce, sealed, _bound_to(name, owner)).decode()
        except (InvalidTag, ValueError) as error:
            raise SecretsKeyUnusable(f"secret {name!r} cannot be decrypted: it was changed") from error


class SecretKeyFile:
    """The file with the keys."""

    def __init__(self, path: Path, *, may_create: bool) -> None:
        """`may_create`: whether a missing file is made, which only its only user may do."""
        self._path = path
        self._may_create = may_create

    def read(self) -> list[SecretKey]:
        """The keys, the one that encrypts first; empty where there is no file yet.

        Raises:
            SecretsKeyUnusable: the file cannot be read, or holds something else.
        """
        try:
            lines = self._path.read_text(encoding="ascii").split()
        except FileNotFoundError:
            return []
        except (OSError, UnicodeDecodeError) as error:
            raise self._unusable(_reason(error)) from error
        keys = [SecretKey(self._parse(line, number)) for number, line in enumerate(lines, 1)]
        if not keys:
            raise self._unusable("it is empty")
        return keys

    def create(self) -> SecretKey:
        """The first key, written down.

        Raises:
            SecretsKeyUnusable: the file is not this server's to make, or cannot be made.
        """
        if not self._may_create:
            raise self._unusable("there is no such file")
        key = new_key()
        self.write([key])
        return key

    def write(self, keys: Sequence[SecretKey]) -> None:
        """Replace the file, whole and on disk.

        Raises:
            SecretsKeyUnusable: it cannot be written.
        """
        text = "".join(f"{base64.b64encode(key.octets).decode('ascii')}\n" for key in keys)
        new = self._path.with_name(f".{self._path.name}.{secrets.token_hex(8)}")
        try:
            descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
            with os.fdopen(descriptor, "w", encoding="ascii") as stream:
                stream.write(text)
                stream.flush()
                os.fsync(descriptor)
            new.replace(self._path)
            _sync_directory(self._path.parent)
        except OSError as error:
            raise self._unusable(_reason(error)) from error
        finally:
            with contextlib.suppress(OSError):
                new.unlink(missing_ok=True)

    def _parse(self, line: str, number: int) -> bytes:
        try:
            octets = base64.b64decode(line, validate=True)
        except binascii.Error:
            octets = b""
        if len(octets) != KEY_BYTES:
            raise self._unusable(f"line {number} is not base64 of {KEY_BYTES} bytes")
        return octets

    def _unusable(self, reason: str) -> SecretsKeyUnusable:
        return SecretsKeyUnusable(
            f"could not use the secrets' key file {str(self._path)!r}: {reason}",
            "restore the file, or set STIGMER_SECRETS_KEY_FILE; `openssl rand -base64 32` makes a key",
        )


def new_key() -> SecretKey:
    """A fresh key."""
    return SecretKey(secrets.token_bytes(KEY_BYTES))


def _bound_to(name: str, owner: str) -> bytes:
    """The administrator's are bound to their names alone, as all were before there were owners."""
    return (name if owner == ADMINISTRATOR else f"{name}\n{owner}").encode()


def _reason(error: OSError | UnicodeDecodeError) -> str:
    return (error.strerror or str(error)) if isinstance(error, OSError) else "it is not text"


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
