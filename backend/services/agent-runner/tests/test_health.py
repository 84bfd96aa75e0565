"""The runner's health over HTTP, and the probe that a container runs."""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Mapping

import httpx
import pytest

from agent_runner.__main__ import main
from agent_runner.health import Check, HealthServer, probe_health
from stigmer_contract.api import IsolationState, Readiness, ReadyCheck


async def ok() -> str | None:
    return None


async def offline() -> str | None:
    return "connection refused"


async def hanging() -> str | None:
    await asyncio.Event().wait()
    return None


async def broken() -> str | None:
    raise KeyError("secret")


def serve(checks: Mapping[str, Check]) -> HealthServer:
    return HealthServer("127.0.0.1", 0, checks, version="1.2.3")


async def get(server: HealthServer, path: str, method: str = "GET") -> httpx.Response:
    async with httpx.AsyncClient(trust_env=False, timeout=5) as client:
        return await client.request(method, f"http://127.0.0.1:{server.port}{path}")


async def test_a_runner_whose_checks_pass_is_ready() -> None:
    async with serve({"temporal": ok, "server": ok}) as server:
        response = await get(server, "/readyz")

    assert response.status_code == 200
    assert Readiness.model_validate_json(response.content) == Readiness(
        ready=True,
        version="1.2.3",
        checks=[ReadyCheck(name="temporal", ok=True), ReadyCheck(name="server", ok=True)],
    )


async def test_each_failing_check_says_why_without_hiding_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agent_runner.health.server.CHECK_TIMEOUT_SECONDS", 0.05)
    checks = {"temporal": ok, "server": offline, "disk": hanging, "odd": broken}
    async with serve(checks) as server:
        response = await get(server, "/readyz")

    assert response.status_code == 503
    assert Readiness.model_validate_json(response.content) == Readiness(
        ready=False,
        version="1.2.3",
        checks=[
            ReadyCheck(name="temporal", ok=True),
            ReadyCheck(name="server", ok=False, detail="connection refused"),
            ReadyCheck(name="disk", ok=False, detail="no answer within 0.05 seconds"),
            ReadyCheck(name="odd", ok=False, detail="the check itself failed: KeyError"),
        ],
    )


async def test_how_well_commands_are_isolated_is_told_to_people_and_to_prometheus() -> None:
    isolation = {
        "level": "weak",
        "setting": "warn",
        "findings": ["a command could do it"],
        "bubblewrap": True,
        "no_bubblewrap_because": None,
    }
    async with HealthServer("127.0.0.1", 0, {}, version="1.2.3", isolation=isolation) as server:
        readiness = Readiness.model_validate_json((await get(server, "/readyz")).content)
        metrics = await get(server, "/metrics")
    assert readiness.isolation == IsolationState.model_validate(isolation)
    assert metrics.headers["content-type"].startswith("text/plain; version=0.0.4")
    assert 'stigmer_runner_isolation{level="weak"} 1\n' in metrics.text
    assert 'stigmer_runner_isolation{level="full"} 0\n' in metrics.text
    assert "stigmer_runner_bubblewrap 1\n" in metrics.text


async def test_a_runner_that_is_not_ready_is_alive_all_the_same() -> None:
    async with serve({"server": offline}) as server:
        response = await get(server, "/healthz")

    assert (response.status_code, response.json()) == (200, {"alive": True})


@pytest.mark.parametrize(
    ("method", "path", "status"), [("GET", "/", 404), ("POST", "/readyz", 405), ("HEAD", "/healthz", 200)]
)
async def test_anything_else_is_answered_as_http_wants_it(method: str, path: str, status: int) -> None:
    async with serve({}) as server:
        assert (await get(server, path, method)).status_code == status


async def test_nonsense_and_silence_disturb_nobody() -> None:
    async with serve({}) as server:
        _, silent = await asyncio.open_connection("127.0.0.1", server.port)
        for nonsense in (b"\r\n\r\n", b"x" * 100_000, b"GET\r\n\r\n", b""):
            _, writer = await asyncio.open_connection("127.0.0.1", server.port)
            writer.write(nonsense)
            writer.close()

        assert (await get(server, "/healthz")).status_code == 200
        silent.close()


async def test_the_probe_tells_ready_from_not_ready(capsys: pytest.CaptureFixture[str]) -> None:
    async with serve({"server": ok}) as server:
        assert await asyncio.to_thread(probe_health, server.host, server.port) == 0
    async with serve({"server": offline}) as server:
        assert await asyncio.to_thread(probe_health, server.host, server.port) == 1

    error = f"error: the runner on 127.0.0.1:{server.port} is not ready: server: connection refused\n"
    assert capsys.readouterr() == ("", error)


async def test_the_probe_of_a_runner_that_is_gone_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    async with serve({}) as server:
        pass

    assert await asyncio.to_thread(probe_health, server.host, server.port) == 1
    assert capsys.readouterr().err.startswith(f"error: no runner answers on 127.0.0.1:{server.port}: ")


async def test_the_command_probes_without_loading_what_the_worker_needs() -> None:
    code = (
        "import json, sys; from agent_runner.__main__ import main; sys.argv = ['agent-runner', 'health']; "
        "print(json.dumps([main(), sorted({'asyncio', 'pydantic'} & set(sys.modules))]))"
    )
    async with serve({"server": ok}) as server:
        result = await asyncio.to_thread(
            subprocess.run,
            [sys.executable, "-c", code],
            env={**os.environ, "STIGMER_HEALTH_PORT": str(server.port)},
            capture_output=True,
            check=True,
        )

    assert json.loads(result.stdout) == [0, []]


@pytest.mark.parametrize("listens_on", ["127.0.0.2", "0.0.0.0"])  # noqa: S104  # what people set
async def test_the_command_asks_where_the_runner_listens(
    monkeypatch: pytest.MonkeyPatch, listens_on: str
) -> None:
    async with HealthServer(listens_on, 0, {"server": ok}, version="1.0.0") as server:
        monkeypatch.setenv("STIGMER_HEALTH_HOST", listens_on)
        monkeypatch.setenv("STIGMER_HEALTH_PORT", str(server.port))
        monkeypatch.setattr(sys, "argv", ["agent-runner", "health"])
        assert await asyncio.to_thread(main) == 0


def test_the_command_says_which_variable_is_wrong(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("STIGMER_HEALTH_PORT", "https")
    monkeypatch.setattr(sys, "argv", ["agent-runner", "health"])
    assert main() == 2
    assert capsys.readouterr().err.startswith("error: STIGMER_HEALTH_PORT: ")
