"""Masks secrets in what is shown of files: snapshots hold them as they are.

Knows the keys of the configuration, and texts that look like keys of well-known services. What people store
on a server is not known here: only its runners see it.
"""

import re
from typing import Final

from stigmer_cli.config import Configuration, Secret, settings_by_field

MIN_CHARACTERS: Final = 8
"""A shorter value is rather a word."""
_LOOKS_SECRET: Final = re.compile(
    r"\b(?:sk-[A-Za-z0-9_-]{16,}|gh[pousr]_[A-Za-z0-9]{20,}|github_pat_[A-Za-z0-9_]{20,}|glpat-[A-Za-z0-9_-]{16,}"
    r"|xox[abprs]-[A-Za-z0-9-]{10,}|(?:AKIA|ASIA)[0-9A-Z]{16}|AIza[A-Za-z0-9_-]{30,}|hf_[A-Za-z0-9]{20,}"
    r"|npm_[A-Za-z0-9]{20,}|pypi-[A-Za-z0-9_-]{20,}|eyJ[A-Za-z0-9_-]{10,}\.eyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]*)"
)
_KEY_BLOCK: Final = re.compile(
    r"(-----BEGIN [A-Z ]*PRIVATE KEY-----).*?(-----END [A-Z ]*PRIVATE KEY-----|\Z)", re.DOTALL
)


class SecretMask:
    """Masks texts."""

    def __init__(self, configuration: Configuration) -> None:
        """Takes the values of all settings that are secrets."""
        values = {
            setting.key: getattr(configuration, field)
            for field, setting in settings_by_field().items()
            if setting.is_secret
        } | configuration.endpoint_keys
        self._known = {
            value.reveal(): f"[secret {name}]"
            for name, value in values.items()
            if isinstance(value, Secret) and len(value.reveal()) >= MIN_CHARACTERS
        }

    def mask(self, text: str) -> str:
        """The text without them."""
        for value, name in self._known.items():
            text = text.replace(value, name)
        return _LOOKS_SECRET.sub("[secret]", _KEY_BLOCK.sub(r"\1[secret]\2", text))
