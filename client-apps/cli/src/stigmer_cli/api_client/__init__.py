"""Speaks to stigmer-server: typed calls, and the stream of an execution's events. Prints nothing.

What is named here is imported when it is used: the contract's models take longer to import than a list of
executions takes to be fetched and printed.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from stigmer_cli.api_client.client import AgentChange, ApiClient
    from stigmer_cli.api_client.event_stream import follow_events
    from stigmer_cli.api_client.http_transport import HttpTransport

__all__ = ["AgentChange", "ApiClient", "HttpTransport", "follow_events"]

_MODULES = {
    "AgentChange": "client",
    "ApiClient": "client",
    "HttpTransport": "http_transport",
    "follow_events": "event_stream",
}


def __getattr__(name: str) -> object:
    """Imports what is asked for (PEP 562)."""
    if name not in _MODULES:
        raise AttributeError(name)
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
