"""Words of a shell command as the shell will see them, as far as that is known before it runs. Pure.

Each pattern takes time linear in the text, here and beside: while one is at work, the whole runner stands.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from tree_sitter import Node

_GLOB: Final = re.compile(r"[*?\[]")
_BRACES: Final = re.compile(r"\{(?:[^{}.,]|\.(?!\.))*+(?:,|\.\.)[^{}]*+\}", re.DOTALL)
_ESCAPE: Final = re.compile(r"\\(.)", re.DOTALL)
_ESCAPE_IN_QUOTES: Final = re.compile(r'\\([$`"\\\n])')
_ANSI_ESCAPE: Final = re.compile(
    r"\\(?:x(?P<hex>[0-9a-fA-F]{1,2})|x\{(?P<braced>[0-9a-fA-F]+)\}|u(?P<short>[0-9a-fA-F]{1,4})"
    r"|U(?P<long>[0-9a-fA-F]{1,8})|(?P<octal>[0-7]{1,3})|c(?P<control>.)|(?P<other>.))",
    re.DOTALL,
)
_ANSI_NAMED: Final = dict(zip("abeEfnrtv", "\a\b\x1b\x1b\f\n\r\t\v", strict=True))
_ANSI_STRING: Final = re.compile(r"\$'((?:[^'\\]|\\.)*)'", re.DOTALL)
_URL: Final = re.compile(r"(?<![\w+.])[a-z][a-z0-9+.]*+://[\w./@:%~+,-]*", re.IGNORECASE)
_BETWEEN_TOKENS: Final = re.compile(r"[^\w.+/@~-]+")
_QUOTING: Final = re.compile(r"[\\'\"]")


@dataclass(frozen=True)
class Word:
    """One word of a command."""

    text: str
    """Without quotes and escapes; of what is not literal, as it is written."""
    is_literal: bool = True
    """Whether the shell changes nothing about it."""
    is_single: bool = True
    """Whether it stays one word, whatever it becomes."""
    is_exact: bool = True
    """Whether it is literal and begins with no tilde."""


def read_word(node: Node) -> Word:
    """The word that a node of the tree is."""
    source = _source(node)
    match node.type:
        case "word" | "number" | "variable_name" | "test_operator" | "file_descriptor":
            return _bare(source)
        case "raw_string":
            return Word(source[1:-1])
        case "ansi_c_string":
            return Word(decode_ansi(source[2:-1]))
        case "string" | "translated_string":
            return _quoted(node, source)
        case "concatenation":
            return _concatenated(node)
        case "process_substitution":
            return Word(source, is_literal=False, is_exact=False)
        case _ if not node.is_named:
            return _bare(source)
        case _:
            return Word(source, is_literal=False, is_single=False, is_exact=False)


def _source(node: Node) -> str:
    return (node.text or b"").decode("utf-8", errors="replace")


def _bare(source: str) -> Word:
    unescaped = _ESCAPE.sub(lambda found: "" if found[1] == "\n" else found[1], source)
    plain = _ESCAPE.sub("", source)
    is_literal = not (_GLOB.search(plain) or _BRACES.search(plain)) or source == "["
    return Word(unescaped, is_literal, is_single=is_literal, is_exact=is_literal and "~" not in plain)


def _quoted(node: Node, source: str) -> Word:
    inner = node
    if node.type == "translated_string" and node.named_children:
        inner = node.named_children[0]
    body = source.removeprefix("$").removeprefix('"').removesuffix('"')
    if all(child.type == "string_content" for child in inner.named_children):
        # A lone `$` or backtick that the grammar passed over would make it something else.
        if re.search(r"(?<!\\)`|(?<!\\)\$[\w({@*#?$!-]", body):
            return Word(body, is_literal=False, is_single=False, is_exact=False)
        return Word(_ESCAPE_IN_QUOTES.sub(lambda found: "" if found[1] == "\n" else found[1], body))
    # "$@" and "${list[@]}" become several words.
    return Word(body, is_literal=False, is_single="@" not in body, is_exact=False)


def _concatenated(node: Node) -> Word:
    parts = [read_word(child) for child in node.children]
    # What stands in quotes cannot be a part of a brace expansion or a pattern.
    plain = "".join(
        "\0" if child.type in ("raw_string", "string", "ansi_c_string") else _ESCAPE.sub("\0", _source(child))
        for child in node.children
    )
    is_literal = (
        all(part.is_literal for part in parts) and not _BRACES.search(plain) and not _GLOB.search(plain)
    )
    is_single = all(part.is_single for part in parts) and (is_literal or not _BRACES.search(plain))
    return Word(
        "".join(part.text for part in parts),
        is_literal,
        is_single,
        is_exact=is_literal and all(part.is_exact for part in parts),
    )


def decode_ansi(text: str) -> str:
    """What stands between `$'` and `'` (Bash Reference Manual 5.2, 3.1.2.4)."""

    def decode(found: re.Match[str]) -> str:
        kind, value = found.lastgroup, found[found.lastgroup or 0]
        match kind:
            case "hex" | "braced" | "short" | "long":
                code = int(value, 16)
                return chr(code) if code < 0x110000 else "\ufffd"
            case "octal":
                return chr(int(value, 8) & 0xFF)
            case "control":
                return chr(ord(value) & 0x1F)
            case _:
                return _ANSI_NAMED.get(value, value)

    return _ANSI_ESCAPE.sub(decode, text)


def tokens(text: str) -> Iterator[str]:
    """What could be a program's name in a text, once quotes and escapes are undone: without its folder."""
    decoded = _ANSI_STRING.sub(lambda found: decode_ansi(found[1]), text)
    for piece in _BETWEEN_TOKENS.split(_URL.sub(" ", _QUOTING.sub("", decoded))):
        if name := piece.rpartition("/")[2]:
            yield name


def separated_tokens(text: str) -> Iterator[str]:
    """The same, where a quote ends a token: as in code of another language."""
    for piece in _BETWEEN_TOKENS.split(_URL.sub(" ", text)):
        if name := piece.rpartition("/")[2]:
            yield name
