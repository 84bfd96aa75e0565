"""Builds models of Anthropic's. Imported only when one is used: the SDK costs 40 MB."""

from typing import Final

import httpx2
from anthropic import AsyncAnthropic
from pydantic_ai.models import Model
from pydantic_ai.models.anthropic import AnthropicModel
from pydantic_ai.providers.anthropic import AnthropicProvider

ANTHROPIC_BASE_URL: Final = "https://api.anthropic.com"


def anthropic_model(name: str, *, api_key: str, base_url: str, http_client: httpx2.AsyncClient) -> Model:
    """A model of Anthropic's. `base_url` may end in `/v1` or not; the SDK adds it."""
    client = AsyncAnthropic(
        api_key=api_key, base_url=base_url.removesuffix("/v1"), http_client=http_client, max_retries=0
    )
    return AnthropicModel(name, provider=AnthropicProvider(anthropic_client=client))
