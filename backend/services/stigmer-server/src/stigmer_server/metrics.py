"""What Prometheus is told. Counts only; labels are closed sets, never ids."""

from collections.abc import Mapping
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from stigmer_contract.phases import ExecutionPhase

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
_APPEND_BUCKETS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10)


class Metrics:
    """The metrics of one server, in a registry of its own."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._executions = Gauge(
            "stigmer_executions", "Executions by phase.", ["phase"], registry=self._registry
        )
        self._appended_events = Counter(
            "stigmer_appended_events", "Events appended to logs.", registry=self._registry
        )
        self._append_seconds = Histogram(
            "stigmer_append_seconds",
            "Time from an append's arrival until it is durable.",
            buckets=_APPEND_BUCKETS,
            registry=self._registry,
        )
        self._event_readers = Gauge("stigmer_event_readers", "Open event streams.", registry=self._registry)
        self._requests = Counter(
            "stigmer_http_requests",
            "Answered HTTP requests.",
            ["method", "route", "status"],
            registry=self._registry,
        )

        self._free_bytes = Gauge(
            "stigmer_free_bytes",
            "Room on the disk of what the server keeps.",
            ["of"],
            registry=self._registry,
        )

        self._stored_bytes = Gauge(
            "stigmer_stored_bytes",
            "What the server keeps takes, as measured every five minutes.",
            ["of"],
            registry=self._registry,
        )

    def observe_append(self, seconds: float, event_count: int) -> None:
        """Count an append that has been answered."""
        self._append_seconds.observe(seconds)
        self._appended_events.inc(event_count)

    def observe_request(self, method: str, route: str, status: int) -> None:
        """Count a request; `route` is the path's template."""
        self._requests.labels(method, route, str(status)).inc()

    def render(
        self,
        executions_by_phase: Mapping[str, int],
        reader_count: int,
        free_bytes: Mapping[str, int],
        stored_bytes: Mapping[str, int],
    ) -> bytes:
        """The metrics in Prometheus' text format."""
        for phase in ExecutionPhase:
            self._executions.labels(phase.value).set(executions_by_phase.get(phase.value, 0))
        self._event_readers.set(reader_count)
        for what, free in free_bytes.items():
            self._free_bytes.labels(what).set(free)
        for what, stored in stored_bytes.items():
            self._stored_bytes.labels(what).set(stored)
        return generate_latest(self._registry)
