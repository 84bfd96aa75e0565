"""JSON bodies, before anything makes sense of them: bounded in shape, and text that all below can hold.

A body is small enough for `gate`, yet a million keys that no model knows take a model many seconds to
name, in the event loop. So what is counted is what such work grows with: values and depth. A lone surrogate
(half a character, as an escape in JSON), or bytes that are not UTF-8, are no text: they are refused here, so
that nothing else meets them.
"""

import asyncio
import json
import re
from collections.abc import Callable, Coroutine
from typing import Any, Final, cast

from fastapi import Request, Response
from pydantic_core import from_json

from stigmer_server.errors import InvalidRequest

MAX_VALUES: Final = 5_000
"""Items and containers of one body that FastAPI reads, and members outside of payloads of one that a runner
writes. A model takes 12 us to find and name a member that it does not know (2026-11)."""
MAX_APPENDED_VALUES: Final = 300_000
"""Of a runner's body, payloads and all: so many are read in 0.1 s, while nothing else is done."""
MAX_DEPTH: Final = 100
_IN_THREAD_BYTES: Final = 64 * 1024
_TOKEN: Final = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*(?:"|\\?\Z)|[\[\]{},]', re.DOTALL)
"""A text that does not end goes to the body's end, so that nothing is looked at twice."""
_OPENING: Final = frozenset(b"[{")
_CLOSING: Final = frozenset(b"]}")
_QUOTE: Final = ord('"')


async def check_shape(body: bytes, max_values: int = MAX_VALUES) -> None:
    """See that a body's JSON is not built to keep a reader busy.

    Raises:
        InvalidRequest: it is.
    """
    # The characters that stand in texts are counted as well: only where there are many, they are told apart.
    opened = body.count(b"[") + body.count(b"{")
    if opened <= MAX_DEPTH and opened + body.count(b",") < max_values:
        return
    if len(body) <= _IN_THREAD_BYTES:
        _check_shape(body, max_values)
    else:
        await asyncio.to_thread(_check_shape, body, max_values)


def _check_shape(body: bytes, max_values: int) -> None:
    values = texts = depth = 0
    for match in _TOKEN.finditer(body):
        first = body[match.start()]
        if first == _QUOTE:
            texts += 1
        elif first in _CLOSING:
            depth -= 1
        else:
            values += 1
            depth += first in _OPENING
        if depth > MAX_DEPTH:
            raise InvalidRequest(f"the body's JSON is nested more than {MAX_DEPTH} deep")
        if values > max_values or texts > 2 * max_values + 1:
            raise InvalidRequest(f"the body's JSON has more than {max_values} values")


async def check_members(body: bytes) -> None:
    """See that a runner's body has not more members than its models can have; payloads are JSON of any kind.

    Raises:
        InvalidRequest: it has.
    """
    await check_shape(body, MAX_APPENDED_VALUES)
    if body.count(b":") > MAX_VALUES:
        await asyncio.to_thread(_check_members, body)


def _check_members(body: bytes) -> None:
    try:
        waiting: list[object] = [from_json(body)]
    except ValueError:
        return  # the model says why
    members = 0
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            fields = cast("dict[str, object]", value)
            members += len(fields)
            is_payload = fields.get("kind") == "inline"
            waiting += [one for name, one in fields.items() if not (is_payload and name == "value")]
        elif isinstance(value, list):
            waiting += cast("list[object]", value)
        if members > MAX_VALUES:
            raise InvalidRequest(f"the body has more than {MAX_VALUES} members outside of payloads")


class BoundedRequest(Request):
    """A request whose JSON is looked at before it is read."""

    async def json(self) -> Any:
        """The body's value.

        Raises:
            InvalidRequest: its shape is beyond the bounds.
            json.JSONDecodeError: it is no JSON, or holds what is no text.
        """
        body = await self.body()
        await check_shape(body)
        try:
            return from_json(body)
        except ValueError as error:
            raise json.JSONDecodeError(str(error), "", 0) from error


def reading_bounded(
    handler: Callable[[Request], Coroutine[Any, Any, Response]],
) -> Callable[[Request], Coroutine[Any, Any, Response]]:
    """The handler of a route, given requests whose JSON is bounded."""

    async def handle(request: Request) -> Response:
        return await handler(BoundedRequest(request.scope, request.receive))

    return handle
