"""Reads what providers say an answer used, in whatever words; estimates it where they say nothing."""

from typing import Final, cast

from pydantic_ai.usage import RequestUsage

from agent_runner.models.event_stream import JsonObject

CHARACTERS_A_TOKEN: Final = 4
"""Of English text and JSON, roughly; what an estimate goes by."""
ESTIMATED: Final = "estimated"
"""Key of `RequestUsage.details` that says that a count is a guess of ours."""
MAX_TOKENS_BELIEVED: Final = 1_000_000_000

_INPUT: Final = ("prompt_tokens", "input_tokens", "prompt_eval_count", "promptTokenCount", "prompt_n")
_OUTPUT: Final = (
    "completion_tokens",
    "output_tokens",
    "eval_count",
    "candidatesTokenCount",
    "predicted_n",
    "generated_tokens",
)
_TOTAL: Final = ("total_tokens", "totalTokenCount")
_CACHED: Final = (
    "cached_tokens",
    "prompt_cache_hit_tokens",
    "cache_read_input_tokens",
    "cachedContentTokenCount",
)
_DETAILS: Final = ("prompt_tokens_details", "input_tokens_details")
_OUTPUT_DETAILS: Final = ("completion_tokens_details", "output_tokens_details")


def find_report(chunk: JsonObject, choice: JsonObject) -> JsonObject | None:
    """The report that a piece of an answer carries, wherever the server puts it."""
    gateway = chunk.get("x_groq")
    places: list[object] = [
        chunk.get("usage"),
        choice.get("usage"),
        cast("JsonObject", gateway).get("usage") if isinstance(gateway, dict) else None,
        chunk.get("usageMetadata"),
        chunk.get("timings"),
        chunk if "eval_count" in chunk or "prompt_eval_count" in chunk else None,
    ]
    for place in places:
        if isinstance(place, dict) and _has_counts(report := cast("JsonObject", place)):
            return report
    return None


def usage_of(report: JsonObject) -> RequestUsage:
    """The report in pydantic-ai's words. `input_tokens` counts cached ones too, as OpenAI's does."""
    total = _count(report, _TOTAL)
    output = _count(report, _OUTPUT)
    given = _count(report, _INPUT)
    if given is None:
        given = max((total or 0) - (output or 0), 0)
    if output is None:
        output = max((total or 0) - given, 0)
    inner = _first_object(report, _DETAILS)
    cached = _count(inner, _CACHED) or _count(report, _CACHED) or 0
    details: dict[str, int] = {}
    reasoning = _count(_first_object(report, _OUTPUT_DETAILS), ("reasoning_tokens",))
    if reasoning:
        details["reasoning_tokens"] = reasoning
    return RequestUsage(
        input_tokens=given,
        output_tokens=output,
        cache_read_tokens=min(cached, given),
        cache_write_tokens=min(_count(inner, ("cache_write_tokens",)) or 0, given),
        details=details,
    )


def estimated_usage(request_bytes: int, answer_characters: int) -> RequestUsage:
    """What an answer used, where its provider does not say: more than nothing, so that limits hold."""
    return RequestUsage(
        input_tokens=max(1, request_bytes // CHARACTERS_A_TOKEN),
        output_tokens=max(1, answer_characters // CHARACTERS_A_TOKEN),
        details={ESTIMATED: 1},
    )


def _has_counts(report: JsonObject) -> bool:
    return any(_count(report, names) for names in (_INPUT, _OUTPUT, _TOTAL))


def _count(report: JsonObject, names: tuple[str, ...]) -> int | None:
    """The first of the counts that is there and is one. Some servers send text, fractions or -1."""
    for name in names:
        value = report.get(name)
        try:
            count = int(float(value)) if isinstance(value, int | float | str) else None
        except (ValueError, OverflowError):
            count = None
        if count is not None and 0 <= count <= MAX_TOKENS_BELIEVED:
            return count
    return None


def _first_object(report: JsonObject, names: tuple[str, ...]) -> JsonObject:
    for name in names:
        value = report.get(name)
        if isinstance(value, dict):
            return cast("JsonObject", value)
    return {}
