"""Which providers of models there are, and the endpoints that a person adds to them. Standard library only.

A model is `provider:name`, where provider is one of `PROVIDERS` or the name of an endpoint: a server with
OpenAI's Chat Completions API.
"""

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final, Literal, TypeAlias, cast
from urllib.parse import urlsplit

Provider: TypeAlias = Literal["openai", "anthropic", "ollama", "openai-compatible", "replay"]
PROVIDERS: Final[tuple[Provider, ...]] = ("openai", "anthropic", "ollama", "openai-compatible", "replay")

ENDPOINT_NAME: Final = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_BLOB: Final = re.compile(r"sha256:[0-9a-f]{64}")
_VARIABLE: Final = re.compile(r"[A-Z][A-Z0-9_]*")
_BY_SECRET: Final = "secret:"  # noqa: S105 - a mark before a name
_SECRET_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,252}")
"""As `manifest_parts.SECRET_NAME_PATTERN`."""
_HEADER: Final = re.compile(r"[-!#$%&'*+.^_`|~0-9A-Za-z]+")
"""RFC 9110, section 5.1."""
_HEADER_VALUE: Final = re.compile(r"[\t -~]*")
_KEY_HEADERS: Final = frozenset({"authorization", "x-api-key", "api-key", "proxy-authorization", "cookie"})
_NOT_KEYS: Final = ("STIGMER_", "TEMPORAL_")
"""Beginnings of variables whose secrets are for others than models."""
_FIELDS: Final = frozenset({"url", "key", "keyHeader", "headers"})
DEFAULT_KEY_HEADER: Final = "authorization"


@dataclass(frozen=True)
class ModelEndpoint:
    """A server with OpenAI's Chat Completions API, under a name of the person's."""

    name: str
    url: str
    """Base URL; may have a query, which each request gets."""
    key: str | None = None
    """The environment variable that holds the API key; None: no variable does."""
    key_secret: str | None = None
    """The secret of the execution's owner, kept by stigmer-server, that is the API key; None: none is."""
    key_header: str = DEFAULT_KEY_HEADER
    """The header that carries the key; `authorization` carries it as a bearer token."""
    headers: dict[str, str] = field(default_factory=dict[str, str], hash=False)
    """Further headers of each request; none of them a secret."""


def split_model(model: str) -> tuple[str, str]:
    """Split `provider:name`; the name may itself hold colons (`ollama:qwen3:8b`).

    Raises:
        ValueError: a part is missing, or the first cannot name a provider or an endpoint.
    """
    provider, colon, name = model.partition(":")
    if provider == "replay" and name.startswith("sha256:") and not _BLOB.fullmatch(name):
        raise ValueError(f"{model!r} names no cassette; a SHA-256 has 64 hexadecimal digits")
    if colon and name and ENDPOINT_NAME.fullmatch(provider):
        return provider, name
    raise ValueError(
        f"{model!r} is not a model; write provider:name, where provider is one of {', '.join(PROVIDERS)}, "
        "or an endpoint of `llm.endpoints`"
    )


def parse_endpoints(text: str) -> tuple[ModelEndpoint, ...]:
    """Read endpoints from JSON: `{"NAME": {"url": …, "key": …, "keyHeader": …, "headers": {…}}}`.

    The key is a variable's name, or `secret:NAME`.

    Raises:
        ValueError: with what is wrong, and with which of them.
    """
    try:
        value: object = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError("the value is no JSON; write {NAME: {url: …, key: VARIABLE}}") from error
    if not isinstance(value, dict):
        raise ValueError("the value is no mapping; write {NAME: {url: …, key: VARIABLE}}")
    return tuple(_parse_endpoint(name, each) for name, each in cast("dict[str, object]", value).items())


def _parse_endpoint(name: str, value: object) -> ModelEndpoint:
    if name in PROVIDERS:
        raise ValueError(f"{name!r} is a provider's name; choose another for the endpoint")
    if not ENDPOINT_NAME.fullmatch(name):
        raise ValueError(f"{name!r} cannot name an endpoint; use lower-case letters, digits and hyphens")
    if isinstance(value, str):
        value = {"url": value}
    if not isinstance(value, dict):
        raise ValueError(f"endpoint {name!r} is no mapping; write {{url: …, key: VARIABLE}}")
    fields = cast("dict[str, object]", value)
    unknown = sorted(fields.keys() - _FIELDS)
    if unknown:
        known = ", ".join(sorted(_FIELDS))
        raise ValueError(f"endpoint {name!r} has an unknown field {unknown[0]!r}; there are {known}")
    key, key_header = fields.get("key"), fields.get("keyHeader") or DEFAULT_KEY_HEADER
    secret = key.removeprefix(_BY_SECRET) if isinstance(key, str) and key.startswith(_BY_SECRET) else None
    if secret is not None:
        key = None
        if not _SECRET_NAME.fullmatch(secret):
            raise ValueError(f"endpoint {name!r}: `key: secret:NAME` needs the name of a secret")
    if key is not None and not (isinstance(key, str) and _VARIABLE.fullmatch(key)):
        # Not quoted: it may be the key itself.
        raise ValueError(
            f"endpoint {name!r}: `key` must name an environment variable, such as ACME_API_KEY, "
            "or a secret, such as secret:ACME_API_KEY"
        )
    if key is not None and key.startswith(_NOT_KEYS):
        raise ValueError(f"endpoint {name!r}: {key} is no key of a model's; name another variable")
    if not (isinstance(key_header, str) and _HEADER.fullmatch(key_header)):
        raise ValueError(f"endpoint {name!r}: `keyHeader` must be the name of an HTTP header")
    url, headers = _parse_url(name, fields.get("url")), _parse_headers(name, fields.get("headers"))
    return ModelEndpoint(name, url, key, secret, key_header.lower(), headers)


def _parse_url(name: str, value: object) -> str:
    try:
        split = urlsplit(value) if isinstance(value, str) else None
        valid = split is not None and split.scheme in ("http", "https") and bool(split.hostname)
        valid = valid and split is not None and (split.port or 1) > 0 and "@" not in split.netloc
    except ValueError:
        valid = False
    if not valid:
        raise ValueError(
            f"endpoint {name!r}: `url` must be a URL without a password, such as https://host/v1"
        )
    return cast("str", value).rstrip("/")


def _parse_headers(name: str, value: object) -> dict[str, str]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise ValueError(f"endpoint {name!r}: `headers` must be a mapping of names to values")
    headers: dict[str, str] = {}
    for header, content in cast("dict[str, object]", value).items():
        if header.lower() in _KEY_HEADERS:
            raise ValueError(f"endpoint {name!r}: header {header!r} carries a key; use `key` and `keyHeader`")
        if not (_HEADER.fullmatch(header) and isinstance(content, str) and _HEADER_VALUE.fullmatch(content)):
            raise ValueError(f"endpoint {name!r}: header {header!r} cannot be sent")
        headers[header.lower()] = content
    return headers


def written_endpoints(endpoints: Iterable[ModelEndpoint]) -> str:
    """The endpoints as JSON, as `parse_endpoints` reads it."""
    written: dict[str, dict[str, object]] = {}
    for endpoint in endpoints:
        fields: dict[str, object] = {"url": endpoint.url}
        if endpoint.key is not None:
            fields["key"] = endpoint.key
        if endpoint.key_secret is not None:
            fields["key"] = f"{_BY_SECRET}{endpoint.key_secret}"
        if endpoint.key_header != DEFAULT_KEY_HEADER:
            fields["keyHeader"] = endpoint.key_header
        if endpoint.headers:
            fields["headers"] = endpoint.headers
        written[endpoint.name] = fields
    return json.dumps(written)
