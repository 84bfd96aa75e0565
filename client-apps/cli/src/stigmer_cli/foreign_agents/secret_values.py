"""Tells values that are secrets from others, in files where people write both. Never shows one.

A value that is taken for a secret without being one costs a command; the other way round it would stand in a
manifest.
"""

import re
from typing import Final

from pydantic import JsonValue

from stigmer_cli.foreign_agents.foreign_documents import Fields

PLACEHOLDER: Final = "REPLACE-ME"
"""Stands where a secret was that cannot be carried over."""
MAX_LOOKED_AT: Final = 4096
"""Characters of a value; a longer one is taken for a secret."""
_REFERENCE: Final = re.compile(
    r"\$\{(?:env:|env\.|input:)?(?P<braced>[A-Za-z_][\w.-]*)(?::?-[^}]*)?\}|\$(?P<plain>[A-Za-z_]\w*)"
)
_SECRET_NAME: Final = re.compile(
    r"key|token|secret|passw|pwd|credential|auth|cookie|session|signature|private|(^|[_-])pat($|[_-])|dsn",
    re.IGNORECASE,
)
_SECRET_VALUE: Final = re.compile(
    r"(^|[=: ])(sk-|sk_|pk_|rk_|gh[pousr]_|github_pat_|glpat-|xox[abprs]-|AKIA|ASIA|AIza|eyJ|hf_|npm_|pypi-|"
    r"Bearer |Basic )|://[^/@\s]*:[^/@\s]*@|[?&;](api_?key|key|token|secret|password|sig)=",
    re.IGNORECASE,
)
_RANDOM: Final = re.compile(r"(?=[^\s]*\d)(?=[^\s]*[A-Za-z])[A-Za-z0-9+/=_-]{32,}")


def looks_secret(text: str) -> bool:
    """Whether a value is one by how it looks."""
    if len(text) > MAX_LOOKED_AT:
        return True
    return bool(_SECRET_VALUE.search(text)) or bool(_RANDOM.fullmatch(text))


def environment_of(fields: Fields | None, owner: str) -> dict[str, JsonValue]:
    """Variables or headers, by name; secrets become references, and are told.

    Args:
        fields: the mapping as the file has it.
        owner: whose they are, for names of secrets that have none.
    """
    found: dict[str, JsonValue] = {}
    for name in fields.value if fields else ():
        assert fields is not None
        value = fields.take(name)
        if isinstance(value, bool | int | float):
            value = str(value).lower() if isinstance(value, bool) else str(value)
        if not isinstance(value, str):
            fields.remark(name, "was not carried over: it is no text")
            continue
        whole = None if len(value) > MAX_LOOKED_AT else _REFERENCE.fullmatch(value)
        names_one = whole is None and len(value) <= MAX_LOOKED_AT and bool(_REFERENCE.search(value))
        if whole is not None:
            secret = _secret_name(whole["braced"] or whole["plain"])
        elif names_one or (value and _SECRET_NAME.search(name)) or looks_secret(value):
            # A header's name says little: many servers have an `Authorization`.
            secret = _secret_name(name if name.isupper() else f"{owner}_{name}".upper())
        else:
            found[name] = value
            continue
        found[name] = {"secret": secret}
        how = "set all of its value with" if names_one else "set it with"
        fields.remark(name, f"is a secret now; {how} `stigmer secrets set {secret}`")
    return found


def argument_of(fields: Fields, key: str, text: str) -> str:
    """An argument of a program; a secret in it is taken out, and told."""
    if looks_secret(text):
        fields.remark(
            key, f"an argument looks like a secret, and became {PLACEHOLDER}: hand it over in `env`"
        )
        return PLACEHOLDER
    if _REFERENCE.search(text):
        fields.remark(key, f"the argument {text!r} names a variable, which is not filled in")
    return text


def _secret_name(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9_]+", "_", text).strip("_")[:253] or "SECRET"
