"""Reads answers in the words of OpenAI's Chat Completions, as all the servers that speak it mean them.

One place for their oddities; which there are, `tests/provider_oddities` lists.
"""

from collections.abc import Iterator
from typing import Final, cast

from agent_runner.models.answer_builder import AnswerBuilder, Passage
from agent_runner.models.end_reasons import meaning_of
from agent_runner.models.event_stream import JsonObject
from agent_runner.models.provider_call import AnswerReader
from agent_runner.models.usage_reports import find_report

_THINKING_FIELDS: Final = ("reasoning_content", "reasoning", "thinking", "reasoning_text", "thought")
REASONING_DETAILS: Final = "reasoning_details"
_GROWING: Final = ("text", "summary", "data")
_THINKING_PARTS: Final = ("thinking", "reasoning", "thought", "reasoning_content")


class ChatReader(AnswerReader):
    """Takes chunks with `delta`, with `message`, or whole completions."""

    def __init__(self, model: str, builder: AnswerBuilder) -> None:
        super().__init__(model, builder)
        self._details: list[JsonObject] = []
        """OpenRouter's `reasoning_details` so far, each whole."""
        self._detailed: Passage | None = None

    def take(self, record: JsonObject) -> None:
        """Take in the next chunk."""
        builder = self.builder
        inner = record.get("provider")
        if not record.get("choices") and isinstance(inner, dict) and "choices" in inner:
            record = cast("JsonObject", inner)  # OpenRouter, now and then
        choice = _first_choice(record)
        if choice is None or record.get("error"):
            self.refuse_error(record)
        choice = choice or {}
        builder.report = find_report(record, choice) or builder.report
        if isinstance(record.get("model"), str):
            builder.model = cast("str", record["model"]) or builder.model
        if isinstance(record.get("id"), str | int):
            builder.answer_id = str(record["id"]) or builder.answer_id
        if choice.get("error"):
            self.refuse_error(choice)
        delta = choice.get("delta")
        if isinstance(delta, dict) and delta:
            self._take_delta(cast("JsonObject", delta))
        elif (message := self._message_of(record, choice)) is not None and builder.is_empty:
            # A whole message where pieces are expected; behind pieces it only says them again.
            self._take_delta(message)
        reason = choice.get("finish_reason") or choice.get("stop_reason") or record.get("finish_reason")
        if isinstance(delta, dict):
            reason = reason or cast("JsonObject", delta).get("finish_reason")
        if isinstance(reason, str):
            if meaning_of(reason) is not None:  # not `null`, as text
                builder.reason = reason.strip()
        elif isinstance(reason, dict):
            builder.reason = str(cast("JsonObject", reason).get("type") or "stop")
        elif record.get("done") is True and builder.reason is None:
            builder.reason = str(record.get("done_reason") or "stop")  # Ollama's own API

    def _message_of(self, record: JsonObject, choice: JsonObject) -> JsonObject | None:
        message = choice.get("message") or record.get("message")
        if isinstance(message, dict):
            return cast("JsonObject", message)
        if isinstance(choice.get("text"), str):
            return {"content": choice["text"]}
        if isinstance(choice.get("delta"), str):
            return {"content": choice["delta"]}
        return None

    def _take_delta(self, delta: JsonObject) -> None:
        builder = self.builder
        for name in _THINKING_FIELDS:
            if thought := "".join(_texts(delta.get(name))):
                builder.add("thinking", thought, name)
                break  # servers that send two of these fields say the same in both
        else:
            for thought in _details_of_reasoning(delta.get(REASONING_DETAILS)):
                builder.add("thinking", thought, "reasoning")
        self._take_details(delta.get(REASONING_DETAILS))
        content = delta.get("content")
        if isinstance(content, str):
            if content:
                builder.add_content(content)
        elif content is not None:
            self._take_parts(content)
        if isinstance(delta.get("refusal"), str) and delta["refusal"]:
            builder.refusal.append(cast("str", delta["refusal"]))
        calls = delta.get("tool_calls")
        if isinstance(calls, dict):
            calls = [cast("JsonObject", calls)]
        if isinstance(calls, list):
            for call in cast("list[object]", calls):
                if isinstance(call, dict):
                    self._take_call(cast("JsonObject", call))
        legacy = delta.get("function_call")
        if isinstance(legacy, dict):
            self._take_call({"index": 0, "function": cast("JsonObject", legacy)})

    def _take_details(self, value: object) -> None:
        """Keep what OpenRouter wants back as it was: signatures and encrypted thoughts among it.

        Pieces of one detail have one `index` and `type`.
        https://openrouter.ai/docs/use-cases/reasoning-tokens
        """
        for detail in cast("list[object]", value) if isinstance(value, list) else []:
            if not isinstance(detail, dict):
                continue
            piece = cast("JsonObject", detail)
            last = self._details[-1] if self._details else {}
            if last and all(last.get(name) == piece.get(name) for name in ("index", "type")):
                for name, content in piece.items():
                    before = last.get(name)
                    if name in _GROWING and isinstance(before, str) and isinstance(content, str):
                        last[name] = before + content
                    elif content is not None:
                        last[name] = content
            else:
                self._details.append({**piece})
            if self._detailed is None:
                self._detailed = self.builder.passage("thinking", "reasoning")
                self._detailed.details = {REASONING_DETAILS: self._details}

    def _take_parts(self, content: object) -> None:
        """Mistral's and Anthropic's parts, alone or in a list."""
        for part in cast("list[object]", content) if isinstance(content, list) else [content]:
            if isinstance(part, str):
                self.builder.add_content(part)
            elif isinstance(part, dict):
                fields = cast("JsonObject", part)
                kind = fields.get("type")
                if kind in _THINKING_PARTS or (kind is None and "thinking" in fields):
                    thought = "".join(
                        _texts(fields.get("thinking") or fields.get("text") or fields.get("content"))
                    )
                    self.builder.add("thinking", thought, "thinking")
                elif kind == "refusal":
                    self.builder.refusal.extend(_texts(fields.get("refusal")))
                elif kind == "tool_use":
                    self._take_call({**fields, "arguments": fields.get("input")})
                else:
                    for text in _texts(fields.get("text") or fields.get("content")):
                        self.builder.add_content(text)

    def _take_call(self, call: JsonObject) -> None:
        function = call.get("function")
        fields = cast("JsonObject", function) if isinstance(function, dict) else call
        index, call_id, extra = call.get("index"), call.get("id"), call.get("extra_content")
        arguments, name = fields.get("arguments", fields.get("parameters")), fields.get("name")
        self.builder.add_call(
            str(index) if isinstance(index, int | str) and not isinstance(index, bool) else None,
            str(call_id) if isinstance(call_id, str | int) and not isinstance(call_id, bool) else "",
            name if isinstance(name, str) else "",
            arguments,
            {"extra_content": cast("JsonObject", extra)} if isinstance(extra, dict) else None,
        )


def _first_choice(record: JsonObject) -> JsonObject | None:
    """The choice that counts: index 0, or the first that is there. Others were not asked for."""
    choices = record.get("choices")
    if isinstance(choices, dict):
        return cast("JsonObject", choices)
    if isinstance(choices, list):
        found = [cast("JsonObject", each) for each in cast("list[object]", choices) if isinstance(each, dict)]
        wanted = [each for each in found if each.get("index") in (0, None, "0")]
        return wanted[0] if wanted else {}
    if isinstance(record.get("message"), dict) and "error" not in record:
        return {}
    if record.get("object") in ("chat.completion.chunk", "chat.completion") and not record.get("error"):
        return {}
    return None


def _texts(value: object) -> Iterator[str]:
    """The text in a value: itself, or what its parts hold."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        for item in cast("list[object]", value):
            yield from _texts(item)
    elif isinstance(value, dict):
        fields = cast("JsonObject", value)
        for name in ("text", "content", "thinking", "summary"):
            if fields.get(name):
                yield from _texts(fields[name])
                return


def _details_of_reasoning(value: object) -> Iterator[str]:
    """OpenRouter's list; encrypted parts of it say nothing to anybody here."""
    if isinstance(value, list):
        for item in cast("list[object]", value):
            if isinstance(item, dict):
                yield from _texts(cast("JsonObject", item))
