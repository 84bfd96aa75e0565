"""The manifest's `openapi`: operations of HTTP APIs as tools, by documents that describe them."""

import re
from fnmatch import fnmatchcase
from typing import Annotated, Final

from pydantic import AfterValidator, Field, model_validator

from stigmer_contract.isolation_words import Network
from stigmer_contract.manifest_headers import HeaderName, HeaderValue
from stigmer_contract.manifest_parts import (
    DNS_LABEL,
    ManifestPart,
    SecretReference,
    ToolsetName,
    secrets_among,
    unique,
)
from stigmer_contract.manifest_scripts import PACK_PATTERN, PackReference

MAX_DOCUMENTS: Final = 32
_SERVER: Final = re.compile(r"https?://[^\s/?#@\x00-\x1f\x7f]+(/[^\s?#\x00-\x1f\x7f]*)?")


def check_server(url: str) -> str:
    """The address that paths of operations are added to.

    Raises:
        ValueError: it is none.
    """
    if not _SERVER.fullmatch(url):
        raise ValueError(f"{url!r} is not an address such as https://api.example.com/v1")
    return url.rstrip("/")


_Patterns = Annotated[
    list[Annotated[str, Field(min_length=1, max_length=256)]],
    Field(max_length=256),
    AfterValidator(unique),
]


class OpenApi(ManifestPart):
    """An HTTP API whose operations are tools of the agent."""

    name: ToolsetName = Field(pattern=DNS_LABEL, examples=["shop"])
    """Name of the API, unique in the agent; the model knows its tools as `name__operation`."""
    document: str | None = Field(
        default=None,
        min_length=1,
        max_length=2048,
        examples=["./shop.yaml", "https://shop.example/openapi.json"],
    )
    """OpenAPI 3.0 or 3.1 in YAML or JSON: a file relative to the manifest, or a URL that is fetched by
    `stigmer apply`."""
    digest: str | None = Field(default=None, pattern=PACK_PATTERN)
    """`sha256:…` of the document; another one is then refused."""
    server: Annotated[str, AfterValidator(check_server)] | None = Field(
        default=None, max_length=2048, examples=["https://api.example.com/v1"]
    )
    """Address that the operations' paths are added to; left out: the first that the document names."""
    operations: _Patterns | None = Field(default=None, min_length=1, examples=[["get*", "GET /orders/*"]])
    """The operations that the agent gets, by their `operationId` or by method and path, with `*` for any
    text; left out: all of them."""
    exclude: _Patterns = Field(default_factory=list[str])
    """Operations that the agent does not get, in the same form."""
    headers: dict[HeaderName, HeaderValue] = Field(default_factory=dict[str, str | SecretReference])
    """HTTP headers of each request: texts, and secrets as `{secret: NAME}`. The agent cannot change them."""
    read_only: _Patterns = Field(default_factory=list[str])
    """Operations that change nothing though their method says that they may, such as a search by POST."""
    idempotent: _Patterns = Field(default_factory=list[str])
    """Operations that may be asked for once more where nobody knows what became of a request."""
    pack: PackReference | None = None
    """The operations as they were read from the document; written by `stigmer apply`."""

    @property
    def secret_names(self) -> set[str]:
        """The secrets that its requests carry."""
        return secrets_among(self.headers.values())

    @property
    def network(self) -> Network:
        """What its requests need, in the words of what commands may reach."""
        return "web" if self.server is not None and self.server.startswith("https://") else "all"

    def offers(self, operation: str, method: str, path: str) -> bool:
        """Whether the agent gets an operation."""
        wanted = self.operations is None or matches(self.operations, operation, method, path)
        return wanted and not matches(self.exclude, operation, method, path)

    @model_validator(mode="after")
    def _is_found(self) -> "OpenApi":
        if self.document is None and (self.pack is None or self.server is None):
            raise ValueError("name a document; or server and pack together")
        if self.document is not None and "\0" in self.document:
            raise ValueError("the document's path cannot hold a null byte")
        return self


def matches(patterns: list[str], operation: str, method: str, path: str) -> bool:
    """Whether one of the patterns means the operation."""
    texts = (operation, f"{method.upper()} {path}")
    return any(fnmatchcase(text, pattern) for pattern in patterns for text in texts)
