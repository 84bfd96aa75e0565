"""Models that speak OpenAI's wire formats. Imported only when one is used: the SDK costs 30 MB.

OpenAI itself is asked through its Responses API, which alone lets its reasoning models keep their
reasoning between tool calls; every other server through Chat Completions, which all of them speak.
"""

from collections.abc import AsyncIterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, cast

from openai import AsyncOpenAI, Omit
from openai.types.chat import ChatCompletionAssistantMessageParam, ChatCompletionMessageParam
from openai.types.responses import ResponseInputItemParam
from pydantic_ai.messages import (
    ModelMessage,
    ModelRequest,
    ModelResponse,
    ModelResponsePart,
    TextPart,
    ThinkingPart,
)
from pydantic_ai.models import Model, ModelRequestParameters
from pydantic_ai.models.ollama import OllamaModel
from pydantic_ai.models.openai import (
    OpenAIChatModel,
    OpenAIChatModelSettings,
    OpenAIResponsesModel,
    OpenAIResponsesModelSettings,
)
from pydantic_ai.profiles import ModelProfile, merge_profile
from pydantic_ai.profiles.openai import OpenAIModelProfile
from pydantic_ai.providers import Provider
from pydantic_ai.providers.ollama import OllamaProvider
from pydantic_ai.providers.openai import OpenAIProvider
from pydantic_ai.settings import ModelSettings

from agent_runner.models.answer_builder import AnswerBuilder, Passage
from agent_runner.models.asking import AsksDirectly, DirectModel, Endpoint
from agent_runner.models.chat_reader import REASONING_DETAILS, ChatReader
from agent_runner.models.direct_openai import DirectOpenAI
from agent_runner.models.event_stream import JsonObject
from agent_runner.models.per_message import Begun, PerMessage, stands_alone
from agent_runner.models.responses_reader import ResponsesReader
from agent_runner.models.written_request import WrittenRequest

OPENAI_BASE_URL: Final = "https://api.openai.com/v1"
_FROM: Final = "endpoint"
NO_KEY: Final = "no-key"
"""What servers that need no key are sent, and what the SDK, which insists on one, is given."""


class CompatibleProvider(OpenAIProvider):
    """Any server with OpenAI's Chat Completions API; its prices and powers are not OpenAI's."""

    @property
    def name(self) -> str:
        return "openai-compatible"

    @staticmethod
    def model_profile(model_name: str) -> ModelProfile | None:
        # Strict tool schemas are OpenAI's own; several servers refuse them.
        return merge_profile(
            OpenAIProvider.model_profile(model_name),
            OpenAIModelProfile(
                openai_supports_strict_tool_definition=False,
                openai_chat_supports_allowed_tools=False,
                supports_cache=False,
                # Many have none, and some take the schema and pass it over.
                supports_json_schema_output=False,
                # Chat templates of many models take one, and at the beginning only.
                openai_chat_supports_multiple_system_messages=False,
            ),
        )


class _OllamaProvider(OllamaProvider):
    """Ollama's, with its models' chat templates in mind."""

    @staticmethod
    def model_profile(model_name: str) -> ModelProfile | None:
        return merge_profile(
            OllamaProvider.model_profile(model_name),
            OpenAIModelProfile(openai_chat_supports_multiple_system_messages=False),
        )


class ChatModel(DirectModel, OpenAIChatModel):
    """A model that speaks Chat Completions. pydantic-ai writes the request; asking and reading are ours."""

    path = "/chat/completions"
    notes_in_results = True

    def __init__(self, name: str, endpoint: Endpoint, provider: Provider[AsyncOpenAI]) -> None:
        super().__init__(name, provider=provider)
        AsksDirectly.__init__(self, endpoint)
        self._written = PerMessage[list[ChatCompletionMessageParam]]()
        # A name of its own: `AsksDirectly` has such a one of the conversation before it is written.
        self._begun_written, self._items = Begun(), list[ChatCompletionMessageParam]()

    async def body_of(
        self, messages: list[ModelMessage], settings: ModelSettings, parameters: ModelRequestParameters
    ) -> tuple[JsonObject, Mapping[str, str]]:
        """What pydantic-ai would send."""
        prepared, parameters = self.prepare_request(settings, parameters)
        written = cast(
            "WrittenRequest",
            await self._completions_create(
                messages, True, cast("OpenAIChatModelSettings", prepared or {}), parameters
            ),
        )
        return written.body, written.headers

    def reader(self, builder: AnswerBuilder) -> ChatReader:
        """Reads one answer."""
        return ChatReader(self.model_name, builder)

    def part_of(self, passage: Passage) -> ModelResponsePart | None:
        """A passage with what the endpoint wants back."""
        if passage.details is None:
            return super().part_of(passage)
        details = {**passage.details, _FROM: self.endpoint.base_url}
        return ThinkingPart(passage.text, id=passage.key, provider_name=self.system, provider_details=details)

    async def _map_messages(
        self,
        messages: Sequence[ModelMessage],
        model_request_parameters: ModelRequestParameters,
        *,
        model_settings: ModelSettings | None = None,
    ) -> list[ChatCompletionMessageParam]:
        async def written(some: Sequence[ModelMessage]) -> list[ChatCompletionMessageParam]:
            return await super(ChatModel, self)._map_messages(
                some, model_request_parameters, model_settings=model_settings
            )

        begun, whole = self._begun_written.known(messages), None
        if begun and self._goes_on_plainly(messages[begun:], model_request_parameters):
            new = await written(messages[begun:])
            # Instructions come first, and then the answer that what is new begins with.
            place = next((at for at, each in enumerate(new) if each["role"] == "assistant"), None)
            if place is not None:
                whole = [*new[:place], *(each.copy() for each in self._items), *new[place:]]
        if whole is None:
            self._written.begin()
            begun, self._items = 0, []
            whole = await written(messages)
        self._note_items(messages, begun)
        return whole

    def _goes_on_plainly(self, new: Sequence[ModelMessage], parameters: ModelRequestParameters) -> bool:
        """Whether what is new is written alike without what was before it."""
        profile = self.profile
        return (
            isinstance(next(iter(new), None), ModelResponse)
            and all(map(_is_without_thinking, new))
            # Otherwise pydantic-ai looks at earlier requests.
            and parameters.instruction_parts is not None
            and profile.get("openai_system_prompt_role", None) != "user"
            and not profile.get("openai_chat_thinking_requires_field_on_tool_calls", False)
        )

    def _note_items(self, messages: Sequence[ModelMessage], begun: int) -> None:
        """Keep what messages were written as for the next request, where its end can be written alone."""
        self._begun_written.note([])
        for message in messages[begun:]:
            items = self._written.find(message)
            if items is None or not _is_without_thinking(message):
                return
            self._items += items
        self._begun_written.note(messages)

    async def _map_user_message(self, message: ModelRequest) -> AsyncIterable[ChatCompletionMessageParam]:
        written = self._written.find(message)
        if written is None:
            mapped = super()._map_user_message(message)
            written = [each async for each in mapped]
            self._keep_written(message, written)
        for each in written:
            yield each.copy()

    def _map_model_response(self, message: ModelResponse) -> ChatCompletionMessageParam | None:
        written = self._written.find(message)
        if written is None:
            one = super()._map_model_response(message)
            written = [] if one is None else [one]
            self._keep_written(message, written)
        return written[0].copy() if written else None

    def _keep_written(self, message: ModelMessage, written: list[ChatCompletionMessageParam]) -> None:
        # Lists of contents are changed in place later, where parts of the prompt are marked for a cache.
        if not any(isinstance(each.get("content"), list) for each in written):
            self._written.keep(message, written)

    @dataclass
    class _MapModelResponseContext(OpenAIChatModel._MapModelResponseContext):  # pyright: ignore[reportPrivateUsage]
        """With OpenRouter's details of reasoning, for the endpoint that they came from."""

        reasoning_details: list[object] = field(default_factory=list[object])

        def _into_message_param(self) -> ChatCompletionAssistantMessageParam | None:
            message = super()._into_message_param()
            if message is not None and self.reasoning_details:
                cast("JsonObject", message)[REASONING_DETAILS] = self.reasoning_details
            return message

        def _map_response_thinking_part(self, item: ThinkingPart) -> None:
            details, model = item.provider_details or {}, self._model
            if REASONING_DETAILS not in details:
                super()._map_response_thinking_part(item)
            elif isinstance(model, ChatModel) and details.get(_FROM) == model.endpoint.base_url:
                self.reasoning_details.extend(details[REASONING_DETAILS])
            elif item.content:
                super()._map_response_thinking_part(item)


def _is_without_thinking(message: ModelMessage) -> bool:
    """Thinking is written by what else the conversation has of it."""
    return stands_alone(message) and not any(isinstance(part, ThinkingPart) for part in message.parts)


class ResponsesModel(DirectModel, OpenAIResponsesModel):
    """A model of OpenAI's, asked through its Responses API."""

    path = "/responses"

    def __init__(self, name: str, endpoint: Endpoint, provider: Provider[AsyncOpenAI]) -> None:
        super().__init__(name, provider=provider)
        AsksDirectly.__init__(self, endpoint)
        self._written = PerMessage[list[ResponseInputItemParam]]()
        self._written_with: OpenAIResponsesModelSettings | None = None

    async def body_of(
        self, messages: list[ModelMessage], settings: ModelSettings, parameters: ModelRequestParameters
    ) -> tuple[JsonObject, Mapping[str, str]]:
        """What pydantic-ai would send."""
        prepared, parameters = self.prepare_request(settings, parameters)
        written = cast(
            "WrittenRequest",
            await self._responses_create(
                messages, True, cast("OpenAIResponsesModelSettings", prepared or {}), parameters
            ),
        )
        return written.body, written.headers

    def reader(self, builder: AnswerBuilder) -> ResponsesReader:
        """Reads one answer."""
        return ResponsesReader(self.model_name, builder)

    def part_of(self, passage: Passage) -> ModelResponsePart | None:
        """A passage with the ids and signatures that OpenAI wants back."""
        text, item_id = passage.text, passage.key or None
        if not text.strip() and not passage.signature and not passage.details:
            return None
        if passage.kind == "text":
            return TextPart(text, id=item_id, provider_name=self.system, provider_details=passage.details)
        return ThinkingPart(
            text,
            id=item_id,
            signature=passage.signature,
            provider_name=self.system,
            provider_details=passage.details,
        )

    async def _map_messages(
        self,
        messages: list[ModelMessage],
        model_settings: OpenAIResponsesModelSettings,
        model_request_parameters: ModelRequestParameters,
        *,
        standing_prompt_retained: bool = True,
        previous_response_id: str | None = None,
    ) -> tuple[str | Omit, list[ResponseInputItemParam]]:
        async def written(some: list[ModelMessage]) -> tuple[str | Omit, list[ResponseInputItemParam]]:
            return await super(ResponsesModel, self)._map_messages(
                some,
                model_settings,
                model_request_parameters,
                standing_prompt_retained=standing_prompt_retained,
                previous_response_id=previous_response_id,
            )

        if self._written_with != model_settings:
            self._written, self._written_with = PerMessage[list[ResponseInputItemParam]](), model_settings
        self._written.begin()
        if previous_response_id or model_request_parameters.native_tools or self._looks_around:
            return await written(messages)
        items: list[ResponseInputItemParam] = []
        for message in messages:
            known = self._written.find(message)
            if known is None:
                if not stands_alone(message):
                    return await written(messages)
                known = self._written.keep(message, (await written([message]))[1])
            items += [each.copy() for each in known]
        # Where the request itself names no instructions, pydantic-ai looks at the last two messages to it.
        instructions, _ = await written(messages[-3:])
        return instructions, items

    @property
    def _looks_around(self) -> bool:
        """Whether how a message is written depends on its neighbours, as with some compatible servers."""
        profile = self.profile
        return not profile.get("openai_responses_supports_interleaved_function_calls", True) or profile.get(
            "openai_responses_tool_call_ids_are_response_scoped", False
        )


class _OllamaChatModel(ChatModel, OllamaModel):
    """Ollama's, with what pydantic-ai knows of it."""


def openai_model(name: str, *, endpoint: Endpoint) -> Model:
    """A model of OpenAI's."""
    return ResponsesModel(name, endpoint, OpenAIProvider(openai_client=_client(endpoint)))


def compatible_model(name: str, *, endpoint: Endpoint) -> Model:
    """A model on any server with OpenAI's Chat Completions API."""
    return ChatModel(name, endpoint, CompatibleProvider(openai_client=_client(endpoint)))


def ollama_model(name: str, *, endpoint: Endpoint) -> Model:
    """A model that Ollama runs."""
    return _OllamaChatModel(name, endpoint, _OllamaProvider(openai_client=_client(endpoint)))


def _client(endpoint: Endpoint) -> AsyncOpenAI:
    return DirectOpenAI(api_key=NO_KEY, base_url=endpoint.base_url, http_client=endpoint.client)
