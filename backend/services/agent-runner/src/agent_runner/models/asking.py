"""Asks a model of a provider for one answer: request, reading, judging how it ended, and what to send back.

A request whose conversation the provider does not take is asked again with the conversation repaired: what
is sent then is said to the watcher. All other failures are for the journal to ask again, or not.
"""

import asyncio
import json
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final, Protocol, cast

import httpx2
from pydantic_ai.messages import (
    FinishReason,
    ModelMessage,
    ModelResponse,
    ModelResponsePart,
    TextPart,
    ThinkingPart,
    ToolCallPart,
)
from pydantic_ai.models import Model, ModelRequestParameters
from pydantic_ai.settings import ModelSettings
from pydantic_core import to_json

from agent_runner.models.answer_builder import AnswerBuilder, AnswerKind, Passage
from agent_runner.models.end_reasons import AnswerEnd, meaning_of
from agent_runner.models.event_stream import JsonObject
from agent_runner.models.history_repair import Repair, as_taken_back, is_same, repaired
from agent_runner.models.model_faults import (
    ModelRequestFailed,
    context_full,
    odd_answer,
    refused_by_model,
    silent,
    unavailable,
)
from agent_runner.models.notes import with_notes_in_place
from agent_runner.models.per_message import Begun, PerMessage, Prepared
from agent_runner.models.provider_call import AnswerReader, ProviderRequest, read_answer
from agent_runner.models.request_settings import DEFAULT_SILENCE_SECONDS
from agent_runner.models.tool_calls import CallDraft, finished_calls, whole_text
from agent_runner.models.usage_reports import estimated_usage, usage_of

USER_AGENT: Final = "stigmer-agent-runner"


class Watcher(Protocol):
    """Who is told of an answer while it is made. Must not wait."""

    def show_answer(self, kind: AnswerKind, text: str) -> None:
        """A piece of it."""

    def note_repair(self, what: str) -> None:
        """The provider did not take the conversation as it was; this was changed for it."""


class NoWatcher:
    """Nobody looks."""

    def show_answer(self, kind: AnswerKind, text: str) -> None:
        """Pass."""

    def note_repair(self, what: str) -> None:
        """Pass."""


@dataclass(frozen=True)
class Endpoint:
    """Where a provider is asked, and as whom."""

    base_url: str
    """May have a query, which each request gets (Azure's `api-version`)."""
    headers: Mapping[str, str] = field(repr=False)
    client: httpx2.AsyncClient

    def url(self, path: str) -> str:
        """Of one of its operations; `path` begins with a slash."""
        base, mark, query = self.base_url.partition("?")
        return f"{base.rstrip('/')}{path}{mark}{query}"


class Answers(ABC):
    """A model of ours: it gives whole answers, and shows them while they come."""

    @abstractmethod
    async def answer(
        self,
        messages: list[ModelMessage],
        settings: ModelSettings | None,
        parameters: ModelRequestParameters,
        watcher: Watcher,
    ) -> ModelResponse:
        """One whole answer. A broken one is an error, although its beginning was shown."""


class AsksDirectly(Answers):
    """What our models of all providers have in common. A model is used by one leg at a time."""

    path: str
    _repair: Repair = Repair.NONE
    """How far the conversation has to be changed for this provider; found out by asking."""
    notes_in_results: bool = False
    """Whether a note of ours behind a tool's result becomes a part of that."""

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        self._taken_back = PerMessage[ModelMessage]()
        self._begun, self._made = Begun(), list[ModelMessage]()
        self._with_ids, self._ids = Begun(), set[str]()
        self._prepared = Prepared()

    # What pydantic-ai's models have.
    @property
    @abstractmethod
    def model_name(self) -> str: ...

    @property
    @abstractmethod
    def system(self) -> str: ...

    @abstractmethod
    async def body_of(
        self, messages: list[ModelMessage], settings: ModelSettings, parameters: ModelRequestParameters
    ) -> tuple[JsonObject, Mapping[str, str]]:
        """The body of a request, and further headers."""

    @abstractmethod
    def reader(self, builder: AnswerBuilder) -> AnswerReader:
        """Reads one answer."""

    def part_of(self, passage: Passage) -> ModelResponsePart | None:
        """A passage as it is kept; None where it is not worth keeping."""
        text = passage.text
        if not text.strip():
            return None
        if passage.kind == "text":
            return TextPart(text)
        return ThinkingPart(text, id=passage.key, provider_name=self.system)

    async def answer(
        self,
        messages: list[ModelMessage],
        settings: ModelSettings | None,
        parameters: ModelRequestParameters,
        watcher: Watcher,
    ) -> ModelResponse:
        """One whole answer.

        Raises:
            ModelRequestFailed: there is none.
        """
        messages = self.as_taken_back(messages)
        repair, refusal = self._repair, ""
        sent = repaired(messages, repair)
        while True:
            try:
                response = await self._ask(sent, settings, parameters, watcher)
            except ModelRequestFailed as error:
                if not error.fault.refuses_history:
                    raise
                before = sent
                while repair < Repair.AS_TEXT and is_same(sent, before):
                    repair = Repair(repair + 1)
                    sent = repaired(messages, repair)
                if is_same(sent, before):
                    raise
                refusal = error.fault.message
                continue
            if repair is not self._repair:
                self._repair = repair
                watcher.note_repair(f"{repair.description} ({refusal})")
            return response

    def as_taken_back(self, messages: Sequence[ModelMessage]) -> list[ModelMessage]:
        """The conversation in a form that this model's provider takes; of a message always the same."""
        known, in_results = self._taken_back, self.notes_in_results
        begun = self._begun.known(messages)
        if not begun:
            known.begin()
        made = [
            known.find(message)
            or known.keep(message, as_taken_back(with_notes_in_place(message, in_results=in_results)))
            for message in messages[begun:]
        ]
        self._begun.note(messages)
        self._made = [*self._made[:begun], *made]
        return list(self._made)

    def _used_ids(self, messages: Sequence[ModelMessage]) -> set[str]:
        """Those of the conversation's calls."""
        begun = self._with_ids.known(messages)
        if not begun:
            self._ids = set[str]()
        self._ids.update(
            part.tool_call_id
            for message in messages[begun:]
            if isinstance(message, ModelResponse)
            for part in message.parts
            if isinstance(part, ToolCallPart)
        )
        self._with_ids.note(messages)
        return set(self._ids)

    async def _ask(
        self,
        messages: list[ModelMessage],
        settings: ModelSettings | None,
        parameters: ModelRequestParameters,
        watcher: Watcher,
    ) -> ModelResponse:
        body, headers = await self.body_of(messages, settings or ModelSettings(), parameters)
        content = encode_body(body)
        known = {tool.name for tool in (*parameters.function_tools, *parameters.output_tools)}
        builder = AnswerBuilder(known, watcher.show_answer)
        request = ProviderRequest(
            self.endpoint.url(self.path),
            {
                "content-type": "application/json",
                "accept": "text/event-stream",
                "user-agent": USER_AGENT,
                **self.endpoint.headers,
                **headers,
            },
            content,
        )
        reader = self.reader(builder)
        try:
            await self._read(request, reader, _timeout_seconds(settings))
            reader.finish()
            return self._response(builder, messages, len(content))
        except (RecursionError, ValueError) as error:
            # Nested without end, numbers of thousands of digits: no JSON that Python handles.
            problem = f"its answer cannot be read: {type(error).__name__}"
            raise ModelRequestFailed(odd_answer(self.model_name, problem)) from error

    async def _read(self, request: ProviderRequest, reader: AnswerReader, seconds: float) -> None:
        """Read the answer, which may take as long as it likes while no piece takes longer than `seconds`."""
        clock = asyncio.get_running_loop().time
        silence = asyncio.timeout(seconds)
        try:
            async with silence:
                await read_answer(
                    self.endpoint.client, request, reader, lambda: silence.reschedule(clock() + seconds)
                )
        except TimeoutError as error:
            if not silence.expired():
                raise
            if not reader.has_ended:
                has_begun = reader.builder.has_begun
                fault = silent(self.model_name, seconds, has_begun=has_begun)
                raise ModelRequestFailed(fault.once_begun if has_begun else fault) from error
        except ModelRequestFailed as error:
            if reader.builder.has_begun:
                error.fault = error.fault.once_begun
            raise

    # --- the answer -----------------------------------------------------------------------------

    def _response(
        self, builder: AnswerBuilder, messages: Sequence[ModelMessage], request_bytes: int
    ) -> ModelResponse:
        used_ids = self._used_ids(messages)
        parts: list[ModelResponsePart] = []
        for piece in builder.order:
            if isinstance(piece, CallDraft):
                parts += self._calls_of(piece, builder.known_tools, used_ids)
            elif (part := self.part_of(piece)) is not None:
                parts.append(part)
        finish_reason = self._judge(builder, parts)
        usage = (
            usage_of(builder.report)
            if builder.report is not None
            else estimated_usage(request_bytes, builder.characters)
        )
        return ModelResponse(
            parts=parts,
            usage=usage,
            model_name=builder.model or self.model_name,
            timestamp=datetime.now(UTC),
            provider_name=self.system,
            provider_response_id=builder.answer_id,
            provider_details={"finish_reason": builder.reason} if builder.reason else None,
            finish_reason=finish_reason,
        )

    def _calls_of(self, draft: CallDraft, known: Any, used_ids: set[str]) -> list[ModelResponsePart]:
        return [
            ToolCallPart(
                call.name,
                call.arguments,
                call.call_id,
                id=call.item_id,
                provider_name=self.system if call.extra or call.item_id else None,
                provider_details=call.extra,
            )
            for call in finished_calls([draft], known, used_ids)
        ]

    def _judge(self, builder: AnswerBuilder, parts: Sequence[ModelResponsePart]) -> FinishReason:
        """How the answer ended, in pydantic-ai's words.

        Raises:
            ModelRequestFailed: not in a way that leaves an answer.
        """
        name, calls = self.model_name, any(isinstance(part, ToolCallPart) for part in parts)
        text = " ".join(part.content for part in parts if isinstance(part, TextPart))
        refusal = whole_text("".join(builder.refusal))
        if refusal.strip() and not calls:
            raise ModelRequestFailed(refused_by_model(name, refusal))
        end = meaning_of(builder.reason)
        match end:
            case AnswerEnd.GAVE_UP:
                fault = unavailable(
                    f"model {name!r} failed: the provider gave up on the answer ({builder.reason})"
                )
                raise ModelRequestFailed(fault.once_begun if builder.has_begun else fault)
            case AnswerEnd.REFUSED:
                raise ModelRequestFailed(refused_by_model(name, text))
            case AnswerEnd.CONTEXT_FULL:
                raise ModelRequestFailed(context_full(name))
            case AnswerEnd.CUT:
                return "length"
            case AnswerEnd.DONE | None:
                if builder.is_empty and end is None:
                    raise ModelRequestFailed(odd_answer(name, "its answer is empty"))
                return "tool_call" if calls else "stop"


class DirectModel(Model, AsksDirectly):
    """A model of pydantic-ai's, which writes the request; asking and reading are ours. First of the bases."""

    def prepare_messages(
        self, messages: list[ModelMessage], model_request_parameters: ModelRequestParameters | None = None
    ) -> list[ModelMessage]:
        prepare = super().prepare_messages
        return self._prepared.of(messages, lambda new: prepare(new, model_request_parameters))

    async def request(
        self,
        messages: list[ModelMessage],
        model_settings: ModelSettings | None,
        model_request_parameters: ModelRequestParameters,
    ) -> ModelResponse:
        return await self.answer(messages, model_settings, model_request_parameters, NoWatcher())


def encode_body(body: JsonObject) -> bytes:
    """The body as JSON, whatever its texts hold."""
    try:
        return to_json(body)
    except ValueError:
        # Half surrogates, of a file's name say.
        text = json.dumps(body, ensure_ascii=False, default=_as_jsonable)
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace").encode()


def _as_jsonable(value: object) -> object:
    from pydantic_core import to_jsonable_python

    return to_jsonable_python(value)


def _timeout_seconds(settings: ModelSettings | None) -> float:
    timeout = cast("object", (settings or {}).get("timeout"))
    return float(timeout) if isinstance(timeout, int | float) else DEFAULT_SILENCE_SECONDS
