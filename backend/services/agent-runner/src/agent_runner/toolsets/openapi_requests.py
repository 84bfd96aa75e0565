"""Writes the request of an operation from a tool's arguments (OpenAPI 3.1.1, section 4.8.12). Pure."""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final, cast
from urllib.parse import quote, unquote, urlencode

from pydantic import JsonValue

from stigmer_contract.openapi_operations import KEPT_HEADERS, Operation, Parameter

_TEMPLATE: Final = re.compile(r"\{([^{}]*)\}")
_HEADER_VALUE: Final = re.compile(r"[\t\x20-\x7e]*")  # RFC 9110, section 5.5, without what is obsolete
_STEPS: Final = (".", "..")


class ArgumentsUnfit(ValueError):
    """The arguments cannot be written as a request; says why, for a model."""


@dataclass(frozen=True)
class WrittenRequest:
    """What is to be sent."""

    url: str
    headers: Mapping[str, str]
    content: bytes


def write_request(server: str, operation: Operation, arguments: Mapping[str, JsonValue]) -> WrittenRequest:
    """The request.

    Raises:
        ArgumentsUnfit: an argument has no place in it.
    """
    paths, queries, headers, cookies = dict[str, str](), list[str](), dict[str, str](), list[str]()
    for parameter in operation.parameters:
        if parameter.argument not in arguments:
            continue
        value = arguments[parameter.argument]
        match parameter.location:
            case "path":
                paths[parameter.name] = _in_path(parameter, value)
            case "query":
                queries += _in_query(parameter, value)
            case "header":
                headers[parameter.name] = _in_header(parameter, value)
            case "cookie":
                cookies += _in_query(parameter, value)
    if cookies:
        headers["Cookie"] = "; ".join(cookies)
    path = _TEMPLATE.sub(lambda found: paths.get(found[1], ""), operation.path)
    # Not as the document wrote it but as it came to be: an argument must not lead to another operation.
    if any(unquote(step) in _STEPS for step in path.split("/")):
        raise ArgumentsUnfit("a part of the path cannot be '.' or '..'")
    url = server + path + (f"?{'&'.join(queries)}" if queries else "")
    content, media_type = _content(operation, arguments)
    if media_type is not None:
        headers["Content-Type"] = media_type
    return WrittenRequest(url, headers, content)


def _in_path(parameter: Parameter, value: JsonValue) -> str:
    text = _joined(parameter, value)
    if not text:
        raise ArgumentsUnfit(f"{parameter.argument!r} cannot be empty: it is a part of the path")
    match parameter.style:
        case "label":
            return f".{text}"
        case "matrix":
            if isinstance(value, dict) and parameter.explode:
                return ";" + text.replace(",", ";")
            return f";{_quoted(parameter.name)}={text}"
        case _:
            return text


def _in_query(parameter: Parameter, value: JsonValue) -> list[str]:
    name = _quoted(parameter.name)
    if parameter.is_json or not isinstance(value, dict | list):
        return [f"{name}={_joined(parameter, value)}"]
    if isinstance(value, list):
        items = [_quoted(_text(each)) for each in value]
        if parameter.explode:
            return [f"{name}={item}" for item in items]
        between = {"spaceDelimited": "%20", "pipeDelimited": "%7C"}.get(parameter.style, ",")
        return [f"{name}={between.join(items)}"] if items else []
    if parameter.style == "deepObject":
        return [f"{name}%5B{_quoted(key)}%5D={_quoted(_text(each))}" for key, each in value.items()]
    if parameter.explode:
        return [f"{_quoted(key)}={_quoted(_text(each))}" for key, each in value.items()]
    return [f"{name}={_joined(parameter, value)}"]


def _in_header(parameter: Parameter, value: JsonValue) -> str:
    if parameter.name.lower() in KEPT_HEADERS:
        raise ArgumentsUnfit(f"the header {parameter.name!r} is not the tool's to set")
    if isinstance(value, dict | list) and not parameter.is_json:
        text = ",".join(_pieces(value, explode=parameter.explode))
    else:
        text = _text(value)
    if not _HEADER_VALUE.fullmatch(text):
        raise ArgumentsUnfit(f"{parameter.argument!r} is for a header: it can hold plain ASCII alone")
    return text.strip()


def _joined(parameter: Parameter, value: JsonValue) -> str:
    if isinstance(value, dict | list) and not parameter.is_json:
        return ",".join(_quoted(piece, keep="=") for piece in _pieces(value, explode=parameter.explode))
    return _quoted(json.dumps(value) if parameter.is_json else _text(value))


def _pieces(value: "dict[str, JsonValue] | list[JsonValue]", *, explode: bool) -> Iterator[str]:
    if isinstance(value, list):
        yield from (_text(each) for each in value)
        return
    for key, each in value.items():
        if explode:
            yield f"{key}={_text(each)}"
        else:
            yield from (key, _text(each))


def _quoted(text: str, keep: str = "") -> str:
    return quote(text.encode("utf-8", "surrogatepass"), safe=keep)


def _text(value: JsonValue) -> str:
    return value if isinstance(value, str) else "" if value is None else json.dumps(value, ensure_ascii=False)


def _content(operation: Operation, arguments: Mapping[str, JsonValue]) -> tuple[bytes, str | None]:
    body = operation.body
    if body is None or body.argument not in arguments:
        return b"", None
    value = arguments[body.argument]
    if body.media_type == "application/x-www-form-urlencoded":
        fields = cast("dict[str, JsonValue]", value) if isinstance(value, dict) else None
        if fields is None:
            raise ArgumentsUnfit(f"{body.argument!r} must be an object: it is sent as a form")
        pairs = [
            (name, _text(each))
            for name, held in fields.items()
            for each in (held if isinstance(held, list) else [held])
        ]
        return urlencode(pairs, errors="surrogatepass").encode("ascii"), body.media_type
    if body.media_type.startswith("text/"):
        return _text(value).encode("utf-8", "replace"), f"{body.media_type}; charset=utf-8"
    return json.dumps(value, ensure_ascii=False).encode("utf-8", "replace"), body.media_type
