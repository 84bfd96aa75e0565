"""Builds models that speak OpenAI's wire formats. Imported only when one is used: the SDK costs 30 MB.

OpenAI itself is asked through its Responses API, which alone lets its reasoning models keep their
reasoning between tool calls; every other server through Chat Completions, which all of them speak.
"""

from typing import Final

import httpx2
from openai import AsyncOpenAI
from pydantic_ai.models import Model
from pydantic_ai.models.ollama import OllamaModel
from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel
from pydantic_ai.profiles import ModelProfile, merge_profile
from pydantic_ai.profiles.openai import OpenAIModelProfile
from pydantic_ai.providers.ollama import OllamaProvider
from pydantic_ai.providers.openai import OpenAIProvider

from agent_runner.models.direct_openai import DirectOpenAI

OPENAI_BASE_URL: Final = "https://api.openai.com/v1"
NO_KEY: Final = "no-key"
"""What the SDK, which insists on a key, sends to servers that need none."""

# A stream without a finish reason is one that was cut.
_CUT_IS_ERROR: Final = OpenAIModelProfile(openai_chat_streaming_requires_finish_reason=True)


class _CompatibleProvider(OpenAIProvider):
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
            ),
            _CUT_IS_ERROR,
        )


class _OllamaProvider(OllamaProvider):
    @staticmethod
    def model_profile(model_name: str) -> ModelProfile | None:
        return merge_profile(OllamaProvider.model_profile(model_name), _CUT_IS_ERROR)


def openai_model(name: str, *, api_key: str, base_url: str, http_client: httpx2.AsyncClient) -> Model:
    """A model of OpenAI's."""
    client = _client(api_key, base_url, http_client)
    return OpenAIResponsesModel(name, provider=OpenAIProvider(openai_client=client))


def compatible_model(
    name: str, *, api_key: str | None, base_url: str, http_client: httpx2.AsyncClient
) -> Model:
    """A model on any server with OpenAI's Chat Completions API."""
    client = _client(api_key or NO_KEY, base_url, http_client)
    return OpenAIChatModel(name, provider=_CompatibleProvider(openai_client=client))


def ollama_model(name: str, *, api_key: str | None, base_url: str, http_client: httpx2.AsyncClient) -> Model:
    """A model that Ollama runs."""
    client = _client(api_key or NO_KEY, base_url, http_client)
    return OllamaModel(name, provider=_OllamaProvider(openai_client=client))


def _client(api_key: str, base_url: str, http_client: httpx2.AsyncClient) -> AsyncOpenAI:
    return DirectOpenAI(api_key=api_key, base_url=base_url, http_client=http_client, max_retries=0)
