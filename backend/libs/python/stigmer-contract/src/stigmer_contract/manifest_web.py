"""The manifest's `web`: which pages of the web an agent may read, and where it searches."""

import re
from fnmatch import fnmatchcase
from typing import Annotated, Final

from pydantic import AfterValidator, Field

from stigmer_contract.manifest_headers import HeaderName, HeaderValue
from stigmer_contract.manifest_openapi import check_server
from stigmer_contract.manifest_parts import ManifestPart, SecretReference, secrets_among, unique

_HOST: Final = re.compile(r"(\*|[a-z0-9*]([a-z0-9*.-]{0,251}[a-z0-9*])?)")


def _check_host(host: str) -> str:
    if not _HOST.fullmatch(host):
        raise ValueError(f"{host!r} is not a host such as example.com or *.example.com, in lower case")
    return host


class WebSearch(ManifestPart):
    """A search engine that answers as SearXNG does."""

    url: Annotated[str, AfterValidator(check_server)] = Field(
        max_length=2048, examples=["https://searx.example/search"]
    )
    """Address that is asked with `?q=…&format=json`, and answers with JSON: `results`, each with `title`,
    `url` and `content`."""
    headers: dict[HeaderName, HeaderValue] = Field(default_factory=dict[str, str | SecretReference])
    """HTTP headers of each search: texts, and secrets as `{secret: NAME}`."""


class Web(ManifestPart):
    """What the toolset `web` may do."""

    hosts: Annotated[list[Annotated[str, AfterValidator(_check_host)]], AfterValidator(unique)] | None = (
        Field(default=None, min_length=1, max_length=256, examples=[["docs.example.com", "*.example.org"]])
    )
    """Hosts whose pages may be read, with `*` for any text; left out: all public ones."""
    search: WebSearch | None = None
    """Where the tool `search_web` asks; left out: there is no such tool."""

    @property
    def secret_names(self) -> set[str]:
        """The secrets that searches carry."""
        return set() if self.search is None else secrets_among(self.search.headers.values())

    def admits(self, host: str) -> bool:
        """Whether pages of a host may be read."""
        name = host.lower().rstrip(".")
        return self.hosts is None or any(fnmatchcase(name, pattern) for pattern in self.hosts)
