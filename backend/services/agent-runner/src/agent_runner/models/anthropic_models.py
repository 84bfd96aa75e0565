"""Models of Anthropic's. Imported only when one is used: the SDK costs 40 MB."""

from collections.abc import Mapping, Sequence
from typing import Final, cast

from anthropic import AsyncAnthropic, NotGiven, Omit
from anthropic.types.beta import BetaMessageParam
from pydantic_ai.messages import (
    ModelMessage,
    ModelRequest,
    ModelResponse,
    ModelResponsePart,
    TextPart,
    ThinkingPart,
)
from pydantic_ai.models import Model, ModelRequestParameters
from pydantic_ai.models.anthropic import (
    AnthropicModel,
    AnthropicModelSettings,
    _MapMessagesContext,  # pyright: ignore[reportPrivateUsage] - what its methods are given
)
from pydantic_ai.providers.anthropic import AnthropicProvider
from pydantic_ai.settings import ModelSettings

from agent_runner.models.answer_builder import AnswerBuilder, Passage
from agent_runner.models.asking import AsksDirectly, DirectModel, Endpoint
from agent_runner.models.event_stream import JsonObject
from agent_runner.models.messages_reader import REDACTED, MessagesReader
from agent_runner.models.per_message import PerMessage, stands_alone
from agent_runner.models.written_request import written_request

ANTHROPIC_BASE_URL: Final = "https://api.anthropic.com"
ANTHROPIC_VERSION: Final = "2023-06-01"


class MessagesModel(DirectModel, AnthropicModel):
    """A model of Anthropic's. pydantic-ai writes the request; asking and reading are ours.

    What the SDK would do besides, it would do for every message at every turn: see `direct_openai`.
    """

    path = "/messages"

    def __init__(self, name: str, endpoint: Endpoint, provider: AnthropicProvider) -> None:
        super().__init__(name, provider=provider)
        AsksDirectly.__init__(self, endpoint)
        self._written = PerMessage[list[BetaMessageParam]]()

    async def body_of(
        self, messages: list[ModelMessage], settings: ModelSettings, parameters: ModelRequestParameters
    ) -> tuple[JsonObject, Mapping[str, str]]:
        """What pydantic-ai would send."""
        self._written.begin()
        prepared_settings, parameters = self.prepare_request(settings, parameters)
        anthropic_settings = cast("AnthropicModelSettings", prepared_settings or {})
        prepared = await self._prepare_messages_create(messages, anthropic_settings, parameters)
        arguments = self._messages_create_params(
            messages,
            anthropic_settings,
            prepared,
            prepared.container,
            prepared.initial_thinking,
            prepared.initial_thinking_override,
        )
        written = written_request(
            {**arguments, "stream": True, "extra_headers": prepared.extra_headers}, (Omit, NotGiven)
        )
        betas = sorted(prepared.initial_betas)
        return written.body, {**written.headers, **({"anthropic-beta": ",".join(betas)} if betas else {})}

    async def _map_model_request(
        self, message: ModelRequest, standing_prompt_count: int, map_context: _MapMessagesContext
    ) -> None:
        if not self._copy_known(message, map_context):
            before = _end_of(map_context.anthropic_messages)
            await super()._map_model_request(message, standing_prompt_count, map_context)
            self._keep_new(message, map_context, before)

    def _map_model_response(self, message: ModelResponse, map_context: _MapMessagesContext) -> None:
        if not self._copy_known(message, map_context):
            before = _end_of(map_context.anthropic_messages)
            super()._map_model_response(message, map_context)
            self._keep_new(message, map_context, before)

    def _copy_known(self, message: ModelMessage, context: _MapMessagesContext) -> bool:
        known = self._written.find(message)
        if known is not None:
            context.anthropic_messages += map(_copy_of, known)
        return known is not None

    def _keep_new(
        self,
        message: ModelMessage,
        context: _MapMessagesContext,
        before: tuple[int, BetaMessageParam | None],
    ) -> None:
        written, begin = context.anthropic_messages, before[0]
        # Thinking may be put before what came last, where a model is not to see it as its own.
        if stands_alone(message) and _end_of(written[:begin]) == before:
            self._written.keep(message, [_copy_of(each) for each in written[begin:]])

    def reader(self, builder: AnswerBuilder) -> MessagesReader:
        """Reads one answer."""
        return MessagesReader(self.model_name, builder)

    def part_of(self, passage: Passage) -> ModelResponsePart | None:
        """A passage with the signature that Anthropic wants back."""
        text = passage.text
        if not text.strip() and not passage.signature:
            return None
        if passage.kind == "text":
            return TextPart(text)
        return ThinkingPart(
            text,
            id=REDACTED if passage.key == REDACTED else None,
            signature=passage.signature,
            provider_name=self.system,
        )


def _end_of(written: Sequence[BetaMessageParam]) -> tuple[int, BetaMessageParam | None]:
    return len(written), written[-1] if written else None


def _copy_of(message: BetaMessageParam) -> BetaMessageParam:
    """With blocks of its own: marks for the provider's cache are put into them later."""
    copied = {**cast("JsonObject", message)}
    if isinstance(content := copied.get("content"), list):
        copied["content"] = [{**each} for each in cast("list[JsonObject]", content)]
    return cast("BetaMessageParam", copied)


def anthropic_model(name: str, *, endpoint: Endpoint) -> Model:
    """A model of Anthropic's."""
    client = AsyncAnthropic(
        api_key="no-key", base_url=endpoint.base_url, http_client=endpoint.client, max_retries=0
    )
    return MessagesModel(name, endpoint, AnthropicProvider(anthropic_client=client))
