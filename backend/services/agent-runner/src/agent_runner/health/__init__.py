"""The runner's health: the server that tells it, and the probe that asks.

The server is loaded when it is first asked for, because it brings asyncio, which would double the time
of the probe.
"""

from typing import TYPE_CHECKING

from agent_runner.health.probe import probe_health

if TYPE_CHECKING:
    from agent_runner.health.server import Check, HealthServer

__all__ = ["Check", "HealthServer", "probe_health"]


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from agent_runner.health import server

    return getattr(server, name)
