"""Speaks to stigmer-server: typed calls, and the stream of an execution's events. Prints nothing."""

from stigmer_cli.api_client.client import AgentChange, ApiClient
from stigmer_cli.api_client.event_stream import follow_events
from stigmer_cli.api_client.http_transport import HttpTransport

__all__ = ["AgentChange", "ApiClient", "HttpTransport", "follow_events"]
