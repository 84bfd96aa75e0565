"""HTTP headers in the manifest: of MCP servers at a URL, of APIs, of searches."""

import re
from typing import Annotated, Final, TypeAlias

from pydantic import AfterValidator

from stigmer_contract.manifest_parts import SecretReference

_HEADER_NAME: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,100}")  # RFC 9110, section 5.6.2


def _check_header(name: str) -> str:
    if not _HEADER_NAME.fullmatch(name):
        raise ValueError(f"{name!r} is not the name of an HTTP header")
    return name


def _check_header_value(value: str | SecretReference) -> str | SecretReference:
    if isinstance(value, str) and re.search(r"[\x00-\x08\x0a-\x1f\x7f]", value):
        raise ValueError("a header cannot hold control characters")
    return value


HeaderName: TypeAlias = Annotated[str, AfterValidator(_check_header)]
HeaderValue: TypeAlias = Annotated[str | SecretReference, AfterValidator(_check_header_value)]
