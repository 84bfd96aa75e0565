"""Many starts and stops in a row leave nothing behind. The runner is a stand-in in a real container."""

import json
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from stack_home import StackHome, end_everything, make_stack_home
from stigmer_cli.containers import ContainerSpec, Engine
from stigmer_cli.program_version import program_version
from stigmer_cli.runner.inspection import find_own_containers, remove_containers

CYCLES = int(os.environ.get("STIGMER_TEST_CYCLES", "12"))
"""What one leaves is seen after one; what adds up, such as a port or a file, after a few."""
STAND_IN = "localhost/stigmer-tests/ready-runner"
SCRIPT = """
import http.server, json, os, signal, sys
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = json.dumps({"ready": True, "version": "VERSION", "checks": []}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *_): pass
address = (os.environ["STIGMER_HEALTH_HOST"], int(os.environ["STIGMER_HEALTH_PORT"]))
http.server.HTTPServer(address, Handler).serve_forever()
""".replace("VERSION", program_version())


@pytest.fixture(scope="module")
def ready_image(engine: Engine, runner_image: str) -> Iterator[str]:
    """The runner's image with a program that only says that it is ready."""
    created = engine.create(ContainerSpec(name=f"stigmer-tests-{secrets.token_hex(4)}", image=runner_image))
    query = {
        "container": created.container_id,
        "repo": STAND_IN,
        "tag": "1",
        "changes": f"ENTRYPOINT {json.dumps(['python3', '-c', SCRIPT])}",
    }
    try:
        engine.api.call("commit", "POST", "/commit", query=query, body={}, timeout_seconds=120)
    finally:
        created.remove()
    yield f"{STAND_IN}:1"
    engine.api.call("remove", "DELETE", f"/images/{STAND_IN}:1", query={"force": "true"})


@pytest.fixture
def home(engine: Engine, ready_image: str, tmp_path: Path) -> Iterator[StackHome]:
    """A home with a stand-in for the server, and no Temporal."""
    home = make_stack_home(tmp_path / "home", own_temporal=False)
    home.environment |= {
        "STIGMER_ENGINE": engine.traits.kind.value,
        "STIGMER_AGENT_RUNNER_IMAGE": ready_image,
        "STIGMER_PULL_POLICY": "never",
        "TMPDIR": str(tmp_path / "temporary"),
    }
    (tmp_path / "temporary").mkdir()
    yield home
    home.stigmer("server", "stop")
    end_everything(home)
    remove_containers(engine, str(home.path))


def _made_for(engine: Engine, home: StackHome) -> tuple[set[str], set[str]]:
    """Of the home's container: the kinds of its mounts, and its networks."""
    (container,) = find_own_containers(engine, str(home.path))
    inspected: Any = engine.api.call("inspect", "GET", f"/containers/{container.container_id}/json")
    kinds = {str(mount["Type"]) for mount in inspected["Mounts"]}
    return kinds, set(inspected["NetworkSettings"]["Networks"] or {})


def _files(home: StackHome) -> set[str]:
    return {str(path.relative_to(home.path)) for path in home.path.rglob("*")}


@pytest.mark.timeout(60 * CYCLES)
def test_many_cycles_leave_no_container_network_volume_process_or_file(
    home: StackHome, engine: Engine, tmp_path: Path
) -> None:
    left_at_first: set[str] = set()
    for cycle in range(CYCLES):
        home.start()
        kinds, networks = _made_for(engine, home)
        assert kinds <= {"bind", "tmpfs"}, "a volume is made"
        assert networks <= {"host"}, "a network is made"
        stopped = home.stigmer("server", "stop")
        assert stopped.returncode == 0, f"cycle {cycle}: {stopped.stderr}"
        left_at_first = left_at_first or _files(home)
    assert find_own_containers(engine, str(home.path)) == []
    assert home.processes() == []
    assert _files(home) == left_at_first
    assert list((tmp_path / "temporary").iterdir()) == []
