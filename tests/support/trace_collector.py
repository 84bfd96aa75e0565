"""An OpenTelemetry collector for tests: takes traces by OTLP/HTTP on loopback, and keeps them."""

import asyncio
import ssl
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from thread_server import ThreadServer

WAIT_SECONDS: Final = 60.0


@dataclass(frozen=True)
class CollectedSpan:
    """One span, with what its resource says."""

    span: Span
    resource: dict[str, object]

    @property
    def name(self) -> str:
        """What it is called."""
        return self.span.name

    @property
    def attributes(self) -> dict[str, object]:
        """By name."""
        return _attributes(self.span.attributes)

    @property
    def events(self) -> list[tuple[str, dict[str, object]]]:
        """Names and attributes."""
        return [(event.name, _attributes(event.attributes)) for event in self.span.events]

    @property
    def operation(self) -> object:
        """`chat`, `execute_tool` or `invoke_agent`; None for a span that is not pydantic-ai's."""
        return self.attributes.get("gen_ai.operation.name")


class TraceCollector(ThreadServer):
    """Keeps what it is sent. `status` is its answer; `is_silent` makes it give none at all."""

    def __init__(
        self, *, status: int = 200, is_silent: bool = False, tls: ssl.SSLContext | None = None
    ) -> None:
        super().__init__(tls=tls)
        self.status = status
        self.is_silent = is_silent
        self.answers: list[tuple[int, dict[str, str]]] = []
        """Statuses and headers of the next answers, before `status`."""
        self.bodies: list[bytes] = []
        self.heads: list[str] = []
        """First line and headers of each request, in the order of `bodies`."""
        self._changed = threading.Condition()

    @property
    def url(self) -> str:
        """For OTEL_EXPORTER_OTLP_ENDPOINT."""
        return f"{'http' if self._tls is None else 'https'}://{self.host}:{self.port}"

    @property
    def spans(self) -> list[CollectedSpan]:
        """All that came, in the order in which they ended."""
        return [
            CollectedSpan(span, _attributes(resource.resource.attributes))
            for body in self.bodies
            for resource in ExportTraceServiceRequest.FromString(body).resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]

    def wait_for(self, is_it: Callable[[CollectedSpan], bool]) -> CollectedSpan:
        """The first span of which that is true."""
        found: list[CollectedSpan] = []

        def has_come() -> bool:
            found[:] = filter(is_it, self.spans)
            return bool(found)

        with self._changed:
            if not self._changed.wait_for(has_come, WAIT_SECONDS):
                raise TimeoutError("no such span came")
        return found[0]

    def wait_for_requests(self, count: int) -> None:
        """Wait until so many have come."""
        with self._changed:
            if not self._changed.wait_for(lambda: len(self.bodies) >= count, WAIT_SECONDS):
                raise TimeoutError(f"{len(self.bodies)} of {count} requests came")

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            headers = dict(line.lower().split(": ", 1) for line in head.split("\r\n")[1:] if line)
            body = await reader.readexactly(int(headers["content-length"]))
            with self._changed:
                self.heads.append(head)
                self.bodies.append(body)
                self._changed.notify_all()
            if self.is_silent:
                await asyncio.Event().wait()
            status, more = self.answers.pop(0) if self.answers else (self.status, {})
            lines = "".join(f"{name}: {value}\r\n" for name, value in more.items())
            writer.write(f"HTTP/1.1 {status} Stand-in\r\n{lines}Content-Length: 0\r\n\r\n".encode())
            await writer.drain()


def _attributes(pairs: Iterable[KeyValue]) -> dict[str, object]:
    attributes: dict[str, object] = {}
    for pair in pairs:
        kind = pair.value.WhichOneof("value")
        attributes[pair.key] = None if kind is None else getattr(pair.value, kind)
    return attributes
