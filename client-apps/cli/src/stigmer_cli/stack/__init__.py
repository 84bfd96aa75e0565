"""The local stack: Temporal, server and runner under one supervisor, as commands use it."""

from stigmer_cli.stack.lifecycle import UNCONTAINED_NOTE, ensure_running, start, stop
from stigmer_cli.stack.model_settings import find_ollama
from stigmer_cli.stack.state import COMPONENT_NAMES, ComponentPhase
from stigmer_cli.stack.status import ComponentStatus, StackStatus, running_version, stack_status

__all__ = [
    "COMPONENT_NAMES",
    "UNCONTAINED_NOTE",
    "ComponentPhase",
    "ComponentStatus",
    "StackStatus",
    "ensure_running",
    "find_ollama",
    "running_version",
    "stack_status",
    "start",
    "stop",
]
