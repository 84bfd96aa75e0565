"""The commands around `run`, against a real server."""

import json
import re
import signal
import subprocess
import sys

from cli_harness import Command, Server
from stigmer_contract import events
from stigmer_contract.api import CreateExecution
from stigmer_contract.manifest_reader import read_manifests


def test_an_agent_is_applied_listed_printed_and_deleted(command: Command) -> None:
    manifest = (command.folder / "agent.yaml").read_text(encoding="utf-8")

    assert command.run("apply", "-f", ".").stdout == "agent greeter created (version 1)\n"
    assert command.run("apply", "-f", "-", text=manifest).stdout == "agent greeter unchanged (version 1)\n"
    changed = manifest + "  description: Greets people.\n"
    assert command.run("apply", "-f", "-", text=changed).stdout == "agent greeter updated (version 2)\n"

    listed = command.run("agents", "list").stdout
    assert re.fullmatch(
        r"NAME +VERSION +MODEL +UPDATED +DESCRIPTION\n"
        r"greeter +2 +openai:gpt-5 +\d+ s ago +Greets people\.\n",
        listed,
    )
    printed = command.run("agents", "get", "greeter").stdout
    assert read_manifests(printed, "-") == read_manifests(changed, "-")
    agent = json.loads(command.run("agents", "get", "greeter", "--json").stdout)
    assert (agent["name"], agent["version"]) == ("greeter", 2)

    refused = command.run("agents", "delete", "greeter")
    assert (refused.exit_code, refused.stderr) == (
        2,
        "error: could not ask whether to delete the agent 'greeter': there is no terminal\n\n"
        "hint: pass --yes\n",
    )
    deleted = command.run("agents", "delete", "greeter", "--yes")
    assert (deleted.exit_code, deleted.stderr) == (0, "deleted the agent 'greeter'\n")
    empty = command.run("agents", "list")
    assert empty.stdout == ""
    assert empty.stderr == "no agents; apply one with `stigmer apply -f agent.yaml`\n"
    gone = command.run("agents", "get", "greeter")
    assert gone.exit_code == 1
    assert gone.stderr.startswith("error: ")


def test_a_person_is_asked_before_something_is_deleted(command: Command) -> None:
    command.run("apply", "-f", ".")

    terminal = command.start_in_terminal("agents", "delete", "greeter")
    terminal.wait_for("Delete the agent 'greeter'? [y/N]:")
    terminal.type("n\n")
    assert terminal.finish() == 130

    terminal = command.start_in_terminal("agents", "delete", "greeter")
    terminal.wait_for("[y/N]:")
    terminal.type("y\n")
    assert terminal.finish() == 0


def test_a_folder_of_agents_is_applied_as_a_whole_or_not_at_all(command: Command) -> None:
    for name in ("one", "two"):
        folder = command.folder / "team" / name
        folder.mkdir(parents=True)
        manifest = (command.folder / "agent.yaml").read_text(encoding="utf-8")
        (folder / "agent.yaml").write_text(manifest.replace("greeter", name), encoding="utf-8")

    applied = command.run("apply", "-f", "team", "--json")
    assert [change["name"] for change in json.loads(applied.stdout)] == ["one", "two"]

    (command.folder / "team/one/agent.yaml").write_text("kind: Agent\n", encoding="utf-8")
    (command.folder / "team/two/agent.yaml").write_text(
        manifest.replace("greeter", "two").replace("Greet", "Wave"), encoding="utf-8"
    )
    broken = command.run("apply", "-f", "team")
    assert (broken.exit_code, broken.stdout) == (1, "")
    assert broken.stderr.splitlines()[-1] == "error: 3 problems in 'team/one/agent.yaml'"
    assert "Greet" in command.run("agents", "get", "two").stdout

    for name in ("one", "two"):
        command.run("agents", "delete", name, "--yes")


def test_an_applied_agent_plays_its_cassette_wherever_it_runs(command: Command, server: Server) -> None:
    (command.folder / "hello.yaml").write_text("version: 1\nturns: [{text: Hi.}]\n", encoding="utf-8")
    manifest = (command.folder / "agent.yaml").read_text(encoding="utf-8")
    (command.folder / "agent.yaml").write_text(
        manifest.replace("openai:gpt-5", "replay:hello.yaml").replace("greeter", "player"), encoding="utf-8"
    )

    command.run("apply", "-f", "agent.yaml")

    agent = server.client.get_agent("player")
    assert agent.manifest.spec.model
    digest = agent.manifest.spec.model.removeprefix("replay:sha256:")
    assert server.client.fetch_blob(digest).startswith(b"version: 1")
    server.client.delete_agent("player")


def _finished_execution(command: Command, server: Server) -> str:
    manifest = read_manifests((command.folder / "agent.yaml").read_bytes(), "agent.yaml")[0]
    execution = server.client.create_execution(CreateExecution(manifest=manifest, input="Say hello"))
    leg = server.take_execution(execution.execution_id)
    leg.answer(1, "I look.", calls={"a": "ls"})
    leg.call(1, "a", "ls")
    leg.finish_call(1, "a", "no such tool", events.ToolOutcome.INVALID)
    leg.answer(2, "Hello.")
    leg.complete("Hello.")
    return execution.execution_id


def test_an_execution_is_listed_and_its_log_can_be_read(command: Command, server: Server) -> None:
    execution_id = _finished_execution(command, server)

    listed = command.run("executions", "list", "--agent", "greeter", "--phase", "completed")
    row = next(line for line in listed.stdout.splitlines() if line.startswith(execution_id[-6:]))
    columns = r"greeter +completed +\d+ (s|min) ago +[\d.]+ s +2 +2\.5k +Say hello"
    assert re.fullmatch(rf"{execution_id[-6:]} +{columns}", row)
    shown = command.run("executions", "get", execution_id)
    text = re.sub(r"\d\d:\d\d:\d\d", "00:00:00", shown.stdout.replace(execution_id, "exe_1"))
    text = re.sub(r"ses_\w+", "ses_1", re.sub(r"\d{4}-\d\d-\d\d", "2026-01-01", text))
    assert re.sub(r"time       [\d.]+ s", "time       0.1 s", text) == (
        """\
execution  exe_1
session    ses_1
agent      greeter
model      openai:gpt-5
phase      completed
created    2026-01-01 00:00:00 UTC
time       0.1 s
usage      2 turns · 2.4k tokens in · 60 out

00:00:00   started: Say hello
00:00:00   attempt 1 begins on 1@test
00:00:00   [1] turn 1: openai:gpt-5 in 0.5 s
           I look.
00:00:00   → run_command ls
00:00:00   [2] ↻ run_command in 1.2 s: no such tool
00:00:00   [3] turn 2: openai:gpt-5 in 0.5 s
           Hello.
00:00:00   completed
"""
    )
    as_json = json.loads(command.run("executions", "get", execution_id, "--json").stdout)
    assert [event["sequence"] for event in as_json["events"]] == list(range(1, 8))


def test_a_session_shows_its_executions_and_is_deleted_with_them(command: Command, server: Server) -> None:
    execution_id = _finished_execution(command, server)
    session_id = server.client.get_execution(execution_id).session_id

    assert session_id[-6:] in command.run("sessions", "list").stdout
    assert execution_id[-6:] in command.run("sessions", "get", session_id).stdout
    deleted = command.run("sessions", "delete", session_id, "--yes")
    assert (deleted.exit_code, deleted.stderr) == (0, f"deleted the session {session_id}\n")
    assert command.run("executions", "get", execution_id).exit_code == 1


def test_cancelling_asks_the_runner_to_stop(command: Command, server: Server) -> None:
    manifest = read_manifests((command.folder / "agent.yaml").read_bytes(), "agent.yaml")[0]
    execution = server.client.create_execution(CreateExecution(manifest=manifest, input="x"))
    leg = server.take_execution(execution.execution_id)

    cancelled = command.run("executions", "cancel", execution.execution_id, "--reason", "wrong file")

    assert cancelled.exit_code == 0
    assert leg.is_asked_to_stop()
    leg.append(events.ExecutionCancelled(reason="wrong file"))
    followed = command.run("executions", "follow", execution.execution_id)
    assert followed.exit_code == 1
    assert followed.stderr.endswith("error: somebody cancelled the execution: wrong file\n")


def test_a_page_that_nobody_reads_any_more_is_no_error(command: Command, server: Server) -> None:
    _finished_execution(command, server)

    piped = subprocess.run(
        [
            "bash",
            "-c",
            'set -o pipefail; "$0" -m stigmer_cli executions list --json --limit 100 | head -c 1; echo " $?"',
            sys.executable,
        ],
        env=command.environment,
        cwd=command.folder,
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=60,
        check=False,
    )

    assert (piped.stdout, piped.stderr) == ("[ 0\n", "")


def test_without_a_stack_commands_say_how_to_start_it(command: Command) -> None:
    environment = {
        name: value for name, value in command.environment.items() if not name.startswith("STIGMER_B")
    }
    local = Command(environment, command.folder)

    for arguments in (["agents", "list"], ["executions", "list"], ["sessions", "list"]):
        result = local.run(*arguments)
        assert (result.exit_code, result.stderr) == (
            3,
            "error: the local stack is not running\n\nhint: run `stigmer server start`\n",
        )


def test_a_server_that_is_not_there_is_named(command: Command) -> None:
    lost = Command({**command.environment, "STIGMER_BACKEND_ENDPOINT": "127.0.0.1:1"}, command.folder)

    result = lost.run("agents", "list")

    assert (result.exit_code, result.stderr) == (
        3,
        "error: could not reach the server at http://127.0.0.1:1: nothing answers there\n\n"
        "hint: run `stigmer server status` to see what runs\n",
    )


def test_ctrl_c_ends_a_watch_and_not_the_execution(command: Command, server: Server) -> None:
    manifest = read_manifests((command.folder / "agent.yaml").read_bytes(), "agent.yaml")[0]
    execution = server.client.create_execution(CreateExecution(manifest=manifest, input="x"))
    leg = server.take_execution(execution.execution_id)
    process = command.start("executions", "follow", execution.execution_id, "--json")
    assert process.stdout
    while "leg.started" not in process.stdout.readline():
        pass

    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=60)

    assert process.returncode == 130
    assert stderr.startswith("no longer watching; the execution goes on\n")
    assert not leg.is_asked_to_stop()
    leg.complete("x")
