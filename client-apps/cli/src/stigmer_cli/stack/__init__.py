"""The local stack: Temporal, server and runner under one supervisor, as commands use it.

Only what `stigmer run` needs is imported here, since its start-up time matters; the rest is in the modules.
"""

from stigmer_cli.runner.choice import UNCONTAINED_NOTE, why_uncontained
from stigmer_cli.runner.wish import RunnerWish
from stigmer_cli.stack.lifecycle import (
    ENGINE_TIMEOUT_SECONDS,
    ensure_running,
    find_running,
    restart,
    start,
    stop,
)
from stigmer_cli.stack.model_settings import find_ollama
from stigmer_cli.stack.readiness import START_TIMEOUT_SECONDS
from stigmer_cli.stack.state import find_other_build, running_version

__all__ = [
    "ENGINE_TIMEOUT_SECONDS",
    "START_TIMEOUT_SECONDS",
    "UNCONTAINED_NOTE",
    "RunnerWish",
    "ensure_running",
    "find_ollama",
    "find_other_build",
    "find_running",
    "restart",
    "running_version",
    "start",
    "stop",
    "why_uncontained",
]
