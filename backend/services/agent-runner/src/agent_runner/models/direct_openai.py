"""OpenAI's SDK without its walk over each request, which takes a third of the runner's time for an execution.

The SDK (3.x) goes through every message and tool by its type, to rename keys and to encode files. Nothing of
that applies to what pydantic-ai makes of a conversation, which is JSON already and grows with every turn; and
the types of both endpoints rename nothing (`test_models` compares). So the conversation is handed to the SDK
as extra fields of the body, which it sends as they are.
"""

from collections.abc import Awaitable, Callable, Mapping
from functools import cached_property
from typing import Any, cast

from openai import AsyncOpenAI, NotGiven, Omit, omit
from openai.resources.chat import AsyncChat, AsyncCompletions
from openai.resources.responses import AsyncResponses

Body = Mapping[str, Any]
Create = Callable[..., Awaitable[object]]


class DirectOpenAI(AsyncOpenAI):
    """A client whose answers are asked for without the walk. All else is the SDK's."""

    # The SDK declares these in the same way, with a decorator that pyright takes for another's.
    @cached_property
    def responses(self) -> AsyncResponses:  # pyright: ignore[reportIncompatibleMethodOverride]
        return _DirectResponses(self)

    @cached_property
    def chat(self) -> AsyncChat:  # pyright: ignore[reportIncompatibleMethodOverride]
        return _DirectChat(self)


class _DirectResponses(AsyncResponses):
    # The SDK declares 40 parameters in four overloads, of which two concern us.
    async def create(  # pyright: ignore[reportIncompatibleMethodOverride]
        self,
        *,
        input: Any = omit,  # noqa: A002 - the SDK's name
        tools: list[Any] | Omit = omit,
        extra_body: Body | None = None,
        **others: Any,
    ) -> Any:
        body = _given(input=input, tools=tools)
        create = cast("Create", super().create)
        return await create(**others, extra_body={**body, **(extra_body or {})})


class _DirectChat(AsyncChat):
    @cached_property
    def completions(self) -> AsyncCompletions:  # pyright: ignore[reportIncompatibleMethodOverride] - as above
        return _DirectCompletions(self._client)


class _DirectCompletions(AsyncCompletions):
    async def create(  # pyright: ignore[reportIncompatibleMethodOverride] - as above
        self,
        *,
        messages: list[Any],
        tools: list[Any] | Omit = omit,
        extra_body: Body | None = None,
        **others: Any,
    ) -> Any:
        body = _given(messages=messages, tools=tools)
        # The SDK insists on messages; those in the extra fields replace them.
        create = cast("Create", super().create)
        return await create(**others, messages=[], extra_body={**body, **(extra_body or {})})


def _given(**fields: object) -> dict[str, object]:
    return {name: value for name, value in fields.items() if not isinstance(value, Omit | NotGiven)}
