"""Asks a component whether it is ready, over the network; each question waits for a bounded time.

Judges nothing by memory, and starts nothing.
"""

import http.client
import json
import socket
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from stigmer_cli.stack.grpc_health import is_serving

PROBE_TIMEOUT_SECONDS = 0.3
"""All the components are on this machine, and `stigmer server status` answers within half a second."""
ELSEWHERE_TIMEOUT_SECONDS = 2.0
_MAX_ANSWER_BYTES = 65_536
_TEMPORAL_FRONTEND = "temporal.api.workflowservice.v1.WorkflowService"


NOTHING_ANSWERS = "nothing answers there"
TOO_SLOW = "it does not answer in time"
NOT_SERVING = "it does not serve yet"
USUAL_AT_START = frozenset({NOTHING_ANSWERS, TOO_SLOW, NOT_SERVING})
"""What is said of every component for a while, and means nothing."""


@dataclass(frozen=True)
class Health:
    """What a component answered."""

    ready: bool
    reason: str | None = None
    """Why it is not ready."""
    version: str | None = None
    """Where the component tells it."""
    isolation: str | None = None
    """How well a runner isolates commands: `full`, `good`, `partial`, `weak` or `none`."""
    bubblewrap: str | None = None
    """Whether bubblewrap hides from them what they may not use, and if not, why; None: not told."""
    isolation_findings: tuple[str, ...] = ()
    """What commands could do that they should not."""
    warnings: tuple[str, ...] = ()
    """What should be seen to before it keeps the component from being ready."""
    other_build: str | None = None
    """What to do, where the server is another build than a runner of the same version."""


Probe = Callable[[], Health]
"""Asks one component; never raises, and returns within a second."""


def http_probe(host: str, port: int) -> Probe:
    """Asks `/readyz`, which answers 200 or 503 with a `Readiness` document (stigmer_contract.api)."""

    def probe() -> Health:
        connection = http.client.HTTPConnection(host, port, timeout=PROBE_TIMEOUT_SECONDS)
        try:
            connection.request("GET", "/readyz")
            response = connection.getresponse()
            body = response.read(_MAX_ANSWER_BYTES)
        except (OSError, http.client.HTTPException) as error:
            return Health(ready=False, reason=_why(error))
        finally:
            connection.close()
        return _read_readiness(response.status, body)

    return probe


def endpoint_probe(url: str, authorities: Path | None) -> Probe:
    """Asks `/readyz` of a server elsewhere, at `http://…` or `https://…`."""

    def probe() -> Health:
        import ssl  # 15 ms that nobody needs on this machine
        from urllib.parse import urlsplit

        split = urlsplit(url)
        connection = http.client.HTTPConnection(
            split.hostname or "", split.port, timeout=ELSEWHERE_TIMEOUT_SECONDS
        )
        try:
            if split.scheme == "https":
                context = ssl.create_default_context(cafile=authorities)
                connection = http.client.HTTPSConnection(
                    split.hostname or "", split.port, timeout=ELSEWHERE_TIMEOUT_SECONDS, context=context
                )
            connection.request("GET", f"{split.path}/readyz")
            response = connection.getresponse()
            body = response.read(_MAX_ANSWER_BYTES)
        except (OSError, ValueError, http.client.HTTPException) as error:
            return Health(ready=False, reason=_why(error))
        finally:
            connection.close()
        return _read_readiness(response.status, body)

    return probe


def temporal_probe(host: str, port: int) -> Probe:
    """Asks a Temporal without TLS for the health of its frontend."""

    def probe() -> Health:
        try:
            if is_serving(host, port, _TEMPORAL_FRONTEND, PROBE_TIMEOUT_SECONDS):
                return Health(ready=True)
        except OSError as error:
            return Health(ready=False, reason=_why(error))
        return Health(ready=False, reason=NOT_SERVING)

    return probe


def tcp_probe(host: str, port: int) -> Probe:
    """Asks only whether somebody listens: all that can be asked of a Temporal elsewhere without its keys."""

    def probe() -> Health:
        try:
            socket.create_connection((host, port), PROBE_TIMEOUT_SECONDS).close()
        except OSError as error:
            return Health(ready=False, reason=_why(error))
        return Health(ready=True)

    return probe


def _read_readiness(status: int, body: bytes) -> Health:
    try:
        document = cast("dict[str, Any]", json.loads(body))
        version = str(document["version"])
        failed = [
            f"{check['name']}: {check['detail'] or 'not ok'}"
            for check in document["checks"]
            if not check["ok"]
        ]
        ready = document["ready"] is True and status == http.client.OK
        isolation = cast("dict[str, Any]", document.get("isolation") or {})
        level, findings = isolation.get("level"), tuple(map(str, isolation.get("findings", ())))
        bubblewrap = _read_bubblewrap(isolation)
        warnings = tuple(map(str, document.get("warnings") or ()))
        other_build = None if document.get("other_build") is None else str(document["other_build"])
    except (ValueError, KeyError, TypeError, AttributeError):
        return Health(ready=False, reason=f"/readyz answered {status} without a readiness document")
    reason = None if ready else "; ".join(failed) or f"/readyz answered {status}"
    level = None if level is None else str(level)
    if other_build is not None:
        warnings += (other_build,)
    return Health(ready, reason, version, level, bubblewrap, findings, warnings, other_build)


def _read_bubblewrap(isolation: "dict[str, Any]") -> str | None:
    if isolation.get("bubblewrap"):
        return "in bubblewrap"
    reason = isolation.get("no_bubblewrap_because")
    return None if reason is None else f"without bubblewrap ({reason})"


def _why(error: Exception) -> str:
    if isinstance(error, ConnectionRefusedError):
        return NOTHING_ANSWERS
    if isinstance(error, TimeoutError):
        return TOO_SLOW
    return str(error) or type(error).__name__
