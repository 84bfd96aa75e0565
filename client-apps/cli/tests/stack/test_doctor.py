"""`stigmer doctor` and what it asks: ports, parts, model providers, a running Ollama."""

import json
import os
import re
import socket
import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import trustme

from stack_home import StackHome, make_stack_home
from stigmer_cli.config import load_configuration
from stigmer_cli.program_version import program_version
from stigmer_cli.stack import find_ollama
from stigmer_cli.stack.health import http_probe, temporal_probe
from stigmer_cli.stack.installation_diagnosis import check_installation
from tls_front import TlsFront

Answer = Callable[[str, dict[str, str], bytes], tuple[int, object]]
"""Answers path, headers and body with a status and a JSON document."""


@contextmanager
def _serve(answer: Answer, clock_ahead_seconds: float = 0) -> Generator[str]:
    class Handler(BaseHTTPRequestHandler):
        def date_time_string(self, timestamp: float | None = None) -> str:
            return super().date_time_string((timestamp or time.time()) + clock_ahead_seconds)

        def do_GET(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            status, document = answer(self.path, dict(self.headers), self.rfile.read(length))
            body = json.dumps(document).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_POST = do_GET

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the base class's name
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _findings(home: StackHome, **variables: str) -> tuple[int, dict[str, tuple[str, str]]]:
    completed = home.stigmer("doctor", "--json", variables=variables)
    found: list[dict[str, Any]] = json.loads(completed.stdout)["findings"]
    return completed.returncode, {entry["name"]: (entry["outcome"], entry["detail"]) for entry in found}


def test_a_fresh_machine_is_in_order(temporal_home: StackHome) -> None:
    exit_code, findings = _findings(temporal_home)
    assert exit_code == 0
    assert {outcome for outcome, _ in findings.values()} == {"passed", "warning"}
    assert findings["home"] == ("passed", f"{temporal_home.path} (made at the first start)")
    assert findings["server"] == ("warning", "not running")
    assert findings["default model"] == ("warning", "none is set, and no Ollama answers")
    assert not temporal_home.path.exists()


def test_a_taken_port_is_something_to_repair(temporal_home: StackHome) -> None:
    port = temporal_home.ports["server"]
    with socket.create_server(("127.0.0.1", port)):
        exit_code, findings = _findings(temporal_home)
    assert exit_code == 3
    assert findings[f"port {port} (server)"][0] == "failed"


def test_a_running_stack_is_asked(stack_home: StackHome) -> None:
    stack_home.start()
    stack_home.order("server-unready")
    exit_code, findings = _findings(stack_home)
    assert exit_code == 3
    assert findings["server"] == ("failed", "unhealthy: orders: told to be unready")
    assert findings["runner"][0] == "passed"
    assert findings["temporal"][0] == "failed"  # the address that was given answers nobody


def test_a_clock_that_is_wrong_is_noticed(temporal_home: StackHome) -> None:
    settings = {"STIGMER_LLM_PROVIDER": "openai", "STIGMER_LLM_MODEL": "m", "OPENAI_API_KEY": "sk-right"}

    def answer(path: str, headers: dict[str, str], body: bytes) -> tuple[int, object]:
        return 200, {}

    with _serve(answer) as url:
        _, right = _findings(temporal_home, STIGMER_LLM_BASE_URL=url, **settings)
    with _serve(answer, clock_ahead_seconds=7200) as url:
        exit_code, wrong = _findings(temporal_home, STIGMER_LLM_BASE_URL=url, **settings)
    assert (right["clock"][0], right["clock"][1].partition(", ")[2]) == ("passed", "as provider openai says")
    assert (exit_code, wrong["clock"][0]) == (3, "failed")
    assert re.search(r" is 7(19\d|20\d) s behind the clock of provider openai$", wrong["clock"][1])


def test_versions_that_do_not_go_together_are_noticed(stack_home: StackHome) -> None:
    ours = program_version()
    stack_home.start()
    _, findings = _findings(stack_home)
    assert findings["versions"] == ("passed", f"stigmer {ours}, server {ours}, runner {ours}")
    stack_home.order("runner-other-version")
    exit_code, findings = _findings(stack_home)
    assert (exit_code, findings["versions"]) == (
        3,
        ("failed", f"stigmer {ours}, server {ours}, runner 9.0.0, which do not go together"),
    )


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_files_of_others_in_the_workspace_are_noticed(stack_home: StackHome) -> None:
    workspace = stack_home.path / "data" / "workspace"
    (workspace / "session").mkdir(parents=True)
    _, findings = _findings(stack_home)
    assert findings["workspace"] == ("passed", str(workspace))
    os.chown(workspace / "session", 12345, 12345)
    _, findings = _findings(stack_home)
    assert findings["workspace"] == (
        "warning",
        f"{workspace} holds files of others, which agents may not change",
    )


def test_weak_isolation_of_commands_is_shown_with_what_it_lets_through(stack_home: StackHome) -> None:
    stack_home.start()
    assert _findings(stack_home)[1]["isolation of commands"] == ("passed", "level full, in bubblewrap")
    stack_home.order("runner-weak")
    told = "weak, without bubblewrap (it is not installed); a command could read another session's file"
    assert _findings(stack_home)[1]["isolation of commands"] == ("warning", f"level {told}")
    assert f"isolation of commands: {told}\n" in stack_home.stigmer("server", "status").stdout


def test_a_broken_configuration_is_a_finding(stack_home: StackHome) -> None:
    stack_home.path.mkdir()
    (stack_home.path / "config.yaml").write_text("llm: {modl: x}\n", encoding="utf-8")
    completed = stack_home.stigmer("doctor")
    assert completed.returncode == 3
    assert completed.stdout.splitlines()[1:] == [
        f"failed   configuration: {stack_home.path}/config.yaml:1:7: unknown key `llm.modl`",
        "         write `llm.model`",
    ]


def test_a_provider_is_asked_whether_it_takes_the_key(temporal_home: StackHome) -> None:
    def answer(path: str, headers: dict[str, str], body: bytes) -> tuple[int, object]:
        return (200 if headers.get("Authorization") == "Bearer sk-right" else 401), {}

    with _serve(answer) as url:
        settings = {"STIGMER_LLM_PROVIDER": "openai", "STIGMER_LLM_MODEL": "m", "STIGMER_LLM_BASE_URL": url}
        right = _findings(temporal_home, OPENAI_API_KEY="sk-right", **settings)
        wrong = _findings(temporal_home, OPENAI_API_KEY="sk-wrong", **settings)
    missing = _findings(temporal_home, **settings)
    assert right[1]["default model"] == ("passed", "openai:m")
    assert right[1]["provider openai"] == ("passed", f"{url}/models answers and takes the key")
    differing = {name for name in wrong[1] if wrong[1][name] != right[1][name]} - {"disk", "clock"}
    assert (wrong[0], differing) == (3, {"provider openai"})
    assert wrong[1]["provider openai"] == ("failed", f"{url}/models refuses the key (401)")
    assert missing[1]["provider openai"] == ("failed", "it has no API key")


def test_a_provider_of_an_unknown_authority_is_trusted_by_the_bundle_of_the_settings(
    stack_home: StackHome, tmp_path: Path
) -> None:
    authority, bundle = trustme.CA(), tmp_path / "authorities.pem"
    authority.cert_pem.write_to_path(bundle)
    with (
        _serve(lambda path, headers, body: (200, {})) as plain,
        TlsFront(int(plain.rpartition(":")[2]), authority) as front,
    ):
        url = f"https://127.0.0.1:{front.port}"
        settings = {"STIGMER_LLM_PROVIDER": "openai-compatible", "STIGMER_LLM_BASE_URL": url}
        doubting = _findings(stack_home, **settings)[1]["provider openai-compatible"]
        trusting = _findings(stack_home, **settings, STIGMER_CA_BUNDLE=str(bundle))[1]

    assert doubting == (
        "failed",
        f"the certificate of {url}/models is not trusted: unable to get local issuer certificate",
    )
    assert trusting["provider openai-compatible"] == ("passed", f"{url}/models answers")


def test_the_newest_model_of_ollama_that_calls_tools_is_found(tmp_path: Path) -> None:
    def answer(path: str, headers: dict[str, str], body: bytes) -> tuple[int, object]:
        if path == "/api/tags":
            return 200, {"models": [{"name": "embed:1"}, {"name": "qwen3:8b"}, {"name": "old:1"}]}
        name = json.loads(body)["model"]
        return 200, {"capabilities": ["embedding"] if name == "embed:1" else ["completion", "tools"]}

    with _serve(answer) as url:
        configuration = load_configuration({"STIGMER_HOME": str(tmp_path), "OLLAMA_BASE_URL": url})
        assert find_ollama(configuration) == "ollama:qwen3:8b"
    assert find_ollama(configuration) is None


def test_what_is_no_ollama_is_not_taken_for_one(tmp_path: Path) -> None:
    documents: list[object] = [[], {"models": 7}, {"models": [7, {"name": None}]}, "text"]
    for document in documents:
        with _serve(lambda path, headers, body, document=document: (200, document)) as url:
            configuration = load_configuration({"STIGMER_HOME": str(tmp_path), "OLLAMA_BASE_URL": url})
            assert find_ollama(configuration) is None


def test_a_program_that_is_no_part_of_the_stack_is_not_ready() -> None:
    with _serve(lambda path, headers, body: (200, {"hello": "world"})) as url:
        port = int(url.rpartition(":")[2])
        health = http_probe("127.0.0.1", port)()
        assert (health.ready, health.reason) == (False, "/readyz answered 200 without a readiness document")
        assert temporal_probe("127.0.0.1", port)().ready is False


def test_a_part_that_is_silent_is_not_waited_for() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        assert http_probe("127.0.0.1", port)().reason == "it does not answer in time"
        assert temporal_probe("127.0.0.1", port)().reason == "it does not answer in time"


@pytest.mark.parametrize(
    ("ahead_seconds", "outcome", "detail"),
    [
        (-3600.4, "failed", "the clock of runner 1@there is 3600 s behind the server's"),
        (29.0, "passed", "Temporal's and the runners' agree with the server's"),
    ],
)
def test_clocks_of_the_stack_that_differ_are_told(
    stack_home: StackHome, ahead_seconds: float, outcome: str, detail: str
) -> None:
    installation = {
        "installation_id": "abc",
        "task_queue": "queue-abc",
        "older_task_queues": [],
        "clocks": [
            {"of": "Temporal", "ahead_seconds": 0.1},
            {"of": "runner 1@there", "ahead_seconds": ahead_seconds},
        ],
    }
    token = stack_home.path / "run" / "token"
    token.parent.mkdir(parents=True)
    token.write_text("t", encoding="ascii")
    with _serve(lambda _path, _headers, _body: (200, installation)) as url:
        port = url.rpartition(":")[2]
        findings = check_installation(load_configuration(stack_home.environment | {"STIGMER_PORT": port}))

    assert [(each.name, each.outcome.value, each.detail) for each in findings] == [
        ("task queue", "passed", "queue-abc"),
        ("clocks of the stack", outcome, detail),
    ]


def test_another_stigmer_under_the_same_names_is_noticed(stack_home: StackHome) -> None:
    installation: dict[str, object] = {
        "installation_id": "abc",
        "task_queue": "queue-abc",
        "older_task_queues": [],
        "unknown_legs": 3,
        "clocks": [],
    }
    token = stack_home.path / "run" / "token"
    token.parent.mkdir(parents=True)
    token.write_text("t", encoding="ascii")
    with _serve(lambda _path, _headers, _body: (200, installation)) as url:
        port = url.rpartition(":")[2]
        [finding] = check_installation(load_configuration(stack_home.environment | {"STIGMER_PORT": port}))

    assert (finding.name, finding.outcome.value) == ("task queue", "warning")
    assert finding.detail.startswith(
        "3 legs came of executions that this server does not know: another Stigmer "
    )
    assert finding.remedy == (
        "bring that one up to date, or give each a namespace of its own (`temporal.namespace`)"
    )


def test_of_a_stack_elsewhere_its_server_is_reported_and_nothing_of_this_machine(tmp_path: Path) -> None:
    readiness: dict[str, object] = {"ready": True, "version": program_version(), "checks": []}

    def answer(path: str, headers: dict[str, str], body: bytes) -> tuple[int, object]:
        return (200 if path == "/readyz" else 404), readiness

    home = make_stack_home(tmp_path / "home", own_temporal=False)
    with _serve(answer) as url:
        elsewhere = {"STIGMER_BACKEND_ENDPOINT": url, "STIGMER_TOKEN": "token"}
        doctor = home.stigmer("doctor", "--json", variables=elsewhere)
        status = home.stigmer("server", "status", variables=elsewhere)
    lost = home.stigmer("doctor", "--json", variables=elsewhere)
    without = home.stigmer("server", "status", variables=elsewhere)

    named = [finding["name"] for finding in json.loads(doctor.stdout)["findings"]]
    assert (doctor.returncode, named) == (0, ["python", "configuration", "home", "versions", "server"])
    _, server = status.stdout.splitlines()
    assert (status.returncode, status.stderr, url in server) == (0, "", True)
    *_, server_finding = json.loads(lost.stdout)["findings"]
    assert (lost.returncode, server_finding["outcome"], server_finding["detail"]) == (
        3,
        "failed",
        f"{url}: nothing answers there",
    )
    assert without.returncode == 3
