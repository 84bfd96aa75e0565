"""Makes sure that an answer is whole and comes in time; a broken one is an error, never a short answer.

A connection that is cut in the middle shows as an error of the transport where the body's length or its
chunks are announced. Behind some proxies it shows as a stream that ends too early, which pydantic-ai 2.62
takes for a complete answer; what then is missing is the reason why the model stopped.
"""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any, Final

from pydantic_ai.exceptions import ModelAPIError, ModelConnectionError, ModelTimeoutError
from pydantic_ai.messages import ModelMessage, ModelResponse
from pydantic_ai.models import ModelRequestParameters, StreamedResponse
from pydantic_ai.models.wrapper import WrapperModel
from pydantic_ai.settings import ModelSettings
from pydantic_ai.tools import RunContext

from agent_runner.models.request_settings import DEFAULT_ANSWER_TIMEOUT_SECONDS

_FINISH_REASON: Final = "finish_reason"


class CompleteAnswers(WrapperModel):
    """Asks the wrapped model.

    `timeout` of the settings holds from the request to the end of its answer. pydantic-ai's own
    `request_timeout` would span all our attempts at one step, so it cannot be used for that.
    """

    async def request(
        self,
        messages: list[ModelMessage],
        model_settings: ModelSettings | None,
        model_request_parameters: ModelRequestParameters,
    ) -> ModelResponse:
        seconds = _timeout_seconds(model_settings)
        scope = asyncio.timeout(seconds)
        try:
            async with scope:
                response = await super().request(messages, model_settings, model_request_parameters)
        except TimeoutError as error:
            if scope.expired():
                raise self._timed_out(seconds) from error
            raise
        self._check_complete(response)
        return response

    @asynccontextmanager
    async def request_stream(
        self,
        messages: list[ModelMessage],
        model_settings: ModelSettings | None,
        model_request_parameters: ModelRequestParameters,
        run_context: RunContext[Any] | None = None,
    ) -> AsyncGenerator[StreamedResponse]:
        """As the wrapped model's; the error of a broken answer comes when the context is left."""
        seconds = _timeout_seconds(model_settings)
        scope = asyncio.timeout(seconds)
        try:
            async with scope:
                async with super().request_stream(
                    messages, model_settings, model_request_parameters, run_context
                ) as stream:
                    yield stream
                if not stream.cancelled:
                    self._check_complete(stream.get())
        except TimeoutError as error:
            if scope.expired():
                raise self._timed_out(seconds) from error
            raise

    def _timed_out(self, seconds: float) -> ModelTimeoutError:
        return ModelTimeoutError(self.model_name, f"no complete answer within {seconds:g} seconds")

    def _check_complete(self, response: ModelResponse) -> None:
        if response.finish_reason == "error":
            raise ModelAPIError(self.model_name, "the provider gave up on the answer")
        # `finish_reason` alone would not do: it is also None for a provider's reason that pydantic-ai
        # does not know, which stands in the details then.
        reason = response.finish_reason or (response.provider_details or {}).get(_FINISH_REASON)
        if reason is None and response.state != "suspended":
            raise ModelConnectionError(
                self.model_name, "the answer broke off before its end", phase="read", in_stream=True
            )


def _timeout_seconds(model_settings: ModelSettings | None) -> float:
    timeout = (model_settings or {}).get("timeout")
    return float(timeout) if isinstance(timeout, int | float) else DEFAULT_ANSWER_TIMEOUT_SECONDS
