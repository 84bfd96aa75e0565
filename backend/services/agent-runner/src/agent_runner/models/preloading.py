"""Imports the SDKs of providers before a model is built: each takes a second or so, and 15 to 40 MB.

Only for a process that stands ready anyway; a runner imports what its executions ask for.
"""

from importlib import import_module

from agent_runner.settings import RunnerSettings


def preload_providers(settings: RunnerSettings) -> None:
    """Import what the models that this runner has keys for will need."""
    if settings.llm_provider == "anthropic" or settings.anthropic_api_key is not None:
        import_module("agent_runner.models.anthropic_models")
    if settings.llm_provider not in ("anthropic", "replay") or settings.openai_api_key is not None:
        import_module("agent_runner.models.openai_models")
