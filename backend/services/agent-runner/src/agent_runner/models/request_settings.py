"""Translates an agent's model settings into pydantic-ai's. Says nothing of which model is asked."""

from typing import Final

from pydantic_ai.settings import ModelSettings as RequestSettings

from agent_runner.settings import RunnerSettings
from stigmer_contract.manifest import ModelSettings

DEFAULT_SILENCE_SECONDS: Final = 600.0


def model_settings(wanted: ModelSettings, settings: RunnerSettings) -> RequestSettings:
    """How each request of an agent is made; the runner's defaults apply where the agent says nothing.

    `timeout` holds for the first piece of an answer and between two pieces, however long all of it takes.
    """
    # An agent sends its whole conversation with each turn, so a provider that can cache it should.
    request = RequestSettings(timeout=DEFAULT_SILENCE_SECONDS, cache=True)
    if wanted.timeout is not None:
        request["timeout"] = wanted.timeout.total_seconds()
    if wanted.top_p is not None:
        request["top_p"] = wanted.top_p
    if wanted.seed is not None:
        request["seed"] = wanted.seed
    if wanted.thinking is not None:
        request["thinking"] = wanted.thinking
    max_tokens = wanted.max_tokens or settings.llm_max_tokens
    if max_tokens is not None:
        request["max_tokens"] = max_tokens
    temperature = settings.llm_temperature if wanted.temperature is None else wanted.temperature
    if temperature is not None:
        request["temperature"] = temperature
    return request
