"""`make demo`: an agent at work, its runner killed half-way, and the agent finishing all the same.

Uses nothing but the `stigmer` command and what it prints with `--json`. The stack is the demo's own: its
state is in `.demo/` (or the folder given as argument), its ports are free ones, and it is stopped at the end.
"""

import fcntl
import json
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

from run import EXAMPLES, find_stigmer, run_arguments

EXAMPLE = "csv-report"
FOLDER = Path(*sys.argv[1:2]).resolve() if sys.argv[1:] else EXAMPLES.parent / ".demo"
WORKSPACE = FOLDER / EXAMPLE
KILL_AFTER_TURN = 6
"""Of the cassette's twelve answers. The next one takes three seconds, so that no command runs meanwhile."""
COMMAND_TIMEOUT_SECONDS = 60
REPORT_LINES = 14
STOPPING_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

Event = dict[str, Any]  # one line of `--json`


class DemoFailed(Exception):
    """The demo did not show what it is there to show."""


def main() -> int:
    """Start, run, kill, prove, stop."""
    for number in STOPPING_SIGNALS:
        signal.signal(number, _interrupt)
    FOLDER.mkdir(parents=True, exist_ok=True)
    with (FOLDER / "lock").open("w", encoding="utf-8") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print("error: another demo runs in this checkout", file=sys.stderr)
            return 3
        try:
            return _demonstrate()
        except DemoFailed as failure:
            print(f"\nerror: {failure}\n\nhint: logs are in {FOLDER / 'home' / 'logs'}", file=sys.stderr)
            return 1
        except KeyboardInterrupt:
            print("\ninterrupted", file=sys.stderr)
            return 130


def _demonstrate() -> int:
    began = time.monotonic()
    stigmer = Stigmer(FOLDER)
    _say("Starting Temporal, stigmer-server and a runner of the demo's own.")
    with stigmer.running_stack():
        runner = stigmer.runner_pid()
        shutil.copytree(EXAMPLES / EXAMPLE / "input", WORKSPACE)
        _say(
            f"The agent {EXAMPLE} is to write a report about a sales export of 194 rows, some of them dirty.",
            "Its model answers from a recording, so no key is needed; its commands really run.",
        )
        events = watch_and_kill(stigmer, runner, WORKSPACE)
        execution_id = str(events[0]["execution_id"])
        _show_proof(stigmer, execution_id)
    _show_result()
    _print(f"\nThe whole demo took {time.monotonic() - began:.0f} seconds.")
    return 0


class Stigmer:
    """The `stigmer` command, with a home and ports that nobody else uses."""

    def __init__(self, folder: Path) -> None:
        """`folder`: holds the home, and the workspace of each example beside it."""
        self._folder = folder
        command = find_stigmer()
        if command is None:
            raise DemoFailed("there is no `stigmer` command; run `make setup`")
        self._command = command
        kept = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("STIGMER_", "TEMPORAL_", "OTEL_"))
        }
        temporal, server, health = _free_ports(3)
        self._environment = kept | {
            "STIGMER_HOME": str(folder / "home"),
            "STIGMER_TEMPORAL_PORT": str(temporal),
            "STIGMER_PORT": str(server),
            "STIGMER_HEALTH_PORT": str(health),
            "STIGMER_ENGINE": "none",  # the demo kills the runner, so it must be a process of this machine
        }

    @contextmanager
    def running_stack(self) -> Generator[None]:
        """A fresh stack, ready; stopped at the end, whatever happens."""
        self.run("server", "stop")  # what an earlier demo left behind, if it was killed
        for leftover in (self._folder / "home", self._folder / EXAMPLE):
            shutil.rmtree(leftover, ignore_errors=True)
        try:
            self.run("server", "start", shown=True)
            yield
        finally:
            for number in STOPPING_SIGNALS:
                signal.signal(number, signal.SIG_IGN)  # stopping takes some seconds, and must not be cut off
            self.run("server", "stop")

    def run(self, *arguments: str, shown: bool = False) -> str:
        """What the command prints on stdout."""
        if shown:
            _print(f"  $ {shlex.join(['stigmer', *arguments])}")
        finished = subprocess.run(
            [self._command, *arguments],
            env=self._environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            timeout=COMMAND_TIMEOUT_SECONDS,
            check=False,
            start_new_session=True,  # Ctrl-C is the demo's to handle
        )
        if finished.returncode:
            raise DemoFailed(f"`stigmer {shlex.join(arguments)}` failed:\n{finished.stderr.strip()}")
        return finished.stdout

    @contextmanager
    def events(self, *arguments: str) -> Generator[Iterator[Event]]:
        """The recorded events that a command with `--json` prints, as they come."""
        with subprocess.Popen(
            [self._command, *arguments, "--json"],
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            encoding="utf-8",
            start_new_session=True,
        ) as process:
            _print(f"  $ {shlex.join(['stigmer', *map(_here, arguments), '--json'])}")
            assert process.stdout is not None
            try:
                yield (line for line in map(json.loads, process.stdout) if "sequence" in line)
                if process.wait(COMMAND_TIMEOUT_SECONDS):
                    raise DemoFailed(f"`stigmer {arguments[0]}` ended with exit code {process.returncode}")
            finally:
                if process.poll() is None:
                    process.kill()

    def runner_pid(self) -> int:
        """Of the runner that the stack has now."""
        status = json.loads(self.run("server", "status", "--json"))
        return next(int(part["pid"]) for part in status["components"] if part["name"] == "runner")


# --- what one sees ----------------------------------------------------------------------------


def watch_and_kill(stigmer: Stigmer, runner: int, workspace: Path) -> list[Event]:
    """Show the execution to its end, and kill its runner on the way."""
    seen: list[Event] = []
    killed_at = 0.0
    with stigmer.events(*run_arguments(EXAMPLE, workspace, None)) as events:
        for line in events:
            seen.append(line)
            event = line["event"]
            _show(event)
            if event["type"] == "tool.finished" and event["turn"] == KILL_AFTER_TURN:
                os.kill(runner, signal.SIGKILL)
                killed_at = time.monotonic()
                _say(
                    "Half-way, while the model is being asked, the runner is killed.", f"  $ kill -9 {runner}"
                )
            if event["type"] == "leg.started" and event["attempt"] > 1:
                waited = time.monotonic() - killed_at
                _say(
                    f"{waited:.0f} seconds later another runner, {event['runner']}, takes over.",
                    f"From the log of {line['sequence']} events it knows what is done, and repeats nothing.",
                )
    if seen[-1]["event"]["type"] != "execution.completed":
        raise DemoFailed("the execution did not complete")
    return seen


def _show(event: Event) -> None:
    """One line for what the model says, and for each tool call."""
    if event["type"] == "model.responded":
        parts = event["response"].get("value", {}).get("parts", [])
        said = " ".join(part["text"] for part in parts if part["kind"] == "text")
        if said:
            _print(f"  turn {event['turn']:>2}  {_shortened(said)}")
    elif event["type"] == "tool.started":
        arguments = event["arguments"].get("value", {})
        argument = _shortened(str(next(iter(arguments.values()), "")))
        _print(f"  turn {event['turn']:>2}    {event['tool']} {argument}")


def _show_proof(stigmer: Stigmer, execution_id: str) -> None:
    """Read the whole log once more, and count."""
    _say("The log shows it:")
    with stigmer.events("executions", "follow", execution_id) as lines:
        log = list(lines)
    answers = [line for line in log if line["event"]["type"] == "model.responded"]
    calls = [line["event"]["call_id"] for line in log if line["event"]["type"] == "tool.finished"]
    turns = [line["event"]["turn"] for line in answers]
    if turns != list(range(1, len(turns) + 1)) or len(calls) != len(set(calls)):
        raise DemoFailed("something stands in the log twice")
    for attempt in sorted({line["attempt"] for line in answers}):
        mine = [line["event"]["turn"] for line in answers if line["attempt"] == attempt]
        _print(f"  attempt {attempt}: turns {mine[0]} to {mine[-1]}")
    each = f"{len(turns)} turns with one model answer each, {len(calls)} tool calls, none twice"
    _print(f"  {len(log)} events: {each}")


def _show_result() -> None:
    report = (WORKSPACE / "report.md").read_text(encoding="utf-8").splitlines()
    _say(f"The report ({len(report)} lines) begins:")
    _print("\n".join(f"  | {line}" for line in report[:REPORT_LINES]))
    _say("Everything is stopped. What is left to look at:")
    for what, path in (("report and scripts", WORKSPACE), ("logs of the stack", FOLDER / "home" / "logs")):
        _print(f"  {what:<20} {_here(str(path))}")
    _print(f"  {'the same by hand':<20} python3 examples/run.py {EXAMPLE}")


def _say(*lines: str) -> None:
    _print("\n".join(["", *lines]))


def _print(text: str) -> None:
    print(text, flush=True)  # at once, also where it goes to a file or a pipe


def _here(argument: str) -> str:
    """Paths below the current directory, relative to it."""
    return argument.replace(f"{Path.cwd()}/", "")


def _shortened(text: str, width: int = 96) -> str:
    line = " ".join(text.split())
    return line if len(line) <= width else line[: width - 1] + "…"


def _free_ports(count: int) -> list[int]:
    """Ports that nobody listens on now."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [int(listener.getsockname()[1]) for listener in sockets]
    for listener in sockets:
        listener.close()
    return ports


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
