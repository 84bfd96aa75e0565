"""The runner's settings: what its environment says, read once. Nothing else reads the environment."""

from agent_runner.settings.runner_settings import (
    KeyedEndpoint,
    RunnerSettings,
    load_settings,
    read_health_address,
    secrets_of,
    variables,
)
from agent_runner.settings.values import Variable, read_headers

__all__ = [
    "KeyedEndpoint",
    "RunnerSettings",
    "Variable",
    "load_settings",
    "read_headers",
    "read_health_address",
    "secrets_of",
    "variables",
]
