"""Reads answers in the words of OpenAI's Responses API, streamed or whole."""

from typing import Final, cast

from agent_runner.models.answer_builder import AnswerBuilder, Passage
from agent_runner.models.event_stream import JsonObject
from agent_runner.models.provider_call import AnswerReader
from agent_runner.models.tool_calls import CallDraft, text_of_arguments
from agent_runner.models.usage_reports import find_report

_TEXT_DELTAS: Final = ("response.output_text.delta", "response.text.delta")
_THINKING_DELTAS: Final = (
    "response.reasoning_summary_text.delta",
    "response.reasoning_text.delta",
    "response.reasoning.delta",
)
_ENDS: Final = (
    "response.completed",
    "response.done",
    "response.incomplete",
    "response.failed",
    "response.cancelled",
)


class ResponsesReader(AnswerReader):
    """Shows deltas as they come; what is kept is the items, as the server says them when they are done.

    Servers that only speak deltas, or only the last event, are understood as well.
    """

    def __init__(self, model: str, builder: AnswerBuilder) -> None:
        super().__init__(model, builder)
        self._items: dict[str, JsonObject] = {}
        """By place in the answer, or by id; in the order in which they began."""
        self._written: dict[str, list[str]] = {}
        """The deltas of each item: its text, or its arguments."""
        self._ended = False

    @property
    def has_ended(self) -> bool:
        """Whether the answer is whole."""
        return self.is_over or self._ended

    def take(self, record: JsonObject) -> None:
        """Take in the next event."""
        kind = record.get("type")
        kind = kind if isinstance(kind, str) else ""
        if kind in _TEXT_DELTAS or kind in _THINKING_DELTAS or kind.endswith("arguments.delta"):
            self._take_delta(kind, record)
        elif kind == "response.refusal.delta":
            self.builder.refusal.append(_text(record.get("delta")))
        elif kind == "response.refusal.done":
            self.builder.refusal = [_text(record.get("refusal"))]
        elif kind in ("response.output_item.added", "response.output_item.done"):
            item = record.get("item")
            if isinstance(item, dict):
                place = self._place(record, cast("JsonObject", item))
                known = self._items.get(place, {})
                self._items[place] = {**known, **_without_nothing(cast("JsonObject", item))}
        elif kind.endswith(("arguments.done", "output_text.done")) and (place := self._place(record)):
            self._take_whole(place, kind, record)
        elif kind in _ENDS or record.get("object") == "response":
            self._take_response(record.get("response"), record, ends=True)
        elif isinstance(record.get("response"), dict):
            self._take_response(record["response"], record, ends=False)
        elif kind == "error" or not kind:
            self.refuse_error(record)

    def _take_delta(self, kind: str, record: JsonObject) -> None:
        text = _text(record.get("delta"))
        if kind in _TEXT_DELTAS:
            self.builder.show_piece("text", text)
            default = "message"
        elif kind in _THINKING_DELTAS:
            self.builder.show_piece("thinking", text)
            default = "reasoning"
        else:
            self.builder.characters += len(text)
            default = "function_call"
        place = self._place(record)
        item = self._items.setdefault(place, {"type": default})
        if default == "reasoning" and kind == "response.reasoning_text.delta":
            item["raw"] = True
        self._written.setdefault(place, []).append(text)

    def _take_whole(self, place: str, kind: str, record: JsonObject) -> None:
        field, default = ("arguments", "function_call") if "arguments" in kind else ("text", "message")
        item = self._items.setdefault(place, {"type": default})
        whole = record.get(field)
        if isinstance(whole, str) and whole and not self._written.get(place):
            self._written[place] = [whole]
        if field == "arguments" and isinstance(record.get("name"), str):
            item.setdefault("name", record["name"])

    def _place(self, record: JsonObject, item: JsonObject | None = None) -> str:
        index = record.get("output_index")
        if isinstance(index, int | str) and not isinstance(index, bool):
            return f"#{index}"
        name = record.get("item_id") or (item or {}).get("id")
        if isinstance(name, str) and name:
            return name
        return next(reversed(self._items), "") if item is None else f"item {len(self._items)}"

    def _take_response(self, value: object, record: JsonObject, *, ends: bool) -> None:
        response = cast("JsonObject", value) if isinstance(value, dict) else record
        builder = self.builder
        if response.get("error"):
            self.refuse_error(response)
        if isinstance(response.get("model"), str):
            builder.model = cast("str", response["model"]) or builder.model
        if isinstance(response.get("id"), str):
            builder.answer_id = cast("str", response["id"]) or builder.answer_id
        builder.report = find_report(response, {}) or builder.report
        if not ends:
            return
        details, status = response.get("incomplete_details"), response.get("status")
        reason = cast("JsonObject", details).get("reason") if isinstance(details, dict) else None
        if not isinstance(reason, str):
            reason = (
                str(record.get("type", "")).removeprefix("response.")
                if not isinstance(status, str)
                else status
            )
        builder.reason = "completed" if reason in ("done", "in_progress", "") else reason
        output = response.get("output")
        items = (
            [cast("JsonObject", item) for item in cast("list[object]", output) if isinstance(item, dict)]
            if (isinstance(output, list))
            else []
        )
        if items:
            self._items = {f"#{place}": item for place, item in enumerate(items)}
            self._written = {}
        self._ended = True

    def finish(self) -> None:
        """Put the items into the builder."""
        for place, item in self._items.items():
            written = "".join(self._written.get(place, []))
            match item.get("type"):
                case "message":
                    self._add_message(item, written)
                case "reasoning":
                    self._add_reasoning(item, written)
                case "function_call":
                    self._add_call(item, written)
                case _:
                    pass  # of tools that the provider runs itself; none is asked for

    def _add_message(self, item: JsonObject, written: str) -> None:
        texts: list[str] = []
        for part in _objects(item.get("content")):
            if part.get("type") == "refusal":
                self.builder.refusal = self.builder.refusal or [_text(part.get("refusal"))]
            elif isinstance(part.get("text"), str):
                texts.append(cast("str", part["text"]))
        if isinstance(item.get("content"), str):
            texts.append(cast("str", item["content"]))
        if not any(texts):
            texts = [written]
        details = {"phase": item["phase"]} if isinstance(item.get("phase"), str) else None
        for text in texts:
            self.builder.order.append(Passage("text", _text(item.get("id")), [text], None, details))

    def _add_reasoning(self, item: JsonObject, written: str) -> None:
        signature = _text(item.get("encrypted_content")) or None
        raw = [_text(part.get("text")) for part in _objects(item.get("content"))]
        summaries = [_text(part.get("text")) for part in _objects(item.get("summary"))]
        if not summaries and not raw and written:
            raw, summaries = ([written], []) if item.get("raw") else ([], [written])
        details: JsonObject | None = {"raw_content": raw} if raw else None
        if not summaries and (signature or details):
            summaries = [""]
        for summary in summaries:
            # The same id for all, so that they become one item again.
            passage = Passage("thinking", _text(item.get("id")), [summary], signature, details)
            self.builder.order.append(passage)
            signature, details = None, None

    def _add_call(self, item: JsonObject, written: str) -> None:
        arguments = item.get("arguments")
        text = arguments if isinstance(arguments, str) and arguments else written
        if isinstance(arguments, dict):
            text = text_of_arguments(cast("JsonObject", arguments))
        details = {"namespace": item["namespace"]} if isinstance(item.get("namespace"), str) else None
        draft = CallDraft(
            call_id=_text(item.get("call_id")) or _text(item.get("id")),
            name=_text(item.get("name")),
            pieces=[text] if text else [],
            extra=details,
            item_id=_text(item.get("id")) or None,
        )
        self.builder.order.append(draft)


def _without_nothing(item: JsonObject) -> JsonObject:
    return {name: value for name, value in item.items() if value not in (None, "", [])}


def _objects(value: object) -> list[JsonObject]:
    return [
        cast("JsonObject", part)
        for part in cast("list[object]", value if isinstance(value, list) else [])
        if isinstance(part, dict)
    ]


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""
