"""Asks for answers as streams, and shows them while they are written."""

from collections.abc import Callable
from typing import Literal

from pydantic_ai.messages import (
    ModelMessage,
    ModelResponse,
    ModelResponseStreamEvent,
    PartDeltaEvent,
    PartStartEvent,
    TextPart,
    TextPartDelta,
    ThinkingPart,
    ThinkingPartDelta,
)
from pydantic_ai.models import Model, ModelRequestParameters
from pydantic_ai.models.wrapper import WrapperModel
from pydantic_ai.settings import ModelSettings

AnswerKind = Literal["text", "thinking"]
ShowAnswer = Callable[[AnswerKind, str], None]
"""Called with each piece of an answer, in order."""


class ShownAnswers(WrapperModel):
    """The wrapped model, whose streams are read here.

    pydantic-ai (2.62) can stream too, but then it passes every event of a run, tool calls included, through
    each capability: an eighth of an execution's processor time (2026-11).
    """

    def __init__(self, wrapped: Model, show: ShowAnswer) -> None:
        """`show` must not wait: the answer stands still as long."""
        super().__init__(wrapped)
        self._show = show

    async def request(
        self,
        messages: list[ModelMessage],
        model_settings: ModelSettings | None,
        model_request_parameters: ModelRequestParameters,
    ) -> ModelResponse:
        """The whole answer. A broken one is an error, although its beginning was shown."""
        async with self.wrapped.request_stream(messages, model_settings, model_request_parameters) as stream:
            async for event in stream:
                piece = _piece_of(event)
                if piece is not None:
                    self._show(*piece)
        return stream.get()


def _piece_of(event: ModelResponseStreamEvent) -> tuple[AnswerKind, str] | None:
    """The piece of text that a stream event brings, if any."""
    match event:
        case (
            PartStartEvent(part=TextPart(content=text))
            | PartDeltaEvent(delta=TextPartDelta(content_delta=text))
        ) if text:
            return "text", text
        case (
            PartStartEvent(part=ThinkingPart(content=text))
            | PartDeltaEvent(delta=ThinkingPartDelta(content_delta=str(text)))
        ) if text:
            return "thinking", text
        case _:
            return None
