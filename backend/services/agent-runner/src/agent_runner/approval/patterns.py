"""Patterns of rules: `*` is any text, `?` any character, all else is itself. Matched in linear time. Pure."""

import functools

from agent_runner.linear_patterns import LinearPattern, compile_pattern, escape_literal


@functools.lru_cache(maxsize=1024)
def compile_text_pattern(pattern: str) -> LinearPattern:
    """What tells whether a whole text matches."""
    pieces = {"*": ".*", "?": "."}
    return compile_pattern("".join(pieces.get(c) or escape_literal(c) for c in pattern), dot_is_any=True)


def matches(pattern: str, text: str) -> bool:
    """Whether all of the text matches."""
    try:
        return compile_text_pattern(pattern).fullmatch(text) is not None
    except UnicodeEncodeError:
        return False
