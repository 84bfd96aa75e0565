"""Reads logs of older formats as the newest. Format 1, of version 0.1.0, kept pydantic-ai's JSON in payloads.

Logs are read for ever: what stands here is never removed, only added to.
"""

from typing import Final, cast

from pydantic import JsonValue

from stigmer_contract.conversation import ToolOutcome
from stigmer_contract.pydantic_ai_format import BY_0_1_0, answer_from_pydantic_ai, result_from_pydantic_ai

PAYLOADS_OF_FORMAT_1: Final = {"model.responded": "response", "tool.finished": "result"}
"""Which payload of which event has another form since then."""
GONE_SINCE_FORMAT_1: Final = frozenset({"usage.updated"})
"""Events that are written no more, because they repeated what others say. Readers pass over them."""

_Fields = dict[str, JsonValue]


def newest_value(event: _Fields, value: JsonValue) -> JsonValue:
    """The value of the payload of an event of format 1 in the newest words.

    Args:
        event: of one of the types in `PAYLOADS_OF_FORMAT_1`.
        value: what its payload holds, whether inline or in a blob.
    """
    if event["type"] == "model.responded":
        return answer_from_pydantic_ai(value, BY_0_1_0).to_json()
    return result_from_pydantic_ai(value, BY_0_1_0, _outcome(event)).to_json()


def newest_event(event: _Fields, payload: JsonValue, value: JsonValue) -> _Fields:
    """An event of format 1 in the newest words.

    Args:
        event: of one of the types in `PAYLOADS_OF_FORMAT_1`.
        payload: of its value in the newest words.
        value: that value.
    """
    kind = cast("str", event["type"])
    newest = {**event, PAYLOADS_OF_FORMAT_1[kind]: payload}
    if kind == "tool.finished":
        newest["outcome"] = cast("_Fields", value)["outcome"]
    return newest


def _outcome(event: _Fields) -> ToolOutcome | None:
    """None where the result itself tells it better: format 1 had `retry` for whatever is to be corrected."""
    outcome = event.get("outcome")
    return None if outcome == "retry" else ToolOutcome(str(outcome))
