"""Spans of legs, and what is marked on those that pydantic-ai makes of requests and tool calls.

Uses OpenTelemetry's interface only, which pydantic-ai brings. Its SDK is imported by `span_export`, and that
only where there is somewhere to send traces.
"""

import asyncio
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Final

from opentelemetry.trace import NoOpTracer, Span, StatusCode, Tracer, get_current_span

from agent_runner.errors import SettingsError
from agent_runner.settings import RunnerSettings
from stigmer_contract.api import LegGrant
from stigmer_contract.events import ExecutionFailed, LegEndReason, TerminalEvent

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider
    from pydantic_ai.capabilities import AbstractCapability

FLUSH_SECONDS: Final = 2.0
"""Longest wait at the end for the spans that are not sent yet."""
REPLAYED: Final = "stigmer.replayed"
"""On a step's span: its result is that of an earlier leg. Such a span is not sent."""


@dataclass(frozen=True)
class Tracing:
    """How legs are traced; `NO_TRACING` where they are not."""

    tracer: Tracer
    capabilities: "tuple[AbstractCapability[Any], ...]" = ()
    """What makes an agent's spans."""
    provider: "TracerProvider | None" = None

    @contextmanager
    def leg(self, grant: LegGrant) -> Generator[Span]:
        """The root span of a leg: spans of the same task, and of tasks that it starts, are below it."""
        attributes = {
            "stigmer.execution.id": grant.execution.execution_id,
            "stigmer.session.id": grant.execution.session_id,
            "stigmer.attempt": grant.attempt,
            "gen_ai.agent.name": grant.execution.agent_name,
        }
        # An exception's text may quote a prompt.
        with self.tracer.start_as_current_span(
            "leg", attributes=attributes, record_exception=False, set_status_on_exception=False
        ) as span:
            yield span

    async def close(self, seconds: float) -> None:
        """Send what is left, for so many seconds and never more than `FLUSH_SECONDS`."""
        if self.provider is not None:
            # Not asyncio's threads: the process would wait for them, however long a collector takes.
            closing = threading.Thread(target=self.provider.shutdown, name="traces-close", daemon=True)
            closing.start()
            await asyncio.to_thread(closing.join, max(0.0, min(seconds, FLUSH_SECONDS)))


NO_TRACING: Final = Tracing(NoOpTracer())


def open_tracing(settings: RunnerSettings, version: str, mask: Callable[[str], str]) -> Tracing:
    """What the settings ask for. `mask` takes the secrets in use out of every text before it is kept.

    Raises:
        SettingsError: traces are asked for, and what sends them is not installed.
    """
    if settings.otlp_endpoint is None:
        return NO_TRACING
    if find_spec("opentelemetry.sdk") is None:
        raise SettingsError(
            "OTEL_EXPORTER_OTLP_ENDPOINT",
            "sending traces needs the extra `traces`: install `stigmer-agents[traces]`, or leave it unset",
        )
    from pydantic_ai.capabilities import Instrumentation
    from pydantic_ai.models.instrumented import InstrumentationSettings

    from agent_runner.span_export import open_provider

    provider = open_provider(
        settings.otlp_endpoint, settings.otlp_headers, version, mask, replayed_mark=REPLAYED
    )
    instrumentation = InstrumentationSettings(
        tracer_provider=provider, include_content=False, include_model_request_parameters=False
    )
    return Tracing(
        provider.get_tracer("agent_runner", version), (Instrumentation(instrumentation),), provider
    )


# --- marks on the span in hand; they cost nothing where there is none ---------------------------


def mark_replayed() -> None:
    """The step in hand is not done but looked up."""
    get_current_span().set_attribute(REPLAYED, True)


def mark_failed_request(code: str) -> None:
    """A request of the model step in hand has failed."""
    get_current_span().add_event("stigmer.model_request_failed", {"error.type": code})


def mark_requests(count: int) -> None:
    """How many requests the model step in hand took."""
    get_current_span().set_attribute("stigmer.model_requests", count)


def mark_tool_outcome(outcome: str) -> None:
    """How the tool call in hand went."""
    get_current_span().set_attribute("stigmer.tool.outcome", outcome)


def mark_leg_end(reason: LegEndReason, terminal: TerminalEvent | None) -> None:
    """Why the leg in hand ended. Of a failure only its code: its message may quote a provider's."""
    span = get_current_span()
    span.set_attribute("stigmer.leg.end", reason)
    if isinstance(terminal, ExecutionFailed):
        span.set_attribute("error.type", terminal.code)
        span.set_status(StatusCode.ERROR)
