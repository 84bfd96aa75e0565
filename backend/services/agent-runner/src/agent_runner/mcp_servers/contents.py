"""What a call led to, in the words of pydantic-ai's tools: texts, values, files, links."""

import base64
import binascii
import json
from collections.abc import Mapping
from typing import Any, Final, cast

from pydantic import JsonValue
from pydantic_ai.messages import BinaryContent

MAX_TEXT_CHARACTERS: Final = 50_000
"""What one call may add to the conversation, as with commands."""
MAX_FILE_BYTES: Final = 5 << 20
MAX_FILES: Final = 20
LEFT_OUT: Final = "\n[{} further characters are left out]"
_SHOWN_KINDS: Final = ("image/png", "image/jpeg", "image/gif", "image/webp", "audio/wav", "audio/mpeg")
_AUDIO: Final = {"audio/mp3": "audio/mpeg", "audio/x-wav": "audio/wav", "audio/wave": "audio/wav"}

Part = str | BinaryContent


def parts_of(result: Mapping[str, JsonValue]) -> list[Part]:
    """What the model is told, in order. Texts are bounded together, files by number and size."""
    content = result.get("content")
    parts = [_part(each) for each in (content if isinstance(content, list) else []) if isinstance(each, dict)]
    if "structuredContent" in result:
        structured = result["structuredContent"]
        if not any(isinstance(part, str) and _is_json_of(part, structured) for part in parts):
            parts.append(json.dumps(structured, ensure_ascii=False))
    return _bounded(parts)


def text_of(result: Mapping[str, JsonValue]) -> str:
    """All of it as text, for a call that failed."""
    return (
        "\n".join(part if isinstance(part, str) else f"[{part.media_type}]" for part in parts_of(result))
        or "the tool failed and said nothing"
    )


def _bounded(parts: list[Part]) -> list[Part]:
    kept, room, files = list[Part](), MAX_TEXT_CHARACTERS, 0
    for part in parts:
        if isinstance(part, str):
            kept.append(part[:room] + (LEFT_OUT.format(len(part) - room) if len(part) > room else ""))
            room = max(0, room - len(part))
        else:
            files += 1
            kept.append(part if files <= MAX_FILES else f"[{part.media_type}, left out: too many files]")
    return kept


def _is_json_of(text: str, value: JsonValue) -> bool:
    try:
        return json.loads(text) == value
    except (ValueError, RecursionError):
        return False


def _part(content: Mapping[str, Any]) -> Part:
    match content.get("type"):
        case "text":
            return str(content.get("text", ""))
        case "image" | "audio":
            return _file(str(content.get("data", "")), str(content.get("mimeType", "")))
        case "resource_link":
            title = content.get("title") or content.get("name") or ""
            about = content.get("description")
            return f"[link to {title!s}: {content.get('uri')!s}]" + (f" {about!s}" if about else "")
        case "resource":
            resource = cast("Mapping[str, Any]", content.get("resource") or {})
            if isinstance(resource.get("text"), str):
                return f"[{resource.get('uri')!s}]\n{resource['text']}"
            return _file(str(resource.get("blob", "")), str(resource.get("mimeType", "")))
        case _:
            return json.dumps(content, ensure_ascii=False)


def _file(data: str, media_type: str) -> Part:
    media_type = media_type.split(";")[0].strip().lower()
    media_type = _AUDIO.get(media_type, media_type)
    try:
        content = base64.b64decode(data, validate=False)
    except (binascii.Error, ValueError):
        return f"[{media_type or 'a file'}, left out: it is not valid base64]"
    if len(content) > MAX_FILE_BYTES:
        return f"[{media_type or 'a file'}, left out: {len(content)} bytes are too many]"
    if media_type not in _SHOWN_KINDS:
        if media_type.startswith("text/") or media_type == "application/json":
            return content.decode("utf-8", errors="replace")
        return f"[{media_type or 'a file'} of {len(content)} bytes, which models are not shown]"
    return BinaryContent(content, media_type=media_type)
