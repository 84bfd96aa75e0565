"""The secrets that this process knows: its own keys, and for as long as a leg lasts those of the leg.

They are held in memory only, and masked wherever text leaves the process.
"""

from collections.abc import Generator, Mapping
from contextlib import contextmanager
from typing import Final

from pydantic import SecretStr

from agent_runner.masking import Masker
from agent_runner.settings import RunnerSettings, read_headers, secrets_of

OTLP_HEADERS: Final = "OTEL_EXPORTER_OTLP_HEADERS"
MIN_CREDENTIAL_CHARACTERS: Final = 12
"""A header's shorter value is rather a word, such as a tenant's name, that stands in other texts too."""


class SecretsInUse:
    """One for the process."""

    def __init__(self, settings: RunnerSettings) -> None:
        own = {name: value.get_secret_value() for name, value in secrets_of(settings).items()}
        if settings.otlp_headers is not None:
            # Beside the whole each credential in it; the masker looks for every line by itself.
            own[OTLP_HEADERS] = "\n".join([own[OTLP_HEADERS], *_credentials_in(own[OTLP_HEADERS])])
        self._own = own
        self._own_masker = Masker(own)
        self._leg_maskers: list[Masker] = []

    @contextmanager
    def held(self, secrets: Mapping[str, SecretStr], *, learns: bool = False) -> Generator[Masker]:
        """What masks a leg's texts; while it is held, the log as well.

        `learns`: further ones may be added to it.
        """
        if not secrets and not learns:
            yield self._own_masker
            return
        values = {name: value.get_secret_value() for name, value in secrets.items()}
        masker = Masker({**self._own, **values})
        self._leg_maskers.append(masker)
        try:
            yield masker
        finally:
            self._leg_maskers.remove(masker)

    def mask(self, text: str) -> str:
        """The text without any secret that is in use anywhere in the process: for the log."""
        for masker in [self._own_masker, *self._leg_maskers]:
            text = masker.mask(text)
        return text


def _credentials_in(headers: str) -> list[str]:
    """The values of HTTP headers, and what follows `Bearer` or another scheme in them."""
    values = read_headers(headers).values()
    credentials = [*values, *(value.rpartition(" ")[2] for value in values)]
    return [text for text in dict.fromkeys(credentials) if len(text) >= MIN_CREDENTIAL_CHARACTERS]
