"""Values of JSON by how deep they are nested, without recursion. Pure."""

from collections.abc import Iterator

from pydantic import JsonValue


def levels_of(value: JsonValue) -> Iterator[list[JsonValue]]:
    """The value itself, then what it holds, then what that holds, and so on."""
    level = [value]
    while level:
        yield level
        inner = list[JsonValue]()
        for each in level:
            if isinstance(each, dict):
                inner += each.values()
            elif isinstance(each, list):
                inner += each
        level = inner
