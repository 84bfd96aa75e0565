"""Half characters in a model's or a tool's text, which no log and no request can hold.

A stream may cut an emoji in the middle of its two UTF-16 halves; halves that meet are joined, and one that is
alone becomes U+FFFD.
"""

from pydantic import JsonValue


def mend(text: str) -> str:
    """The text as one that can be encoded."""
    if text.isascii():
        return text
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text


def mend_json(value: JsonValue) -> JsonValue:
    """The same for every text in a JSON value, keys included."""
    match value:
        case str():
            return mend(value)
        case list():
            return [mend_json(item) for item in value]
        case dict():
            return {mend(key): mend_json(item) for key, item in value.items()}
        case _:
            return value
