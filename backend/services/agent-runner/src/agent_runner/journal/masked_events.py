"""Takes secrets out of one leg's events, live pieces included, before they leave the process."""

from pydantic import BaseModel

from agent_runner.masking import MaskedStream, Masker
from stigmer_contract.events import (
    Event,
    InlinePayload,
    LiveEvent,
    ModelDelta,
    ModelPartial,
    ModelResponded,
    ToolFinished,
    ToolOutput,
)

_TEXTS = ("message", "hint", "reason")
"""Fields in which an event holds free text of its own."""


class EventMask:
    """Masks events in the order in which they are sent. A secret may be spread over several live ones."""

    def __init__(self, masker: Masker) -> None:
        self._masker = masker
        self._streams: dict[ModelDelta | ToolOutput, MaskedStream] = {}
        """By an event of the stream without its text."""

    def mask_live(self, event: LiveEvent) -> LiveEvent | None:
        """What can be shown of the event now; None: nothing yet."""
        if self._masker.is_empty:
            return event
        if isinstance(event, ModelPartial):
            self._drop_answer(event.turn)
            return event.model_copy(update={"text": self._masker.mask(event.text)})
        key = event.model_copy(update={"text": ""})
        text = self._streams.setdefault(key, MaskedStream(self._masker)).feed(event.text)
        return event.model_copy(update={"text": text}) if text else None

    def end_streams(self, event: Event) -> list[LiveEvent]:
        """What is still to be shown before this event, which ends a stream or two."""
        match event:
            case ModelResponded():
                self._drop_answer(event.turn)  # the event itself holds the whole answer
                return []
            case ToolFinished() if self._streams:
                ended = [
                    key
                    for key in self._streams
                    if isinstance(key, ToolOutput) and key.call_id == event.call_id
                ]
                rests = [(key, self._streams.pop(key).finish()) for key in ended]
                return [key.model_copy(update={"text": rest}) for key, rest in rests if rest]
            case _:
                return []

    def mask(self, event: Event) -> Event:
        """The event without secrets. What went to the blob store was masked before."""
        if self._masker.is_empty:
            return event
        changes = {
            name: masked
            for name in type(event).model_fields
            if (masked := self._mask_field(event, name)) is not None
        }
        return event.model_copy(update=changes) if changes else event

    def _mask_field(self, event: BaseModel, name: str) -> object:
        value: object = getattr(event, name)
        if isinstance(value, InlinePayload):
            masked = self._masker.mask_json(value.value)
            return None if masked == value.value else InlinePayload(value=masked)
        return self._masker.mask(value) if name in _TEXTS and isinstance(value, str) else None

    def _drop_answer(self, turn: int) -> None:
        for key in [key for key in self._streams if isinstance(key, ModelDelta) and key.turn == turn]:
            del self._streams[key]
