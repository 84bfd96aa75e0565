"""Sends spans to a collector by OTLP/HTTP: cleaned when they end, in batches, in no execution's way.

The only module that imports OpenTelemetry's SDK, which the runner does without where nothing is traced.
"""

import logging
import ssl
from collections.abc import Callable, Mapping, Sequence
from typing import Final, cast
from urllib.parse import urlsplit

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.trace import Status
from opentelemetry.util.types import AttributeValue
from pydantic import SecretStr

from agent_runner.settings import read_headers

logger = logging.getLogger(__name__)

SERVICE_NAME: Final = "stigmer-agent-runner"
MAX_QUEUED_SPANS: Final = 2048
MAX_BATCH_SPANS: Final = 256
BATCH_DELAY_MILLISECONDS: Final = 1000.0
"""What a killed runner can lose."""
SEND_TIMEOUT_SECONDS: Final = 2.0
"""For one batch, attempts to send it again included."""
MAX_ATTRIBUTE_CHARACTERS: Final = 1024
MAX_REASON_CHARACTERS: Final = 300

_LEFT_OUT: Final = (
    # The conversation without its texts, whole in each span: it grows with the square of the turns.
    "gen_ai.input.messages",
    "gen_ai.output.messages",
    "pydantic_ai.all_messages",
    "gen_ai.system_instructions",
    "gen_ai.tool.definitions",
    "logfire.json_schema",
    # Counts answers of earlier legs again; each request's own span tells what it used.
    "gen_ai.aggregated_usage.",
)
"""Beginnings of the names of attributes."""

Mask = Callable[[str], str]


def open_provider(
    endpoint: str, headers: SecretStr | None, version: str, mask: Mask, *, replayed_mark: str
) -> TracerProvider:
    """A provider whose spans go to the collector at the URL `endpoint`, with `headers` as `a=b,c=d`.

    Spans with a true attribute `replayed_mark` are not sent.
    """
    exporter = OTLPSpanExporter(
        f"{endpoint}/v1/traces",
        # As the runner's other clients, which find them by SSL_CERT_FILE; None: those of certifi.
        certificate_file=ssl.get_default_verify_paths().cafile,
        headers=None if headers is None else read_headers(headers.get_secret_value()),
        timeout=SEND_TIMEOUT_SECONDS,
    )
    batches = BatchSpanProcessor(
        _Delivery(exporter, urlsplit(endpoint).netloc.rpartition("@")[2], _SdkWords(mask)),
        max_queue_size=MAX_QUEUED_SPANS,
        schedule_delay_millis=BATCH_DELAY_MILLISECONDS,
        max_export_batch_size=MAX_BATCH_SPANS,
    )
    provider = TracerProvider(
        resource=Resource.create({"service.name": SERVICE_NAME, "service.version": version}),
        shutdown_on_exit=False,
    )
    provider.add_span_processor(_CleanSpans(mask, batches, replayed_mark))
    return provider


class _CleanSpans(SpanProcessor):
    """Hands spans on without secrets: now, while those of their leg are known.

    Spans of steps that were looked up in the journal are dropped: nothing was asked for, and nothing ran.
    """

    def __init__(self, mask: Mask, successor: SpanProcessor, replayed_mark: str) -> None:
        self._mask = mask
        self._successor = successor
        self._replayed_mark = replayed_mark

    def on_end(self, span: ReadableSpan) -> None:
        if not (span.attributes or {}).get(self._replayed_mark):
            self._successor.on_end(_cleaned(span, self._mask))

    def shutdown(self) -> None:
        self._successor.shutdown()

    def force_flush(self, timeout_millis: int = 30000) -> bool:
        return self._successor.force_flush(timeout_millis)


def _cleaned(span: ReadableSpan, mask: Mask) -> ReadableSpan:
    description = span.status.description
    # The SDK has no other way to change a span that has ended.
    return ReadableSpan(
        name=mask(span.name),
        context=span.context,
        parent=span.parent,
        resource=span.resource,
        attributes=_masked(span.attributes, mask),
        events=[
            Event(mask(event.name), _masked(event.attributes, mask), event.timestamp) for event in span.events
        ],
        links=span.links,
        kind=span.kind,
        status=Status(span.status.status_code, None if description is None else mask(description)),
        start_time=span.start_time,
        end_time=span.end_time,
        instrumentation_scope=span.instrumentation_scope,
    )


def _masked(attributes: Mapping[str, AttributeValue] | None, mask: Mask) -> dict[str, AttributeValue]:
    return {
        mask(name): _masked_value(value, mask)
        for name, value in (attributes or {}).items()
        if not name.startswith(_LEFT_OUT)
    }


def _masked_value(value: AttributeValue, mask: Mask) -> AttributeValue:
    match value:
        case str():
            return mask(value)[:MAX_ATTRIBUTE_CHARACTERS]  # not before: half a secret is not found
        case None | bool() | int() | float():
            return value
        case _:
            items = [mask(item) if isinstance(item, str) else item for item in value]
            return cast("AttributeValue", items)


class _Delivery(SpanExporter):
    """Sends batches. Says once that they do not arrive, and once that they do again."""

    def __init__(self, exporter: SpanExporter, address: str, words: "_SdkWords") -> None:
        self._exporter = exporter
        self._address = address
        self._words = words
        self._is_failing = False

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self._words.reason = None
        result = self._exporter.export(spans)
        if result is SpanExportResult.SUCCESS:
            if self._is_failing:
                logger.info("traces reach %s again", self._address)
            self._is_failing = False
        elif not self._is_failing:
            self._is_failing = True
            logger.warning(
                "traces do not reach %s, and are dropped until they do: %s", self._address, self._words.reason
            )
        return result

    def shutdown(self) -> None:
        self._exporter.shutdown()

    def force_flush(self, timeout_millis: int = 30000) -> bool:
        return self._exporter.force_flush(timeout_millis)


class _SdkWords(logging.Handler):
    """Keeps what the SDK says out of the log, where it would be several lines for each batch."""

    def __init__(self, mask: Mask) -> None:
        super().__init__()
        self._mask = mask
        self.reason: str | None = None
        """What the exporter said first of the batch in hand."""
        sdk = logging.getLogger("opentelemetry")
        sdk.propagate = False
        sdk.addHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        message = " ".join(self._mask(record.getMessage()).split())[:MAX_REASON_CHARACTERS]
        if self.reason is None and record.name.startswith("opentelemetry.exporter"):
            self.reason = message
        logger.debug("%s: %s", record.name, message)
