"""Which model `stigmer run` asks for where nobody names one."""

import http.server
import json
import threading
from collections.abc import Generator
from pathlib import Path

import pytest

from cli_harness import TOKEN, Command, Server, free_port
from stigmer_cli import __main__ as entry
from stigmer_cli import stack
from stigmer_cli.config import Configuration, Connection

NO_MODEL = """\
error: could not choose a model: neither the manifest nor the configuration names one

hint: pass `--model openai:gpt-5` with OPENAI_API_KEY set, or `anthropic:…` with ANTHROPIC_API_KEY; \
or set STIGMER_LLM_PROVIDER and STIGMER_LLM_MODEL; or start Ollama with a model that can call tools
"""


class _Ollama(http.server.BaseHTTPRequestHandler):
    """Answers as Ollama does for one model that can call tools."""

    def do_GET(self) -> None:
        self._answer({"models": [{"name": "qwen3:8b"}]})

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self._answer({"capabilities": ["completion", "tools"]})

    def _answer(self, document: object) -> None:
        content = json.dumps(document).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class names it so
        pass


@pytest.fixture
def ollama() -> Generator[str]:
    """Address of an Ollama."""
    with http.server.HTTPServer(("127.0.0.1", 0), _Ollama) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.fixture
def local_run(
    command: Command, server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> list[Configuration]:
    """`entry.run` as with a local stack that is not running yet; answers how often it was started."""
    monkeypatch.chdir(tmp_path)
    for name in ("STIGMER_LLM_MODEL", "STIGMER_LLM_PROVIDER", "STIGMER_BACKEND_ENDPOINT", "STIGMER_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("STIGMER_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("OLLAMA_BASE_URL", f"127.0.0.1:{free_port()}")
    manifest = (tmp_path / "agent.yaml").read_text(encoding="utf-8")
    (tmp_path / "agent.yaml").write_text(manifest.replace("  model: openai:gpt-5\n", ""), encoding="utf-8")
    started: list[Configuration] = []

    def ensure_running(configuration: Configuration, *, report: object) -> Connection:
        started.append(configuration)
        return Connection(f"http://127.0.0.1:{server.port}", TOKEN)

    monkeypatch.setattr(stack, "ensure_running", ensure_running)
    return started


def test_without_any_model_nothing_starts_and_the_ways_are_named(
    local_run: list[Configuration], capsys: pytest.CaptureFixture[str]
) -> None:
    assert entry.run(["run", ".", "Hi", "--detach"]) == 3

    assert capsys.readouterr().err == NO_MODEL
    assert local_run == []


def test_a_running_ollama_is_used_by_itself(
    local_run: list[Configuration],
    ollama: str,
    server: Server,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("OLLAMA_BASE_URL", ollama)

    assert entry.run(["run", ".", "Hi", "--detach"]) == 0

    printed = capsys.readouterr()
    assert printed.err == "using the model ollama:qwen3:8b of the running Ollama\n"
    leg = server.take_execution(printed.out.strip())
    assert leg.grant.execution.model == "ollama:qwen3:8b"
    leg.complete("x")


def test_the_configurations_model_is_left_to_the_runner(
    local_run: list[Configuration],
    server: Server,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("STIGMER_LLM_PROVIDER", "openai")
    monkeypatch.setenv("STIGMER_LLM_MODEL", "gpt-5")

    assert entry.run(["run", ".", "Hi", "--detach"]) == 0

    leg = server.take_execution(capsys.readouterr().out.strip())
    assert leg.grant.execution.model is None
    leg.complete("x")


def test_a_flag_wins_over_everything(
    local_run: list[Configuration], server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    assert entry.run(["run", ".", "Hi", "--detach", "--model", "anthropic:claude-sonnet-4-5"]) == 0

    leg = server.take_execution(capsys.readouterr().out.strip())
    assert leg.grant.execution.model == "anthropic:claude-sonnet-4-5"
    leg.complete("x")


def test_an_applied_agent_without_a_model_needs_one_as_well(
    local_run: list[Configuration], server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    assert entry.run(["apply", "-f", "."]) == 0
    capsys.readouterr()

    exit_code = entry.run(["run", "greeter", "Hi", "--detach"])

    server.client.delete_agent("greeter")
    assert (exit_code, capsys.readouterr().err) == (3, NO_MODEL)


def test_a_name_that_is_not_applied_is_told(
    local_run: list[Configuration], capsys: pytest.CaptureFixture[str]
) -> None:
    assert entry.run(["run", "nobody", "Hi"]) == 1

    assert capsys.readouterr().err == (
        "error: could not run 'nobody': no agent of that name is applied\n\n"
        "hint: run `stigmer agents list` to see which are, or name a manifest's file or folder\n"
    )
