"""What a model calls a server's tools by: `server__tool`, in a form that every provider takes. Pure."""

import hashlib
import re
from collections.abc import Iterable
from typing import Final

MAX_NAME_CHARACTERS: Final = 64
"""OpenAI's and Gemini's; Anthropic takes 128."""
_PLAIN: Final = re.compile(r"[A-Za-z][A-Za-z0-9_-]*")
_LOOKS_MAPPED: Final = re.compile(r".*_[0-9a-f]{10}")
_DIGEST_CHARACTERS: Final = 10


def model_name(server: str, tool: str) -> str:
    """The name of a server's tool for a model; the same always, and never that of another tool.

    A server's name holds no `_`, so where it ends is plain. What does not fit ends with a digest instead, and
    so does what looks as if it did.
    """
    name = f"{server}__{tool}"
    if _PLAIN.fullmatch(name) and len(name) <= MAX_NAME_CHARACTERS and not _LOOKS_MAPPED.fullmatch(name):
        return name
    return _mapped(name, "mcp_")


def property_names(names: Iterable[str]) -> dict[str, str]:
    """The arguments' own names by what a model calls them; only those that are called otherwise."""
    found = dict[str, str]()
    for name in names:
        if not _PLAIN.fullmatch(name.lstrip("_") or "x") or len(name) > MAX_NAME_CHARACTERS:
            found[_mapped(name, "argument_")] = name
    return found


def _mapped(name: str, prefix: str) -> str:
    digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:_DIGEST_CHARACTERS]
    plain = re.sub(r"[^A-Za-z0-9_-]+", "_", name)
    if not plain[:1].isalpha():
        plain = f"{prefix}{plain.lstrip('_')}"
    return f"{plain[: MAX_NAME_CHARACTERS - _DIGEST_CHARACTERS - 1]}_{digest}"
