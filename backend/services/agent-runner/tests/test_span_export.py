"""What a span is rid of before it is sent, whoever wrote it there."""

import ssl
import sys
from pathlib import Path

import pytest
import trustme
from opentelemetry.trace import StatusCode

from agent_runner import span_export
from agent_runner.errors import SettingsError
from agent_runner.masking import Masker
from agent_runner.settings import load_settings
from agent_runner.span_export import MAX_ATTRIBUTE_CHARACTERS, open_provider
from agent_runner.tracing import open_tracing
from trace_collector import TraceCollector

SECRET = "canary/0123456789+"


def test_every_text_of_a_span_is_masked_while_its_secret_is_known() -> None:
    secrets = {"TOKEN": SECRET}

    def mask(text: str) -> str:
        return Masker(secrets).mask(text)

    with TraceCollector() as collector:
        provider = open_provider(collector.url, None, "1.2.3", mask, replayed_mark="replayed")
        tracer = provider.get_tracer("test")
        with tracer.start_as_current_span(f"ask {SECRET}") as span:
            span.set_attribute(f"name {SECRET}", ["list", SECRET])
            span.set_attribute("long", "x" * (MAX_ATTRIBUTE_CHARACTERS - 5) + SECRET)
            span.record_exception(ValueError(f"the provider says {SECRET}"), {"count": 3})
            span.set_status(StatusCode.ERROR, f"ValueError: {SECRET}")
        secrets.clear()  # the leg is over before the batch is sent
        with tracer.start_as_current_span("looked up") as span:
            span.set_attribute("replayed", True)
        provider.shutdown()
        [sent] = collector.spans
        assert (sent.name, sent.span.status.message) == ("ask [secret TOKEN]", "ValueError: [secret TOKEN]")
        assert "name [secret TOKEN]" in sent.attributes
        assert sent.attributes["long"] == "x" * (MAX_ATTRIBUTE_CHARACTERS - 5) + "[secr"
        [(_, event)] = sent.events
        assert event["exception.message"] == "the provider says [secret TOKEN]"
        assert SECRET.encode() not in b"".join(collector.bodies)


def test_a_collector_behind_tls_is_known_by_the_authorities_of_ssl_cert_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    authority = trustme.CA()
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    certificate = authority.issue_cert("127.0.0.1")
    certificate.configure_cert(tls)  # pyright: ignore[reportUnknownMemberType]  # or pyOpenSSL's
    authority.cert_pem.write_to_path(tmp_path / "authority.pem")
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):  # they would win
        monkeypatch.delenv(name, raising=False)
    with TraceCollector(tls=tls) as collector:
        for file in ("", str(tmp_path / "authority.pem")):
            monkeypatch.setenv("SSL_CERT_FILE", file)
            provider = open_provider(collector.url, None, "1.2.3", str, replayed_mark="replayed")
            provider.get_tracer("test").start_span(f"trusts {file!r}").end()
            provider.shutdown()
        assert [span.name for span in collector.spans] == [f"trusts '{tmp_path}/authority.pem'"]
    [warning] = [record for record in caplog.records if record.name == "agent_runner.span_export"]
    assert "CERTIFICATE_VERIFY_FAILED" in warning.getMessage()


def test_a_batch_is_sent_again_where_that_can_help_and_never_to_another_address(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(span_export, "SEND_TIMEOUT_SECONDS", 60.0)
    monkeypatch.setattr(span_export, "RETRY_SECONDS", 0.01)
    with TraceCollector() as elsewhere, TraceCollector() as collector:
        cases: dict[str, list[tuple[int, dict[str, str]]]] = {
            "busy": [(503, {}), (429, {"Retry-After": "0"})],
            "moved": [(307, {"Location": f"{elsewhere.url}/v1/traces"})],
            "refused": [(400, {})],
            "taken": [],
        }
        for name, collector.answers in cases.items():
            provider = open_provider(collector.url, None, "1.2.3", str, replayed_mark="replayed")
            provider.get_tracer("test").start_span(name).end()
            provider.shutdown()
    assert [span.name for span in collector.spans] == [*["busy"] * 3, "moved", "refused", "taken"]
    assert elsewhere.bodies == []
    reasons = [record.getMessage() for record in caplog.records if record.name == "agent_runner.span_export"]
    address = collector.url.removeprefix("http://")
    assert reasons == [
        f"traces do not reach {address}, and are dropped until they do: it answered {told}"
        for told in ("307 Stand-in", "400 Stand-in")
    ]


def test_a_collector_is_refused_where_what_sends_traces_is_not_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk", None)
    settings = load_settings(
        {"STIGMER_TOKEN": "t", "STIGMER_LLM_PROVIDER": "replay", "SANDBOX_ROOT_DIR": str(tmp_path)}
        | {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4318"}
    )
    with pytest.raises(SettingsError, match=r"^OTEL_EXPORTER_OTLP_ENDPOINT: .*`stigmer-agents\[traces\]`"):
        open_tracing(settings, "1.2.3", str)
