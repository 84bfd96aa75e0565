"""A request in the form in which pydantic-ai hands it to a provider's SDK. Knows no SDK."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

from agent_runner.models.event_stream import JsonObject


@dataclass(frozen=True)
class WrittenRequest:
    """A request that was not sent."""

    body: JsonObject
    headers: Mapping[str, str]


def written_request(arguments: Mapping[str, Any], absent: tuple[type, ...]) -> WrittenRequest:
    """What an SDK would send for these arguments of a call. Values of the types `absent` stand for none."""
    given = {
        name: value
        for name, value in arguments.items()
        if value is not None and not isinstance(value, absent)
    }
    headers = cast("Mapping[str, str]", given.pop("extra_headers", {}))
    further = cast("JsonObject", given.pop("extra_body", {}))
    given.pop("timeout", None)
    return WrittenRequest(
        {**given, **further},
        {name: value for name, value in headers.items() if name.lower() != "user-agent"},
    )
