"""Takes secrets out of one leg's events, live pieces included, before they leave the process.

Every text of an event is masked, whatever its field is called; only closed sets and digests are not.
"""

import functools
import types
from collections.abc import Mapping
from enum import Enum
from typing import Annotated, Any, Literal, Union, cast, get_args, get_origin

from pydantic import BaseModel, JsonValue

from agent_runner.masking import MaskedStream, Masker
from agent_runner.masking_threads import off_loop
from stigmer_contract.events import (
    Event,
    InlinePayload,
    LiveEvent,
    ModelDelta,
    ModelPartial,
    ModelResponded,
    ModelRetry,
    ToolFinished,
    ToolOutput,
)


class EventMask:
    """Masks events in the order in which they are sent. A secret may be spread over several live ones."""

    def __init__(self, masker: Masker) -> None:
        self._masker = masker
        self._streams: dict[ModelDelta | ToolOutput, MaskedStream] = {}
        """By an event of the stream without its text."""
        self._cut: set[ModelDelta | ToolOutput] = set()
        """Streams of which a piece was left out: what came behind it could complete no secret any more."""

    async def mask_live(self, event: LiveEvent) -> LiveEvent | None:
        """What can be shown of the event now; None: nothing yet."""
        if self._masker.is_empty:
            return event
        if isinstance(event, ModelRetry):
            return cast("LiveEvent", mask_texts(event, self._masker))
        if isinstance(event, ModelPartial):
            self._drop_answer(event.turn)
            text = await off_loop(self._masker, len(event.text), self._masker.mask, event.text)
            return event.model_copy(update={"text": text})
        stream = self._streams.setdefault(_key_of(event), MaskedStream(self._masker))
        text = await off_loop(self._masker, len(event.text), stream.feed, event.text)
        return event.model_copy(update={"text": text}) if text else None

    def is_cut(self, event: LiveEvent) -> bool:
        """Whether a piece of the event's stream was left out before."""
        return isinstance(event, ModelDelta | ToolOutput) and bool(self._cut) and _key_of(event) in self._cut

    def cut(self, event: LiveEvent) -> None:
        """Note that this piece is left out."""
        if isinstance(event, ModelDelta | ToolOutput):
            self._cut.add(_key_of(event))

    def has_stream_of(self, event: Event) -> bool:
        """Whether the event ends a stream that has more to show, perhaps."""
        return isinstance(event, ToolFinished) and bool(self._ended_by(event))

    async def end_streams(self, event: Event) -> list[LiveEvent]:
        """What is still to be shown before this event, which ends a stream or two."""
        match event:
            case ModelResponded():
                self._drop_answer(event.turn)  # the event itself holds the whole answer
                return []
            case ToolFinished():
                rests: list[LiveEvent] = []
                for key in self._ended_by(event):
                    stream = self._streams.pop(key)
                    rest = await off_loop(self._masker, 0, stream.finish)
                    if rest and key not in self._cut:
                        rests.append(key.model_copy(update={"text": rest}))
                    self._cut.discard(key)
                return rests
            case _:
                return []

    def _ended_by(self, event: ToolFinished) -> list[ToolOutput]:
        return [key for key in self._streams if isinstance(key, ToolOutput) and key.call_id == event.call_id]

    def mask(self, event: Event) -> Event:
        """The event without secrets. What went to the blob store was masked before."""
        return event if self._masker.is_empty else cast("Event", mask_texts(event, self._masker))

    def _drop_answer(self, turn: int) -> None:
        for key in [key for key in self._streams if isinstance(key, ModelDelta) and key.turn == turn]:
            del self._streams[key]
        for key in [key for key in self._cut if isinstance(key, ModelDelta) and key.turn == turn]:
            self._cut.discard(key)


def _key_of(event: ModelDelta | ToolOutput) -> ModelDelta | ToolOutput:
    return event.model_copy(update={"text": ""})


def mask_texts(model: BaseModel, masker: Masker) -> BaseModel:
    """The model with every text in it masked, but those of closed sets and of a fixed form."""
    changes: dict[str, object] = {}
    for name in _text_fields(type(model)):
        value: object = getattr(model, name)
        masked = _masked(value, masker)
        if masked != value:
            changes[name] = masked
    return model.model_copy(update=changes) if changes else model


def _masked(value: object, masker: Masker) -> object:
    match value:
        case Enum():
            return value
        case str():
            return masker.mask(value)
        case InlinePayload():
            masked = masker.mask_json(value.value)
            return value if masked == value.value else InlinePayload(value=masked)
        case BaseModel():
            return mask_texts(value, masker)
        case list() | tuple():
            return [_masked(item, masker) for item in cast("list[object]", value)]
        case Mapping():
            return masker.mask_json(cast("JsonValue", value))
        case _:
            return value


@functools.cache
def _text_fields(model: type[BaseModel]) -> tuple[str, ...]:
    """The fields that may hold texts of anybody's making."""
    return tuple(
        name
        for name, field in model.model_fields.items()
        if _may_hold_text(field.annotation) and not any(hasattr(each, "pattern") for each in field.metadata)
    )


def _may_hold_text(annotation: Any) -> bool:
    origin = get_origin(annotation)
    if origin is Literal:
        return False
    if origin is Annotated:
        return _may_hold_text(get_args(annotation)[0])
    if origin in (Union, types.UnionType, list, tuple, dict):
        return any(map(_may_hold_text, get_args(annotation)))
    if not isinstance(annotation, type):
        return True  # JSON, or a form that is not known here
    return issubclass(annotation, BaseModel | str) and not issubclass(annotation, Enum)
