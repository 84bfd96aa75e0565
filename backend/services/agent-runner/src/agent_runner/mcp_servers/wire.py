"""Messages of a server as they come: lines, of which some are none, and answers that are mended. Pure.

What the SDK would refuse as a whole because of one odd part is passed over here, or made into what it takes.
"""

import json
from collections.abc import Iterator
from typing import Any, Final, cast

MAX_LINE_BYTES: Final = 32 << 20
"""A longer message is dropped, and who waits for it is told."""
_CONTENT_KINDS: Final = frozenset({"text", "image", "audio", "resource_link", "resource"})


class LineTooLong(Exception):
    """A server wrote more than `MAX_LINE_BYTES` without an end of line."""


class Lines:
    """Puts the pieces of a stream together to lines."""

    def __init__(self) -> None:
        self._rest = bytearray()

    def feed(self, chunk: bytes) -> Iterator[bytes]:
        """The lines that end in the piece.

        Raises:
            LineTooLong: one does not end.
        """
        start = len(self._rest)
        self._rest += chunk
        end = self._rest.find(b"\n", start)
        while end != -1:
            line = bytes(self._rest[:end]).strip()
            del self._rest[: end + 1]
            if line:
                yield line
            end = self._rest.find(b"\n")
        if len(self._rest) > MAX_LINE_BYTES:
            raise LineTooLong


def message_in(line: bytes) -> dict[str, Any] | None:
    """The message that a line is; None: it is none, such as what a program prints."""
    if not line.startswith(b"{"):
        return None
    try:
        value: Any = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(value, dict):
        return None
    message = cast("dict[str, Any]", value)
    if not ("method" in message or "result" in message or "error" in message):
        return None
    message["jsonrpc"] = "2.0"
    return mended(message)


def mended(message: dict[str, Any]) -> dict[str, Any]:
    """The message with what the SDK takes in the place of what it does not."""
    error = message.get("error")
    if error is not None and "method" not in message:
        fields = cast("dict[str, Any]", error) if isinstance(error, dict) else {"message": str(error)}
        code = fields.get("code")
        message["error"] = {
            "code": code if isinstance(code, int) else -32603,
            "message": str(fields.get("message", "the server gave no reason")),
            **({"data": fields["data"]} if "data" in fields else {}),
        }
        message.pop("result", None)
    result = message.get("result")
    if isinstance(result, dict):
        fields = cast("dict[str, Any]", result)
        content, tools = fields.get("content"), fields.get("tools")
        if isinstance(content, list) and "method" not in message:
            fields["content"] = [_content(each) for each in cast("list[Any]", content)]
        elif isinstance(content, str):
            fields["content"] = [{"type": "text", "text": content}]
        elif isinstance(content, dict):
            fields["content"] = [_content(content)]
        if isinstance(tools, list):
            mended_tools = [_tool(each) for each in cast("list[Any]", tools)]
            fields["tools"] = [each for each in mended_tools if each is not None]
        for name, address in (("resources", "uri"), ("resourceTemplates", "uriTemplate")):
            listed = fields.get(name)
            if isinstance(listed, list):
                described = [_described(each, address) for each in cast("list[Any]", listed)]
                fields[name] = [each for each in described if each is not None]
        if fields.get("nextCursor") is None:
            fields.pop("nextCursor", None)
    return message


def _content(part: Any) -> dict[str, Any]:
    fields = cast("dict[str, Any]", part) if isinstance(part, dict) else {"type": "?", "value": part}
    for name in ("annotations", "_meta"):
        if not isinstance(fields.get(name), dict):
            fields.pop(name, None)
    kind = fields.get("type")
    fits = kind in _CONTENT_KINDS
    match kind:
        case "text":
            fits = isinstance(fields.get("text"), str)
        case "image" | "audio":
            fits = isinstance(fields.get("data"), str) and isinstance(fields.get("mimeType"), str)
        case "resource_link":
            fits = isinstance(fields.get("uri"), str)
            fields.setdefault("name", fields.get("uri"))
        case "resource":
            resource = fields.get("resource")
            fits = isinstance(resource, dict) and isinstance(cast("Any", resource).get("uri"), str)
            fits = fits and any(isinstance(cast("Any", resource).get(key), str) for key in ("text", "blob"))
        case _:
            pass
    if fits:
        return fields
    return {"type": "text", "text": json.dumps(part, ensure_ascii=False)}


def _described(resource: Any, address: str) -> dict[str, Any] | None:
    """A resource, or a template of its address, as the SDK takes it; the rest is of no use to a model."""
    fields = cast("dict[str, Any]", resource) if isinstance(resource, dict) else {}
    if not isinstance(fields.get(address), str):
        return None
    texts = {name: fields.get(name) for name in (address, "name", "mimeType", "description")}
    return {"name": fields[address], **{name: text for name, text in texts.items() if isinstance(text, str)}}


def _tool(tool: Any) -> dict[str, Any] | None:
    """A tool as the SDK takes it; what it says of itself beyond what is used is left out where it is odd."""
    if not isinstance(tool, dict):
        return None
    fields = cast("dict[str, Any]", tool)
    name = fields.get("name")
    if not isinstance(name, str):
        return None
    schema = fields.get("inputSchema")
    schema = cast("dict[str, Any]", schema) if isinstance(schema, dict) else {}
    kept: dict[str, Any] = {"name": name, "inputSchema": {**schema, "type": "object"}}
    if isinstance(fields.get("description"), str):
        kept["description"] = fields["description"]
    hints = fields.get("annotations")
    if isinstance(hints, dict):
        kept["annotations"] = {
            key: value
            for key, value in cast("dict[str, Any]", hints).items()
            if (isinstance(value, bool) if key.endswith("Hint") else isinstance(value, str))
        }
    return kept
