"""Hostile text from a model, a tool, a manifest, a file name or the server, on its way to a person."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from cli_harness import Command, Leg, Server, Terminal, finish
from stigmer_contract import events
from stigmer_contract.error_codes import ErrorCode

HOSTILE = "\x1b[2J\x1b]0;title\x07\x1b[31mred\x9b2J\r\u202elanoitcerid\x08\u2028end"
STEERING = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\u2028]|\r(?!\n)")
"""A terminal's line discipline makes `\\r\\n` of our `\\n`; a lone `\\r` would overwrite the line."""

OWN_STEERING = re.compile(r"\r(?:\x1b\[\d+A)?\x1b\[J")
"""How the live lines are taken away: to their first line, and all from there on."""


def play_hostile_execution(leg: Leg) -> None:
    """An execution in which everything that can carry text carries hostile text."""
    leg.write(1, HOSTILE)
    leg.write(1, "split \x1b")
    leg.write(1, "[2J over pieces")
    leg.answer(1, HOSTILE, calls={"a": f"cat {HOSTILE}"})
    leg.call(1, "a", f"cat {HOSTILE}")
    leg.print_output("a", f"{HOSTILE}\n" * 20)
    leg.finish_call(1, "a", f"{HOSTILE}\n[exit code: 2]")
    leg.finish_call(1, "b", HOSTILE, events.ToolOutcome.FAILED)
    leg.append(
        events.ExecutionFailed(code=ErrorCode.MODEL_REJECTED, message=f"no: {HOSTILE}", hint=f"do {HOSTILE}")
    )


def assert_harmless(terminal: Terminal) -> None:
    """Nothing came through that steers the terminal, and what is harmless did."""
    others = OWN_STEERING.sub("", terminal.raw)
    found = STEERING.search(others)
    assert found is None, (found, terminal.raw)
    assert "red" in others


def test_hostile_text_of_an_execution_does_not_steer_the_terminal_of_whoever_runs_it(
    command: Command, server: Server
) -> None:
    terminal = command.start_in_terminal("run", ".", f"Hello {HOSTILE}".replace("\x00", ""))
    leg = server.take_execution()
    play_hostile_execution(leg)
    assert terminal.finish() == 1
    assert_harmless(terminal)

    for arguments in (["follow", leg.execution_id], ["get", leg.execution_id]):
        terminal = command.start_in_terminal("executions", *arguments)
        terminal.finish()
        assert_harmless(terminal)


@pytest.mark.parametrize("verb", ["follow", "get"])
def test_hostile_text_stays_what_it_is_in_json_and_does_not_steer_a_terminal(
    command: Command, server: Server, verb: str
) -> None:
    process = command.start("run", ".", "Hello", "--json")
    leg = server.take_execution()
    play_hostile_execution(leg)
    piped = finish(process).stdout
    assert not STEERING.search(piped)
    told = [json.loads(line)["event"] for line in piped.splitlines()]
    assert told[-1]["message"] == f"no: {HOSTILE}"

    terminal = command.start_in_terminal("executions", verb, leg.execution_id, "--json")
    terminal.finish()
    assert_harmless(terminal)
    documents = terminal.raw.splitlines() if verb == "follow" else [terminal.raw]
    last = [json.loads(document) for document in documents if document.strip().startswith("{")][-1]
    failed = last["event"] if verb == "follow" else last["events"][-1]["event"]
    assert failed["message"] == f"no: {HOSTILE}"


def test_hostile_names_and_manifests_do_not_steer_the_terminal(command: Command, server: Server) -> None:
    folder = command.folder / HOSTILE.replace("/", "")
    folder.mkdir()
    manifest = (command.folder / "agent.yaml").read_text(encoding="utf-8")
    described = manifest.replace("greeter", "hostile") + f"  description: {json.dumps(HOSTILE)}\n"
    (folder / "agent.yaml").write_text(described, encoding="utf-8")
    broken = folder / "broken.yaml"
    broken.write_text(manifest + f"  {json.dumps('red' + HOSTILE)}: 1\n", encoding="utf-8")
    for arguments in (
        ["validate", "-f", str(folder)],
        ["validate", "-f", str(broken)],
        ["apply", "-f", str(folder)],
        ["agents", "list"],
        ["agents", "get", "hostile"],
        ["agents", "get", "hostile", "--json"],
        ["agents", "get", HOSTILE],
        ["run", ".", "Hello", "--detach", "--workspace", str(folder)],
        ["sessions", "list"],
        ["run", "hostile", "Hello", "--model", f"openai:{HOSTILE}", "--detach"],
        ["executions", "list"],
        ["run", HOSTILE, "Hello"],
    ):
        terminal = command.start_in_terminal(*arguments)
        terminal.finish()
        found = STEERING.search(terminal.raw)
        assert found is None, (arguments, found, terminal.raw)
    server.take_execution().complete("Hi.")  # the detached one, which the next test would take for its own


def test_a_name_that_is_not_utf_8_is_shown_and_does_not_break_the_command(command: Command) -> None:
    name = os.fsdecode(b"odd-\xff.yaml")
    manifest = (command.folder / "agent.yaml").read_text(encoding="utf-8")
    (command.folder / name).write_text(manifest, encoding="utf-8")
    result = command.run("validate", "-f", name)
    assert (result.exit_code, result.stdout) == (0, "odd-\ufffd.yaml: agent greeter is valid\n")


def test_recording_replaces_a_link_that_an_agent_left_and_does_not_follow_it(
    command: Command, server: Server
) -> None:
    private = command.folder / "private.txt"
    private.write_text("mine", encoding="utf-8")
    link = command.folder / "work" / "cassette.yaml"
    link.parent.mkdir()
    link.symlink_to(private)
    process = command.start("run", ".", "Hello", "--record", str(link))
    leg = server.take_execution()
    leg.answer(1, "Hi.")
    leg.complete("Hi.")
    assert finish(process).exit_code == 0
    assert private.read_text(encoding="utf-8") == "mine"
    assert not link.is_symlink()
    assert "turns:" in link.read_text(encoding="utf-8")
    assert [file.name for file in link.parent.iterdir()] == ["cassette.yaml"]


def test_a_device_without_end_in_place_of_a_manifest_is_refused(command: Command) -> None:
    (command.folder / "agent.yaml").unlink()
    (command.folder / "agent.yaml").symlink_to("/dev/zero")
    result = command.run("validate", "-f", "agent.yaml")
    assert (result.exit_code, result.stderr) == (
        2,
        "error: could not read the manifest 'agent.yaml': it is not a file\n",
    )


def test_a_manifest_may_come_from_a_pipe_of_the_shell_s_and_from_no_other(
    command: Command, tmp_path: Path
) -> None:
    script = '"$@" validate -f <(cat agent.yaml)'
    done = subprocess.run(
        ["bash", "-c", script, "bash", sys.executable, "-m", "stigmer_cli"],
        env=command.environment,
        cwd=command.folder,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stdout.endswith(": agent greeter is valid\n"), done.stderr
    os.mkfifo(tmp_path / "pipe.yaml")  # nobody writes, so nothing may wait for it
    result = command.run("validate", "-f", str(tmp_path / "pipe.yaml"))
    assert (result.exit_code, "it is not a file" in result.stderr) == (2, True)
