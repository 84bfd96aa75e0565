"""Has an outside judge look at the product: PyPI `conformance`, invariants of agent runtimes under faults.

Starts a stack with a scripted model, hands its addresses to the episodes, and lets the judge decide. What it
could not decide is said as that; it counts for nothing.
"""

import argparse
import http.server
import json
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any, Final

from e2e_script import QUICK_HEARTBEAT, runner_environment
from executions import agent_manifest
from model_server import ModelServer, ScriptedCall, ScriptedModel, ScriptedTurn
from running_stack import LOOPBACK, RunningStack
from temporal_server import free_port

HERE: Final = Path(__file__).parent
STEPS: Final = ("step_quote", "step_refund_1", "step_refund_2", "step_refund_3")
RECORD_SECONDS: Final = 300
VERIFY_SECONDS: Final = 1200


def main(arguments: list[str]) -> int:
    """0: nothing is violated; 1: something is, or the judge could not work; 3: `curl` is missing."""
    parser = argparse.ArgumentParser(prog="judge.py")
    parser.add_argument("--judge", type=Path, required=True, help="the program `conformance`")
    parser.add_argument("--seed", default="1")
    parser.add_argument("--invariant", help="decide this one only")
    parser.add_argument("--result", type=Path, required=True, help="where to write what the judge says")
    chosen = parser.parse_args(arguments)
    if shutil.which("curl") is None:
        print("error: the agent of the episodes needs `curl`", file=sys.stderr)
        return 3
    with tempfile.TemporaryDirectory(prefix="stigmer-judge-") as folder:
        return _judge(Path(folder), chosen, chosen.judge.absolute())


def _judge(home: Path, chosen: argparse.Namespace, judge: Path) -> int:
    port = free_port()
    (home / "stack").mkdir()
    with (
        ModelServer(_script(port)) as model,
        RunningStack(
            home / "stack",
            server_environment=QUICK_HEARTBEAT,
            runner_environment=runner_environment(model),
        ) as stack,
    ):
        _apply_agents(stack)
        control = _serve_control(stack)
        evidence = home / "evidence"
        evidence.mkdir()
        described = {
            "server": stack.endpoint,
            "token": stack.token,
            "port": f"http://{LOOPBACK}:{port}",
            "control": f"http://{LOOPBACK}:{control}",
            "started": str(time.time_ns()),
        }
        (evidence / "stack.json").write_text(json.dumps(described), encoding="utf-8")
        scenario = ["--scenario", str(HERE / "refunds_scenario.py"), "--seed", chosen.seed]
        place = ["--data-dir", str(evidence)]
        recorded = subprocess.run(
            [judge, "record", *scenario, *place], cwd=home, timeout=RECORD_SECONDS, check=False
        )
        if recorded.returncode != 0:
            return 1
        only = [] if chosen.invariant is None else ["--invariant", chosen.invariant]
        verified = subprocess.run(
            [judge, "verify", *scenario, *place, *only, "--json"],
            cwd=home,
            stdout=subprocess.PIPE,
            timeout=VERIFY_SECONDS,
            check=False,
        )
        return _tell(verified.stdout, chosen.result)


def _tell(said: bytes, result: Path) -> int:
    """Shows what was decided, keeps it, and answers with the exit code."""
    verdicts: dict[str, Any] = json.loads(said)
    result.parent.mkdir(parents=True, exist_ok=True)
    result.write_text(json.dumps(verdicts, indent=2) + "\n", encoding="utf-8")
    for each in verdicts["invariants"]:
        reason = f"  ({each['reason']})" if each.get("reason") else ""
        print(f"{each['n']} {each['id']:<22} {each['status']}{reason}")
    print(f"level {verdicts['level_achieved']}; inconclusive is no pass; all of it is in {result}")
    return int(any(each["status"] not in ("hold", "inconclusive") for each in verdicts["invariants"]))


def _script(port: int) -> ScriptedModel:
    turns = [
        ScriptedTurn(
            text="Next.",
            calls=[
                ScriptedCall("run_command", {"command": f"curl -s -X POST http://{LOOPBACK}:{port}/{step}"})
            ],
        )
        for step in STEPS
    ]
    last = ScriptedTurn(text="All three are refunded.")
    slow = ScriptedTurn(
        text="A model that thinks for a long while. " * 3, calls=turns[0].calls, chunk_seconds=0.5
    )
    return ScriptedModel(
        [*turns, last],
        conversations={"slow": [slow, *turns[1:], last], "idle": [ScriptedTurn(text="Nothing.")]},
    )


def _apply_agents(stack: RunningStack) -> None:
    for name, expires, limits in (
        ("refunds", None, {}),
        ("refunds-withheld", "4s", {}),
        ("refunds-in-a-second", None, {"toolTimeout": "1s"}),
    ):
        manifest: dict[str, Any] = agent_manifest(name=name, tools=("shell",), limits=limits)
        rule = {"tool": "shell", "policy": "ask"} | ({"expiresAfter": expires} if expires else {})
        manifest["spec"] |= {"network": "all", "approval": [rule]}
        stack.client.put(f"/v1/agents/{name}", json=manifest).raise_for_status()


def _serve_control(stack: RunningStack) -> int:
    """Lets an episode kill the runner; another one is started in its stead."""

    class Control(http.server.BaseHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - named so by the base class
            pass

        def do_POST(self) -> None:
            stack.kill_runner(stack.runners[-1])
            stack.start_runner(f"runner-{len(stack.runners)}", wait=False)
            self.send_response(204)
            self.end_headers()

    server = http.server.ThreadingHTTPServer((LOOPBACK, 0), Control)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server.server_port


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
