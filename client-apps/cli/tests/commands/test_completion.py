"""Completion, by pressing the tabulator in the shells themselves."""

import re
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cli_harness import Command, Server, Terminal

PROMPT = "ready>"
AGAIN_SECONDS = 10.0
"""Longer than the command is patient, and than it takes to start on a busy machine."""
SHELLS = {
    "bash": ["bash", "--norc", "--noprofile", "-i"],
    "zsh": ["zsh", "-f", "-i"],
    "fish": ["fish", "--no-config", "-i"],
}
BEGINNINGS = {
    "bash": f"PS1='{PROMPT}'; bind 'set show-all-if-ambiguous on'; bind 'set bell-style none'; "
    "bind 'set enable-bracketed-paste off'; source ./script",
    "zsh": f"PS1='{PROMPT}'; autoload -Uz compinit; compinit -u -D; unsetopt beep; source ./script",
    "fish": f"function fish_prompt; echo -n '{PROMPT}'; end; function fish_greeting; end; source ./script",
}


@pytest.fixture(params=list(SHELLS))
def open_shell(request: pytest.FixtureRequest, command: Command) -> Iterator[Callable[[], Terminal]]:
    """Opens a shell that has read the script, at its prompt; `stigmer` is in its PATH."""
    shell: str = request.param
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not here")
    programs = command.folder / "bin"
    programs.mkdir()
    (programs / "stigmer").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m stigmer_cli "$@"\n')
    (programs / "stigmer").chmod(0o755)
    written = command.run("completion", shell)
    assert written.exit_code == 0
    (command.folder / "script").write_text(written.stdout, encoding="utf-8")

    opened: list[Terminal] = []

    def open_it() -> Terminal:
        path = f"{programs}:{command.environment['PATH']}"
        terminal = command.start_program(SHELLS[shell], {"PATH": path}, columns=200)
        opened.append(terminal)
        terminal.type(BEGINNINGS[shell] + "; echo be''gun\n")
        terminal.wait_for(f"\nbegun\n{PROMPT}")
        return terminal

    yield open_it
    for terminal in opened:
        terminal.process.kill()
        terminal.process.wait()
        terminal.hang_up()


def completed(terminal: Terminal, line: str, expected: str) -> None:
    """Presses the tabulator after a line until what is expected is anywhere on the screen.

    As a person would: the command offers nothing where a busy server does not answer it soon.
    """
    pressed_at = -AGAIN_SECONDS

    def is_completed(screen: str) -> bool:
        nonlocal pressed_at
        if expected not in screen and time.monotonic() - pressed_at > AGAIN_SECONDS:
            terminal.type("\x15" + line + "\t")
            pressed_at = time.monotonic()
        return expected in screen

    terminal.wait_until(is_completed, repr(expected))


def make_session(command: Command, server: Server) -> tuple[str, str]:
    """An execution of the agent `greeter`, and its session."""
    execution_id = command.run("run", ".", "Count, the `files` $HOME", "--detach").stdout.strip()
    server.take_execution(execution_id).complete("done")
    return execution_id, server.client.get_execution(execution_id).session_id


def test_names_ids_and_keys_are_completed(
    command: Command, server: Server, open_shell: Callable[[], Terminal]
) -> None:
    assert command.run("apply", "-f", ".").exit_code == 0
    execution_id, session_id = make_session(command, server)
    terminal = open_shell()
    completed(terminal, "stigmer agents get gree", "agents get greeter")
    completed(terminal, "stigmer run gree", "run greeter")
    completed(terminal, f"stigmer executions get {execution_id[:-4]}", f"executions get {execution_id}")
    completed(terminal, f"stigmer executions follow {execution_id[-6:-2]}", f"follow {execution_id[-6:]}")
    completed(terminal, f"stigmer executions retry {execution_id[-6:-2]}", f"retry {execution_id[-6:]}")
    completed(terminal, f"stigmer sessions path {session_id[-6:-2]}", f"sessions path {session_id[-6:]}")
    completed(terminal, f"stigmer run . --session {session_id[:-4]}", f"--session {session_id}")
    completed(terminal, "stigmer config get llm.mod", "config get llm.model")
    completed(terminal, "stigmer executions canc", "executions cancel")
    assert command.run("agents", "delete", "greeter", "--yes").exit_code == 0


def test_paths_are_completed(command: Command, open_shell: Callable[[], Terminal]) -> None:
    (command.folder / "reports of today").mkdir()
    (command.folder / "reports of today" / "agent.yaml").write_text("")
    (command.folder / "prompts.txt").write_text("")
    terminal = open_shell()
    completed(terminal, "stigmer run ./prom", "run ./prompts.txt")
    completed(terminal, "stigmer run prom", "run prompts.txt")
    completed(terminal, "stigmer apply -f ./repo", "apply -f ./reports\\ of\\ today/")
    completed(terminal, "stigmer validate -f reports\\ of\\ today/a", "today/agent.yaml")
    completed(terminal, "stigmer run . --prompt-file pro", "--prompt-file prompts.txt")
    completed(terminal, "stigmer run . --workspace repo", "--workspace reports\\ of\\ today")


@pytest.mark.parametrize("where", ["a port where nobody is", "no stack"])
def test_without_a_server_nothing_is_said(
    command: Command, open_shell: Callable[[], Terminal], tmp_path: Path, where: str
) -> None:
    command.environment["STIGMER_BACKEND_ENDPOINT"] = "127.0.0.1:9"
    if where == "no stack":
        del command.environment["STIGMER_BACKEND_ENDPOINT"]
    terminal = open_shell()
    completed(terminal, "stigmer agents get gree", "agents get gree")
    # Completions come in order: the next one says that the one before is over.
    completed(terminal, "stigmer executions get x", "executions get x")
    completed(terminal, "stigmer config get llm.mod", "config get llm.model")
    assert re.search(r"rror|Traceback|refused|hint", terminal.screen) is None
    assert not (tmp_path / "home").exists()
