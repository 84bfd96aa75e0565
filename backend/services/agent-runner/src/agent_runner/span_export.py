"""Sends spans to a collector by OTLP/HTTP: cleaned when they end, in batches, in no execution's way.

The only module that imports OpenTelemetry's SDK, which the runner does without where nothing is traced.
"""

import http.client
import logging
import ssl
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, cast
from urllib.parse import urlsplit

from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
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
RETRY_SECONDS: Final = 1.0
MAX_ANSWER_BYTES: Final = 65_536
MAX_ATTRIBUTE_CHARACTERS: Final = 1024
MAX_REASON_CHARACTERS: Final = 300
_FOR_NOW: Final = (429, 502, 503, 504)
"""Answers after which a batch may be sent again (OTLP 1.5, "Retryable Response Codes")."""

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
    _quieten_sdk(mask)
    batches = BatchSpanProcessor(
        _Delivery(endpoint, {} if headers is None else read_headers(headers.get_secret_value()), mask),
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


class _Refused(Exception):
    """The collector answered, and took nothing."""

    def __init__(self, status: int, reason: str, retry_after: str | None) -> None:
        super().__init__(f"it answered {status} {reason}".strip())
        self.is_for_now = status in _FOR_NOW
        self.retry_after = retry_after


class _Delivery(SpanExporter):
    """Sends batches. Says once that they do not arrive, and once that they do again.

    OTLP 1.5 over HTTP, with the standard library's client: the SDK's own brings two more HTTP clients.
    """

    def __init__(self, endpoint: str, headers: Mapping[str, str], mask: Mask) -> None:
        self._url = f"{endpoint}/v1/traces"
        self._headers = {"Content-Type": "application/x-protobuf", "User-Agent": SERVICE_NAME, **headers}
        self._address = urlsplit(endpoint).netloc.rpartition("@")[2]
        self._mask = mask
        # It trusts whom the runner's other clients trust, which find them by SSL_CERT_FILE, too.
        tls = urllib.request.HTTPSHandler(context=ssl.create_default_context())
        self._opener = urllib.request.build_opener(tls, _NoRedirects)
        self._ending = threading.Event()
        self._is_failing = False

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        try:
            self._send(encode_spans(spans).SerializeToString())
        except (OSError, http.client.HTTPException, ValueError, _Refused) as error:
            if not self._is_failing:
                self._is_failing = True
                said = error.reason if isinstance(error, urllib.error.URLError) else error
                reason = " ".join(self._mask(str(said) or type(said).__name__).split())
                logger.warning(
                    "traces do not reach %s, and are dropped until they do: %s",
                    self._address,
                    reason[:MAX_REASON_CHARACTERS],
                )
            return SpanExportResult.FAILURE
        if self._is_failing:
            logger.info("traces reach %s again", self._address)
        self._is_failing = False
        return SpanExportResult.SUCCESS

    def shutdown(self) -> None:
        self._ending.set()

    def force_flush(self, timeout_millis: int = 30000) -> bool:
        return True  # nothing is kept here

    def _send(self, body: bytes) -> None:
        """Once more, after a pause, where that can help and time is left."""
        give_up_at = time.monotonic() + SEND_TIMEOUT_SECONDS
        while True:
            left = give_up_at - time.monotonic()
            try:
                return self._post(body, max(left, 0.1))
            except (ConnectionError, http.client.HTTPException, urllib.error.URLError, _Refused) as error:
                pause = _pause_before_another(error)
                if pause is None or pause > give_up_at - time.monotonic() or self._ending.wait(pause):
                    raise

    def _post(self, body: bytes, timeout_seconds: float) -> None:
        request = urllib.request.Request(self._url, body, self._headers)  # noqa: S310  # settings check it
        try:
            with self._opener.open(request, timeout=timeout_seconds) as answer:
                answer.read(MAX_ANSWER_BYTES)
        except urllib.error.HTTPError as error:
            with error:
                raise _Refused(error.code, str(error.reason), error.headers.get("Retry-After")) from None


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """A collector has one address; headers with a key go to no other."""

    def redirect_request(  # its name and arguments are urllib's
        self, req: urllib.request.Request, fp: Any, code: int, msg: str, headers: Any, newurl: str
    ) -> urllib.request.Request | None:
        return None


def _pause_before_another(error: Exception) -> float | None:
    """Seconds until it may be tried again; None: that cannot help."""
    if isinstance(error, _Refused):
        if not error.is_for_now:
            return None
        if error.retry_after is not None:
            return float(error.retry_after) if error.retry_after.isdecimal() else None
    elif isinstance(error, urllib.error.URLError) and not isinstance(error.reason, ConnectionError):
        return None  # its name or its certificate is wrong, or the time is up
    return RETRY_SECONDS


def _quieten_sdk(mask: Mask) -> None:
    """Keep what the SDK says out of the log, where it would be several lines for each batch."""
    sdk = logging.getLogger("opentelemetry")
    sdk.propagate = False
    sdk.addHandler(_SdkWords(mask))


class _SdkWords(logging.Handler):
    """Says them for whoever looks for defects."""

    def __init__(self, mask: Mask) -> None:
        super().__init__()
        self._mask = mask

    def emit(self, record: logging.LogRecord) -> None:
        message = " ".join(self._mask(record.getMessage()).split())[:MAX_REASON_CHARACTERS]
        logger.debug("%s: %s", record.name, message)
