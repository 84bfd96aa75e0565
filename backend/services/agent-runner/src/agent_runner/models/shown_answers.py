"""Asks a model of ours so that somebody may watch."""

from pydantic_ai.messages import ModelMessage, ModelResponse
from pydantic_ai.models import Model, ModelRequestParameters
from pydantic_ai.models.wrapper import WrapperModel
from pydantic_ai.settings import ModelSettings

from agent_runner.models.asking import Answers, Watcher


class ShownAnswers(WrapperModel):
    """The wrapped model, whose answers are shown while they come.

    pydantic-ai (2.62) can stream too, but then it makes an event of each piece, and passes all events of a
    run through each capability: an eighth of an execution's processor time (2026-11).
    """

    def __init__(self, wrapped: Model, watcher: Watcher) -> None:
        super().__init__(wrapped)
        self._watcher = watcher

    async def request(
        self,
        messages: list[ModelMessage],
        model_settings: ModelSettings | None,
        model_request_parameters: ModelRequestParameters,
    ) -> ModelResponse:
        """The whole answer. A broken one is an error, although its beginning was shown."""
        assert isinstance(self.wrapped, Answers)
        return await self.wrapped.answer(messages, model_settings, model_request_parameters, self._watcher)
