"""Finds in a provider's error what it says, and how long to wait. What that means, `model_faults` knows."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final, cast

from agent_runner.models.event_stream import JsonObject

_NESTED: Final = (
    "error",
    "errors",
    "fault",
    "base_resp",
    "detail",
    "message",
    "response",
    "cause",
    "innererror",
)
_MESSAGES: Final = (
    "message",
    "msg",
    "detail",
    "error_msg",
    "status_msg",
    "faultstring",
    "error",
    "title",
    "reason",
)
_WORDS: Final = ("code", "type", "status", "error_code", "status_code", "reason", "error_type", "err_code")
_WAITS: Final = (
    ("retry_after_ms", 0.001),
    ("retry_after_seconds", 1.0),
    ("retry_after", 1.0),
    ("retryDelay", 1.0),
    ("estimated_time", 1.0),  # Hugging Face, of a model that is loading
)
_WAIT_IN_WORDS: Final = re.compile(
    r"(?:try again|retry|wait)(?: \w+){0,2} (?:in|after|for)[: ]+"
    r"(?P<wait>[\d.]+ ?(?:ms|s|m|h|min|sec)?[a-z]*[\dhms.]*)",
    re.IGNORECASE,
)
_DURATION: Final = re.compile(r"([\d.]+)\s*(ms|[hms]|sec|min)?", re.IGNORECASE)
_UNIT_SECONDS: Final = {"ms": 0.001, "s": 1.0, "sec": 1.0, "": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0}
_HTTP_ERROR: Final = re.compile(r"[45][0-9]{2}")
_DEEPEST: Final = 6


@dataclass(frozen=True)
class ProviderError:
    """What an error says."""

    message: str
    words: frozenset[str]
    """Its codes and types, in lower case."""
    status: int | None
    """An HTTP status in the body itself."""
    retry_after_seconds: float | None


def error_in(body: object) -> ProviderError | None:
    """The error that a body is, or holds; None where it is none.

    OpenAI's `{error: {message, type, code}}`, Anthropic's, Gemini's list of them, vLLM's
    `{object: error, message}`, FastAPI's `{detail: [{msg}]}`, gateways' `{error: text}`, `{errors: [...]}`,
    `{code, message}` and `{fault: {faultstring}}`.
    """
    if isinstance(body, list):
        items = cast("list[object]", body)
        return next((error for item in items[:5] if (error := error_in(item)) is not None), None)
    if not isinstance(body, dict) or not _is_error(fields := cast("JsonObject", body)):
        return None
    return _read(fields)


def _is_error(body: JsonObject) -> bool:
    if any(
        body.get(key) for key in ("error", "errors", "fault", "error_msg", "errorMessage", "error_message")
    ):
        return True
    if body.get("choices") or body.get("output") or body.get("content") or body.get("candidates"):
        return False
    base = body.get("base_resp")
    if isinstance(base, dict) and cast("JsonObject", base).get("status_code"):
        return True
    if (
        body.get("object") == "error"
        or body.get("type") == "error"
        or body.get("status") in ("error", "fail")
    ):
        return True
    return body.get("success") is False or (
        not {"object", "type", "delta", "id"} & body.keys() and any(body.get(key) for key in _MESSAGES)
    )


def _read(body: JsonObject) -> ProviderError:
    message, words, status, wait = "", set[str](), None, None
    level: object = body
    levels: list[JsonObject] = []
    for _ in range(_DEEPEST):
        while isinstance(level, list) and level:
            level = cast("list[object]", level)[0]
        if not isinstance(level, dict):
            break
        fields = cast("JsonObject", level)
        levels.append(fields)
        level = next((fields[key] for key in _NESTED if isinstance(fields.get(key), dict | list)), None)
    for fields in levels:
        message = next((text for key in _MESSAGES if (text := _text(fields.get(key)))), message)
        for key in _WORDS:
            word = fields.get(key)
            if isinstance(word, str | int) and not isinstance(word, bool):
                words.add(str(word).strip().lower())
        wait = next((w for key, unit in _WAITS if (w := _seconds(fields.get(key), unit)) is not None), wait)
        for detail in cast(
            "list[object]", fields.get("details") if isinstance(fields.get("details"), list) else []
        ):
            if isinstance(detail, dict):
                about = cast("JsonObject", detail)
                wait = _seconds(about.get("retryDelay"), 1.0) if "retryDelay" in about else wait
                if isinstance(about.get("reason"), str):
                    words.add(str(about["reason"]).lower())
    raw = _raw_of_upstream(levels)
    status = next((int(word) for word in words if _HTTP_ERROR.fullmatch(word)), status)
    if wait is None and (said := _WAIT_IN_WORDS.search(message)) is not None:
        wait = read_duration(said["wait"])
    return ProviderError(raw or message, frozenset(words), status, wait)


def _raw_of_upstream(levels: list[JsonObject]) -> str:
    """OpenRouter says `Provider returned error`, and what that was in `metadata.raw`."""
    for fields in levels:
        metadata = fields.get("metadata")
        if isinstance(metadata, dict) and isinstance(raw := cast("JsonObject", metadata).get("raw"), str):
            from agent_runner.models.event_stream import parse_json

            inner = error_in(parse_json(raw))
            return f"{_text(fields.get('message'))}: {inner.message if inner is not None else raw}".lstrip(
                ": "
            )
    return ""


def _text(value: object) -> str:
    if isinstance(value, list) and value:
        return _text(cast("list[object]", value)[0])
    return value.strip() if isinstance(value, str) else ""


def _seconds(value: object, unit: float) -> float | None:
    if isinstance(value, bool) or value is None:
        return None
    if isinstance(value, int | float):
        return _sane(float(value) * unit)
    return read_duration(value) if isinstance(value, str) else None


def retry_after_of(headers: Mapping[str, str], now: datetime | None = None) -> float | None:
    """Seconds that the headers ask to wait; names in lower case.

    `retry-after-ms` (OpenAI, Anthropic), and `Retry-After` as RFC 9110 has it or with fractions, units or
    another zone, as servers send it.
    """
    if (milliseconds := _number(headers.get("retry-after-ms"))) is not None:
        return _sane(milliseconds / 1000)
    text = headers.get("retry-after", "").strip()
    if not text:
        return None
    if (seconds := read_duration(text)) is not None:
        return seconds
    try:
        moment = parsedate_to_datetime(text)
    except (ValueError, TypeError, IndexError, OverflowError):
        try:
            moment = datetime.fromisoformat(text)
        except ValueError:
            return None
    moment = moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
    return max(0.0, (moment - (now or datetime.now(UTC))).total_seconds())


def read_duration(text: str) -> float | None:
    """`7`, `7.5`, `34.07s`, `20ms`, `1m30s`, in seconds; None where it is something else."""
    text = text.strip().rstrip(".,;").lower().replace("seconds", "s").replace("second", "s")
    text = text.replace("minutes", "m").replace("minute", "m").replace("hours", "h").replace("hour", "h")
    found = list(_DURATION.finditer(text))
    if not found or "".join(match.group() for match in found).replace(" ", "") != text.replace(" ", ""):
        return None
    total = 0.0
    for match in found:
        number = _number(match[1])
        if number is None:
            return None
        total += number * _UNIT_SECONDS[match[2] or ""]
    return _sane(total)


def _number(text: str | None) -> float | None:
    try:
        return _sane(float(text)) if text is not None else None
    except ValueError:
        return None


def _sane(seconds: float) -> float | None:
    """Not negative, infinite or no number at all."""
    return seconds if 0 <= seconds < float("inf") else None
