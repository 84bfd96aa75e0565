"""The official suite for clients of the Model Context Protocol, against a whole stack.

Each scenario is a server of the suite's, at which `client_under_test.py` signs in and runs an agent. Needs
Node.js and the suite: `make mcp-conformance` sets both up.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from e2e_script import QUICK_HEARTBEAT, runner_environment
from model_server import ModelServer, ScriptedCall, ScriptedModel, ScriptedTurn
from running_stack import RunningStack

HERE: Final = Path(__file__).parent
SUITE: Final = HERE / "node_modules/@modelcontextprotocol/conformance/dist/index.js"
NODE: Final = os.environ.get("STIGMER_TEST_NODE", "")
SCENARIO_MILLISECONDS: Final = 600_000
SUITE_SECONDS: Final = 1500
METADATA_URL: Final = "https://conformance-test.local/client-metadata.json"
"""Of a client that the suite knows."""
ALLOWED: Final = {"STIGMER_MCP_ALLOW_HOSTS": "localhost"}
SERVER: Final = {"STIGMER_MCP_CLIENT_METADATA_URL": METADATA_URL}
BAD: Final = frozenset({"FAILURE", "WARNING"})
HEADERS: Final[dict[str, Any]] = {
    "region": "us-west1",
    "priority": 42,
    "verbose": False,
    "debug": True,
    "empty_val": "",
    "method_val": "test-method",
    "float_val": 3.14159,
    "non_ascii_val": "Hello, 世界",
    "whitespace_val": " padded ",
    "leading_space_val": " us-west1",
    "trailing_space_val": "us-west1 ",
    "internal_space_val": "us west 1",
    "control_char_val": "line1\nline2",
    "crlf_val": "line1\r\nline2",
    "tab_val": "\tindented",
    "query": "SELECT * FROM users",
}
DONE: Final = ScriptedTurn(text="Done.")

pytestmark = [
    pytest.mark.timeout(2 * SUITE_SECONDS),
    pytest.mark.xdist_group("conformance"),
    pytest.mark.skipif(not NODE or not SUITE.exists(), reason="run by `make mcp-conformance`"),
]


def _call(tool: str, **arguments: Any) -> ScriptedTurn:
    return ScriptedTurn(calls=[ScriptedCall(f"suite__{tool}", arguments)])


CALLS: Final = {
    "initialize": [],
    "request-metadata": [],
    "json-schema-ref-no-deref": [],
    "tools_call": [_call("add_numbers", a=5, b=3)],
    "sse-retry": [_call("test_reconnection")],
    "elicitation-sep1034-client-defaults": [_call("test_client_elicitation_defaults")],
    "http-standard-headers": [_call("test_headers")],
    "http-invalid-tool-headers": [_call("valid_tool", region="here")],
    "http-custom-headers": [
        _call("test_custom_headers", **HEADERS),
        _call("test_custom_headers_null", region="us-east1", priority=1, query="SELECT 1"),
    ],
    "sep-2322-client-request-state": [
        _call(f"test_mrtr_{name}") for name in ("echo_state", "unrelated", "no_state", "no_result_type")
    ],
}
"""What the model calls in each scenario; in those of signing in, `test-tool`."""


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningStack]:
    scripts = {name: [*calls, DONE] for name, calls in CALLS.items()}
    with (
        ModelServer(ScriptedModel([_call("test-tool"), DONE], conversations=scripts)) as model,
        RunningStack(
            tmp_path_factory.mktemp("conformance"),
            server_environment=QUICK_HEARTBEAT | ALLOWED | SERVER,
            runner_environment=runner_environment(model) | ALLOWED,
        ) as running,
    ):
        yield running


@pytest.mark.parametrize("revision", ["2025-11-25", "2026-07-28"])
def test_every_scored_scenario_of_the_official_suite_passes(
    stack: RunningStack, tmp_path: Path, revision: str
) -> None:
    done = run_suite(stack, tmp_path / "all", "--requirements", revision)
    _, _, summary = done.stdout.partition("=== SUITE SUMMARY ===")
    print(summary)
    if done.returncode == 0:
        return
    scored, _, _ = summary.partition("Total:")
    _, _, unscored = summary.partition("Not scored")
    failed = [line.split()[1].rstrip(":") for line in scored.splitlines() if line.startswith("✗")]
    failed = [name for name in failed if f"✗ {name} (" not in unscored]
    assert failed, done.stdout + done.stderr
    # Some look at the time at which something is done, and the machine may be slow.
    found = {name: once_more(stack, tmp_path / "again", name, revision) for name in failed}
    assert {name: bad for name, bad in found.items() if bad} == {}


def once_more(stack: RunningStack, folder: Path, scenario: str, revision: str) -> list[str]:
    """What one scenario alone finds wrong."""
    done = run_suite(stack, folder, "--scenario", scenario, "--spec-version", revision)
    if done.returncode == 0:
        return []
    checks = [
        check
        for file in folder.glob(f"{scenario}-*/checks.json")
        for check in json.loads(file.read_text(encoding="utf-8"))
    ]
    bad = [f"{each['id']}: {each.get('errorMessage')}" for each in checks if each["status"] in BAD]
    return bad or [done.stdout + done.stderr]


def run_suite(stack: RunningStack, results: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """Runs the suite; what each scenario saw and what the client said is then in the folder."""
    (stack.home / "command-line").mkdir(exist_ok=True)
    return subprocess.run(
        [
            *(NODE, str(SUITE), "client", "--command", f"{sys.executable} {HERE / 'client_under_test.py'}"),
            *("--timeout", str(SCENARIO_MILLISECONDS), "--output-dir", str(results), *arguments),
        ],
        env=stack.environment,
        cwd=stack.home,
        capture_output=True,
        text=True,
        check=False,
        timeout=SUITE_SECONDS,
    )
