"""Values that must never be found where they do not belong, and the search for them in every spelling."""

import base64
import json
import secrets
from collections.abc import Iterable, Mapping
from pathlib import Path
from urllib.parse import quote


def new_canary() -> str:
    """A value that stands nowhere by chance, with characters that encodings change."""
    return f"canary/{secrets.token_hex(8)}+{secrets.token_hex(8)}=&"


def spellings(value: str) -> set[bytes]:
    """How programs may have written the value, base64 at each alignment."""
    octets = value.encode()
    texts = {
        value,
        json.dumps(value)[1:-1],
        quote(value),
        quote(value, safe=""),
        octets.hex(),
        octets.hex().upper(),
    }
    for lead in range(3):
        encoded = base64.b64encode(bytes(lead) + octets).decode()
        core = encoded[-(-8 * lead // 6) : 8 * (lead + len(octets)) // 6]
        texts |= {core, core.replace("+", "-").replace("/", "_")}
    return {text.encode() for text in texts} | {value.encode("utf-16-le")}


def find_canaries(content: bytes, canaries: Mapping[str, str]) -> list[str]:
    """The names of those that the content holds in any spelling, also across line breaks."""
    flat = content.replace(b"\r", b"").replace(b"\n", b"").replace(b"\\n", b"")
    return sorted(
        name
        for name, value in canaries.items()
        if any(spelling in content or spelling in flat for spelling in spellings(value))
    )


def find_canaries_in_files(
    folder: Path, canaries: Mapping[str, str], *, but: Iterable[Path] = ()
) -> dict[str, list[str]]:
    """By path relative to the folder the names of the canaries in that file; only files with any."""
    left_out = tuple(but)
    found = {
        str(file.relative_to(folder)): find_canaries(file.read_bytes(), canaries)
        for file in folder.rglob("*")
        if file.is_file() and not any(file.is_relative_to(one) for one in left_out)
    }
    return {name: names for name, names in found.items() if names}
