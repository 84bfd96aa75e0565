"""The command under test of the official client suite: drives a running stack as a person would.

Signs in with `stigmer mcp login`, runs an agent whose scripted model calls the tools, and answers what
waits. The suite says by its environment what is to be done; the stack is named by `STIGMER_*`. Only the
browser is a double.
"""

import fcntl
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Final

AT_ONCE: Final = int(os.environ.get("CONFORMANCE_AT_ONCE", "3"))
"""The suite starts all scenarios at the same time; the machine may be small."""
STIGMER: Final = (sys.executable, "-m", "stigmer_cli")
BROWSER: Final = """#!{python}
import sys, urllib.error, urllib.request
try:
    urllib.request.build_opener(urllib.request.ProxyHandler({{}})).open(sys.argv[1]).read()
except urllib.error.HTTPError as error:
    print(error, file=sys.stderr)
"""
"""Opens the page that it is given, and goes wherever that leads."""


def stigmer(*arguments: str, text: str | None = None) -> "subprocess.CompletedProcess[str]":
    """Runs the command; what it says goes into the suite's own record."""
    done = subprocess.run(
        [*STIGMER, *arguments],
        input=text,
        stdin=subprocess.DEVNULL if text is None else None,
        capture_output=True,
        text=True,
        check=False,
    )
    print(f"$ stigmer {' '.join(arguments)} [{done.returncode}]\n{done.stdout}{done.stderr}", file=sys.stderr)
    return done


def manifest(name: str, url: str, protocol: str, known_client: dict[str, Any] | None) -> dict[str, Any]:
    """An agent whose only server is the suite's."""
    server: dict[str, Any] = {"name": "suite", "url": url, "protocol": protocol, "pin": False}
    if known_client is not None:
        server["auth"] = {"clientId": known_client["client_id"], "clientSecret": {"secret": "SUITE"}}
    spec = {"instructions": "Call the tools.", "mcpServers": [server]}
    return {
        "apiVersion": "agentic.stigmer.ai/v1",
        "kind": "Agent",
        "metadata": {"name": name},
        "spec": spec,
    }


def one_of_few(folder: Path) -> Any:
    """A lock that so many hold at the same time as the machine bears."""
    while True:
        for n in range(AT_ONCE):
            lock = (folder / f"conformance-{n}").open("w")
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                lock.close()
            else:
                return lock
        time.sleep(0.1)


def main() -> int:
    """Exit code 0: everything was done that could be."""
    scenario, protocol = (
        os.environ["MCP_CONFORMANCE_SCENARIO"],
        os.environ["MCP_CONFORMANCE_PROTOCOL_VERSION"],
    )
    context: dict[str, Any] = json.loads(os.environ.get("MCP_CONFORMANCE_CONTEXT", "{}"))
    url = sys.argv[1]
    held = one_of_few(Path(os.environ["STIGMER_HOME"]).parent)
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        browser = Path(folder, "browser")
        browser.write_text(BROWSER.format(python=sys.executable), encoding="utf-8")
        browser.chmod(0o700)
        os.environ["BROWSER"] = str(browser)
        name = scenario.replace("/", "-").replace("_", "-").lower()
        known = context if scenario == "auth/pre-registration" else None
        agent = manifest(name, url, protocol, known)
        Path("agent.yaml").write_text(json.dumps(agent), encoding="utf-8")
        code = drive(scenario, name, known, url)
    held.close()
    return code


def drive(scenario: str, name: str, known: dict[str, Any] | None, url: str) -> int:
    """Signs in where that is asked for, runs the agent, and answers until it is done."""
    if known is not None:
        stigmer("secrets", "set", "SUITE", text=known["client_secret"])
        if stigmer("apply", "-f", "agent.yaml").returncode != 0:
            return 1
    if scenario.startswith("auth/"):
        where = url if known is None else f"{name}/suite"
        if (signed_in := stigmer("mcp", "login", where)).returncode != 0:
            return signed_in.returncode
    key = scenario.replace("/", "-")
    code = follow("run", "agent.yaml", f"Go. [conversation {key}]", "--json", "--wait")
    if code == 1 and scenario == "auth/authorization-server-migration":
        # The server takes no token of before any more as its tools are listed: what the message says helps.
        if stigmer("mcp", "login", url).returncode != 0:
            return 1
        code = follow("run", "agent.yaml", f"Go. [conversation {key}]", "--json", "--wait")
    return code


def follow(*arguments: str) -> int:
    """Watches an execution to its end, and answers what it asks."""
    with subprocess.Popen(
        [*STIGMER, *arguments], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True
    ) as running:
        assert running.stdout is not None
        for line in running.stdout:
            print(line, end="", file=sys.stderr)
            event = json.loads(line)["event"]
            if event["type"] == "input.requested":
                answer(event)
    return running.returncode


def answer(event: dict[str, Any]) -> None:
    """Does what a person would: signs in, or accepts what is proposed."""
    if event["kind"] == "login":
        stigmer("mcp", "login", event["input_id"])
    else:
        fields = event["answer_schema"]["properties"]
        given = {name: True for name, each in fields.items() if "default" not in each}
        stigmer("executions", "answer", event["input_id"], json.dumps(given))


if __name__ == "__main__":
    sys.exit(main())
