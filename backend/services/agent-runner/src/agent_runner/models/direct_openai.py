"""OpenAI's SDK as pydantic-ai needs it to write a request down; `provider_call` sends what it would send.

pydantic-ai makes of a conversation and its settings the arguments of a call of the SDK. The SDK (3.x) would
then go through every message and tool by its type, to rename keys and to encode files (8 ms of processor at
10 turns, 86 at 100, 250 at 500; 2026-11), and build and validate an object of each piece of the answer. None
of that is needed: the types of both endpoints rename nothing (`test_models` compares).
"""

from functools import cached_property
from typing import Any

from openai import AsyncOpenAI, NotGiven, Omit
from openai.resources.chat import AsyncChat, AsyncCompletions
from openai.resources.responses import AsyncResponses

from agent_runner.models.written_request import written_request


class DirectOpenAI(AsyncOpenAI):
    """A client that hands back what it was to send."""

    # The SDK declares these in the same way, with a decorator that pyright takes for another's.
    @cached_property
    def responses(self) -> AsyncResponses:  # pyright: ignore[reportIncompatibleMethodOverride]
        return _WrittenResponses(self)

    @cached_property
    def chat(self) -> AsyncChat:  # pyright: ignore[reportIncompatibleMethodOverride]
        return _WrittenChat(self)


class _WrittenResponses(AsyncResponses):
    # The SDK declares 40 parameters in four overloads, none of which concerns us.
    async def create(self, **arguments: Any) -> Any:
        return written_request(arguments, (Omit, NotGiven))


class _WrittenChat(AsyncChat):
    @cached_property
    def completions(self) -> AsyncCompletions:  # pyright: ignore[reportIncompatibleMethodOverride] - as above
        return _WrittenCompletions(self._client)


class _WrittenCompletions(AsyncCompletions):
    async def create(self, **arguments: Any) -> Any:
        return written_request(arguments, (Omit, NotGiven))
