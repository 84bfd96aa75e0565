"""What people do every day at a terminal: short ids, odd input, closed streams, hung-up terminals."""

import os
import re
import select
import signal
import subprocess
import sys
from pathlib import Path
from typing import IO

import pytest

from cli_harness import Command, Server, finish
from stigmer_cli.rendering.cells import cell_width
from stigmer_contract import events

MARKDOWN = """# Report

A **bold** claim about 日本語のテキスト that goes on for so long that it has to be wrapped
at a word somewhere.

- one
- two

| a | b |
|---|---|
| 1 | 2 |
"""


def make_execution(command: Command, server: Server, prompt: str = "Hello") -> str:
    """A completed execution; answers its id."""
    execution_id = command.run("run", ".", prompt, "--detach").stdout.strip()
    leg = server.take_execution(execution_id)
    leg.answer(1, "Hi.", calls={"a": "ls"})
    leg.call(1, "a", "ls")
    leg.finish_call(1, "a", "a.txt\nb.txt")
    leg.answer(2, "Two files.")
    leg.complete("Two files.")
    return execution_id


def test_an_id_is_known_by_its_last_characters_a_beginning_or_as_the_newest(
    command: Command, server: Server
) -> None:
    first, second = make_execution(command, server), make_execution(command, server)
    listed = command.run("executions", "list").stdout.splitlines()
    assert [line.split()[0] for line in listed[1:3]] == [second[-6:], first[-6:]]
    for given in ([first[-6:]], [first], [first[:-1]], ["--last"]):
        result = command.run("executions", "get", *given)
        wanted = second if given == ["--last"] else first
        assert (result.exit_code, result.stdout.splitlines()[0]) == (0, f"execution  {wanted}")
    ambiguous = command.run("executions", "get", first[:6])
    assert ambiguous.exit_code == 2
    assert re.search(rf"'{first[:6]}' fits \d+ executions: {second}, {first}", ambiguous.stderr)
    assert command.run("executions", "get", "nothing-like-it").exit_code == 1
    assert command.run("executions", "get").exit_code == 2
    assert command.run("executions", "get", first, "--last").exit_code == 2


@pytest.mark.parametrize("columns", [60, 100, 200])
def test_lists_show_what_was_asked_and_never_more_than_fits(
    command: Command, server: Server, columns: int
) -> None:
    prompt = "Summarise\x1b[31m the sales 日本語 of\nthe last quarter " + "in detail " * 20
    execution_id = make_execution(command, server, prompt)
    for what, prefix in (("executions", execution_id[-6:]), ("sessions", "")):
        piped = command.run(what, "list", "--limit", "1").stdout.splitlines()
        terminal = command.start_in_terminal(what, "list", "--limit", "1", columns=columns)
        assert terminal.finish() == 0
        shown = terminal.screen.splitlines()
        for header, row in (piped, shown):
            assert header.split()[-1] == "PROMPT" and row.startswith(prefix)
            assert "greeter" in row and "Summarise the" in row
        assert len(shown) == 2 and all(cell_width(line) <= columns for line in shown)
        assert piped[1].endswith(
            "Summarise the sales 日本語 of the last quarter " + "in detail " * 7 + "in det"
        )


def test_get_shows_results_where_asked_and_the_answer_once(command: Command, server: Server) -> None:
    execution_id = make_execution(command, server)
    short, full = (command.run("executions", "get", execution_id, *more).stdout for more in ([], ["--full"]))
    assert short.count("Two files.") == 1
    assert "b.txt" not in short and "a.txt\n           b.txt" in full


@pytest.mark.parametrize("verb", ["validate", "apply"])
def test_every_file_that_is_named_counts(command: Command, server: Server, verb: str) -> None:
    good = (command.folder / "agent.yaml").read_text(encoding="utf-8")
    (command.folder / "bad.yaml").write_text(
        good.replace("spec:", "spec: {nonsense: 1}\nx:"), encoding="utf-8"
    )
    result = command.run(verb, "-f", "bad.yaml", "-f", "agent.yaml")
    assert result.exit_code == 1 and "bad.yaml" in result.stderr


def test_apply_refuses_what_run_refuses(command: Command, server: Server) -> None:
    text = (command.folder / "agent.yaml").read_text(encoding="utf-8")
    (command.folder / "later.yaml").write_text(text + "  subAgents: [other]\n", encoding="utf-8")
    results = [command.run("apply", "-f", "later.yaml"), command.run("run", "later.yaml", "Hello")]
    assert [(result.exit_code, "subAgents is not supported yet" in result.stderr) for result in results] == [
        (1, True),
        (1, True),
    ]


def test_a_folder_without_a_manifest_says_so(command: Command, tmp_path: Path) -> None:
    (command.folder / "empty").mkdir()
    for folder in ("./empty", "empty/"):
        result = command.run("run", folder, "Hello")
        assert (result.exit_code, result.stderr.splitlines()[0]) == (
            2,
            f"error: could not run {folder!r}: the folder has no agent.yaml",
        )


def test_the_prompt_comes_from_an_argument_a_file_or_standard_input(command: Command, server: Server) -> None:
    (command.folder / "task.txt").write_text("from a file", encoding="utf-8")
    for arguments, text in (
        ([".", "plain"], None),
        ([".", "--prompt-file", "task.txt"], None),
        ([".", "-"], "from stdin"),
        ([".", "--prompt-file", "-"], "from stdin"),
    ):
        assert command.run("run", *arguments, "--detach", text=text).exit_code == 0
        server.take_execution().complete("done")
    for arguments in ([".", "x", "--prompt-file", "task.txt"], ["."], [".", "--prompt-file", "gone.txt"]):
        assert command.run("run", *arguments).exit_code == 2


@pytest.mark.parametrize(
    ("prompt", "said"),
    [
        (b"caf\xe9", "the prompt is not valid UTF-8: byte 4 is 0xe9"),
        (b"x" * 1_000_001, "the prompt has 1000001 characters, and may have 1000000"),
        (b"  \n", "the prompt is empty"),
    ],
)
def test_a_prompt_that_cannot_be_used_is_a_wrong_call(command: Command, prompt: bytes, said: str) -> None:
    (command.folder / "prompt").write_bytes(prompt)
    results = [command.run("run", ".", "--prompt-file", "prompt")]
    if len(prompt) < 1000:
        results.append(command.run("run", ".", os.fsdecode(prompt)))
    for result in results:
        assert result.exit_code == 2
        assert result.stderr.splitlines()[0] == f"error: {said}"


def test_any_argument_that_is_not_utf_8_is_a_wrong_call(command: Command, server: Server) -> None:
    result = command.run("executions", "get", os.fsdecode(b"caf\xe9"))
    assert result.exit_code in (1, 2) and "defect" not in result.stderr


def run_in_shell(command: Command, script: str, **environment: str) -> "subprocess.CompletedProcess[bytes]":
    return subprocess.run(
        ["/bin/sh", "-c", script, "sh", sys.executable, "-m", "stigmer_cli"],
        env={**command.environment, **environment},
        cwd=command.folder,
        capture_output=True,
        timeout=60,
        check=False,
    )


def test_a_full_or_closed_output_is_no_defect(command: Command, server: Server) -> None:
    make_execution(command, server)
    full = run_in_shell(command, '"$@" executions list > /dev/full')
    assert (full.returncode, full.stderr) == (
        1,
        b"error: could not write to standard output: No space left on device\n",
    )
    closed = run_in_shell(command, '"$@" executions list >&-')
    assert (closed.returncode, closed.stderr) == (0, b"")
    assert run_in_shell(command, '"$@" executions list 2>&- | head -n 0').returncode == 0


def test_a_terminal_without_utf_8_shows_what_it_can(command: Command, server: Server) -> None:
    execution_id = command.run("run", ".", "Hello", "--detach").stdout.strip()
    server.take_execution(execution_id).complete("naïve ☃ 日本")
    shown = run_in_shell(command, f'"$@" executions follow {execution_id}', PYTHONIOENCODING="latin-1")
    assert (shown.returncode, shown.stdout) == (0, "naïve \\u2603 \\u65e5\\u672c\n".encode("latin-1"))


def test_a_closed_window_lets_the_execution_go_on(command: Command, server: Server) -> None:
    terminal = command.start_in_terminal("run", ".", "Hello")
    leg = server.take_execution()
    terminal.wait_for("asking the model")
    terminal.hang_up()
    assert terminal.process.wait(timeout=60) == 130
    leg.answer(1, "Still here.")
    assert not leg.append(
        events.ToolStarted(
            turn=1,
            call_id="x",
            tool="read_file",
            arguments=events.InlinePayload(value={}),
            side_effects=False,
        )
    ).cancel_requested


def test_sigterm_cancels_the_execution_and_says_so(command: Command, server: Server) -> None:
    process = command.start("run", ".", "Hello", "--json")
    leg = server.take_execution()
    assert process.stdout
    while "leg.started" not in process.stdout.readline():
        pass
    process.send_signal(signal.SIGTERM)
    result = finish(process)
    assert result.exit_code == 130
    assert "cancelling" in result.stderr
    assert server.client.get_execution(leg.execution_id).cancel_requested


def test_why_an_execution_was_cancelled_stands_in_its_log(command: Command, server: Server) -> None:
    execution_id = command.run("run", ".", "Hello", "--detach").stdout.strip()
    leg = server.take_execution(execution_id)
    assert command.run("executions", "cancel", execution_id[-6:], "--reason", "wrong file").exit_code == 0
    leg.append(events.ExecutionCancelled())
    assert "cancelled: wrong file" in command.run("executions", "get", execution_id).stdout


def test_words_that_are_too_many_for_the_api_are_one_line(command: Command, server: Server) -> None:
    execution_id = command.run("run", ".", "Hello", "--detach").stdout.strip()
    refused = command.run("executions", "cancel", execution_id, "--reason", "x" * 1001)
    assert (refused.exit_code, refused.stderr) == (
        2,
        "error: the reason cannot be sent: String should have at most 1000 characters\n",
    )
    # Other tests take the first execution that is pending.
    server.take_execution(execution_id).complete("There.")


def test_why_a_request_is_made_again_and_when_is_seen(unhurried: Command, server: Server) -> None:
    retry = events.ModelRetry(turn=1, reason="model 'gpt-5' failed: HTTP 503 overloaded\x1b[2J", seconds=80)
    terminal = unhurried.start_in_terminal("run", ".", "Hello", columns=60)
    leg = server.take_execution()
    terminal.wait_for("asking the model")
    leg.show(retry)
    terminal.wait_for("asking the model again in")
    assert "\n↻ model 'gpt-5' failed: HTTP 503 overloaded\n" in "\n" + terminal.screen
    piped = unhurried.start("executions", "follow", leg.execution_id)
    assert piped.stderr
    line = ""
    while "again" not in line:  # it watches from some moment on
        leg.show(retry)
        line = _line_within(piped.stderr)
    assert line == "↻ asking the model again in 1 min 20 s: model 'gpt-5' failed: HTTP 503 overloaded\n"
    leg.complete("There.")
    assert terminal.finish() == 0
    assert "again" not in terminal.screen
    assert finish(piped).stdout == "There.\n"


def _line_within(stream: IO[str]) -> str:
    """The next line; nothing where none comes soon."""
    return stream.readline() if select.select([stream], [], [], 0.2)[0] else ""


@pytest.mark.parametrize("columns", [60, 100, 200])
def test_markdown_is_rendered_and_wraps_at_words(command: Command, server: Server, columns: int) -> None:
    terminal = command.start_in_terminal("run", ".", "Hello", columns=columns)
    leg = server.take_execution()
    leg.answer(1, MARKDOWN)
    leg.complete(MARKDOWN)
    assert terminal.finish() == 0
    lines = terminal.screen.splitlines()
    text = " ".join(" ".join(lines).split())
    assert "**" not in text and "|---|" not in text
    assert "A bold claim about 日本語のテキスト that goes on" in text
    assert " • one" in lines and "1 turn · 1.2k tokens in" in text
    assert all(len(line) <= columns for line in lines)


def test_plain_shows_the_answer_as_it_was_written(unhurried: Command, server: Server) -> None:
    terminal = unhurried.start_in_terminal("run", ".", "Hello", "--plain")
    leg = server.take_execution()
    leg.answer(1, "A **bold** claim")
    leg.complete("A **bold** claim")
    assert terminal.finish() == 0
    assert terminal.screen.splitlines()[0] == "A **bold** claim"


def test_parallel_calls_are_told_apart(unhurried: Command, server: Server) -> None:
    terminal = unhurried.start_in_terminal("run", ".", "Hello")
    leg = server.take_execution()
    leg.answer(1, "", calls={"a": "first", "b": "second"})
    leg.call(1, "a", "first")
    leg.call(1, "b", "second")
    terminal.wait_for("running 2 calls")
    leg.print_output("a", "of a\n")
    leg.print_output("b", "of b\n")
    terminal.wait_for("→ run_command first\n  │ of a\n→ run_command second\n  │ of b\n")
    leg.finish_call(1, "a", "of a")
    leg.finish_call(1, "b", "of b")
    leg.answer(2, "Done.")
    leg.complete("Done.")
    assert terminal.finish() == 0
    assert terminal.screen.splitlines()[:5] == [
        "✓ run_command first 1.2 s", "  │ of a", "✓ run_command second 1.2 s", "  │ of b", "Done.",
    ]  # fmt: skip


def test_a_setting_is_got_and_taken_back(command: Command) -> None:
    assert command.run("config", "set", "llm.model", "gpt-5").exit_code == 0
    assert command.run("config", "get", "llm.model").stdout == "gpt-5\n"
    assert command.run("config", "unset", "llm.model").exit_code == 0
    gone = command.run("config", "get", "llm.model")
    assert (gone.exit_code, gone.stderr.splitlines()[0]) == (1, "error: `llm.model` is not set")
    assert command.run("config", "unset", "llm.model").exit_code == 0
    assert command.run("config", "get", "llm.nonsense").exit_code == 2


def test_a_session_s_files_are_found_and_removed_with_it(command: Command, server: Server) -> None:
    make_execution(command, server)
    session = server.client.list_sessions(1)[0].session_id
    result = command.run("sessions", "path", "--last")
    assert result.exit_code == 1 and session in result.stderr
    assert command.run("sessions", "delete", session[-6:]).exit_code == 2  # nobody to ask
    assert command.run("sessions", "delete", session[-6:], "--yes").exit_code == 0
    assert session not in [each.session_id for each in server.client.list_sessions(100)]
