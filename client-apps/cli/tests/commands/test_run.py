"""`stigmer run` against a real server, its runner played by the test."""

import json
import re
import signal

from cli_harness import Command, Server, finish
from stigmer_contract import events
from stigmer_contract.error_codes import ErrorCode


def test_only_the_answer_goes_to_a_pipe(unhurried: Command, server: Server) -> None:
    process = unhurried.start("run", ".", "Hello")

    leg = server.take_execution()
    leg.write(1, "I will look.")
    leg.answer(1, "I will look.", calls={"a": "ls -l"})
    leg.call(1, "a", "ls -l")
    leg.finish_call(1, "a", "sales.csv")
    leg.answer(2, "There is one file.")
    leg.complete("There is one file.")

    result = finish(process)
    assert (result.exit_code, result.stdout) == (0, "There is one file.\n")
    assert result.stderr.splitlines()[:2] == ["→ run_command ls -l", "✓ run_command ls -l 1.2 s"]
    session_id = leg.grant.execution.session_id
    assert re.fullmatch(
        rf"2 turns · 2\.4k tokens in · 60 out · [\d.]+ s · session {session_id}",
        result.stderr.splitlines()[2],
    )


def test_a_terminal_shows_the_answer_as_it_is_written(unhurried: Command, server: Server) -> None:
    terminal = unhurried.start_in_terminal("run", ".", "Hello")

    leg = server.take_execution()
    leg.write(1, "I will ")
    terminal.wait_for("I will")
    leg.write(1, "look.")
    leg.answer(1, "I will look.", calls={"a": "ls -l"})
    leg.call(1, "a", "ls -l")
    leg.finish_call(1, "a", "sales.csv")
    leg.answer(2, "There is one file.")
    leg.complete("There is one file.")

    assert terminal.finish() == 0
    *lines, summary = terminal.screen.splitlines()
    assert lines == ["I will look.", "✓ run_command ls -l 1.2 s", "There is one file."]
    assert summary.startswith("2 turns")


def test_a_terminal_shows_the_beginning_and_the_end_of_a_long_output(
    unhurried: Command, server: Server
) -> None:
    terminal = unhurried.start_in_terminal("run", ".", "Hello")

    leg = server.take_execution()
    leg.answer(1, "", calls={"a": "seq 100"})
    leg.call(1, "a", "seq 100")
    terminal.wait_for("seq 100")  # nobody is shown live events from before he looked
    leg.print_output("a", "".join(f"{number}\n" for number in range(1, 51)))
    leg.print_output("a", "".join(f"{number}\n" for number in range(51, 101)))
    terminal.wait_for("→ run_command seq 100\n  │ 95\n  │ 96\n  │ 97\n  │ 98\n  │ 99\n  │ 100\n")
    terminal.wait_for(" running run_command seq 100")
    leg.finish_call(1, "a", "…\n[exit code: 2]")
    leg.answer(2, "Done.")
    leg.complete("Done.")

    assert terminal.finish() == 0
    assert terminal.screen.splitlines()[:-2] == [
        "✗ run_command seq 100 1.2 s exit code 2",
        *[f"  │ {number}" for number in range(1, 5)],
        "  │ … 92 more lines …",
        *[f"  │ {number}" for number in range(97, 101)],
    ]


def test_json_prints_every_event_recorded_and_live(command: Command, server: Server) -> None:
    process = command.start("run", ".", "Hello", "--json")

    leg = server.take_execution()
    leg.write(1, "Hi.")
    leg.answer(1, "Hi.")
    leg.complete("Hi.")

    result = finish(process)
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    assert {line["execution_id"] for line in lines} == {leg.execution_id}
    recorded = [(line["sequence"], line["event"]["type"]) for line in lines if "sequence" in line]
    assert recorded == [
        (1, "execution.started"),
        (2, "leg.started"),
        (3, "model.responded"),
        (4, "execution.completed"),
    ]
    assert result.exit_code == 0


def test_a_failed_execution_tells_code_reason_and_hint(unhurried: Command, server: Server) -> None:
    process = unhurried.start("run", ".", "Hello")

    leg = server.take_execution()
    leg.append(
        events.ExecutionFailed(
            code=ErrorCode.MODEL_REJECTED, message="openai refused the key", hint="set OPENAI_API_KEY"
        )
    )

    result = finish(process)
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.splitlines()[1:] == [
        "error: the execution failed (model_rejected): openai refused the key",
        "",
        f"hint: set OPENAI_API_KEY; `stigmer executions retry {leg.execution_id}` goes on from its log",
    ]


def test_ctrl_c_without_a_terminal_cancels(command: Command, server: Server) -> None:
    process = command.start("run", ".", "Hello", "--json")
    leg = server.take_execution()
    assert process.stdout
    while "leg.started" not in process.stdout.readline():
        pass

    process.send_signal(signal.SIGINT)
    while not leg.is_asked_to_stop():
        pass
    leg.append(events.ExecutionCancelled(reason="interrupted"))

    result = finish(process)
    assert result.exit_code == 130
    assert result.stderr.splitlines()[-1] == "the execution was cancelled"


def test_ctrl_c_asks_and_detaching_leaves_the_execution_alone(command: Command, server: Server) -> None:
    terminal = command.start_in_terminal("run", ".", "Hello")
    leg = server.take_execution()
    leg.write(1, "Working")
    terminal.wait_for("Working")

    terminal.type("\x03")
    terminal.wait_for("Cancel the execution, or detach")
    terminal.type("d\n")

    assert terminal.finish() == 130
    assert f"run `stigmer executions follow {leg.execution_id}` to watch it again" in terminal.screen
    assert not leg.is_asked_to_stop()


def test_going_on_after_ctrl_c_loses_nothing(command: Command, server: Server) -> None:
    terminal = command.start_in_terminal("run", ".", "Hello")
    leg = server.take_execution()
    leg.write(1, "One ")
    terminal.wait_for("One")

    terminal.type("\x03")
    terminal.wait_for("Cancel the execution, or detach")
    leg.write(1, "two.")
    terminal.type("\n")
    leg.answer(1, "One two.")
    leg.complete("One two.")

    assert terminal.finish() == 0
    assert "two." in terminal.screen


def test_a_second_ctrl_c_cancels(command: Command, server: Server) -> None:
    terminal = command.start_in_terminal("run", ".", "Hello")
    leg = server.take_execution()
    leg.write(1, "Working")
    terminal.wait_for("Working")

    terminal.type("\x03")
    terminal.wait_for("Cancel the execution, or detach")
    terminal.type("\x03")
    terminal.wait_for("cancelling")
    while not leg.is_asked_to_stop():
        pass
    leg.append(events.ExecutionCancelled())

    assert terminal.finish() == 130


def test_detach_prints_the_id_and_follow_shows_the_rest(command: Command, server: Server) -> None:
    detached = command.run("run", ".", "Hello", "--detach")
    execution_id = detached.stdout.strip()
    leg = server.take_execution(execution_id)
    leg.answer(1, "Hi.")
    leg.complete("Hi.")

    followed = command.run("executions", "follow", execution_id)

    assert (detached.exit_code, detached.stderr) == (0, "")
    assert (followed.exit_code, followed.stdout) == (0, "Hi.\n")


def test_a_large_answer_is_fetched_from_the_blob_store(command: Command, server: Server) -> None:
    process = command.start("run", ".", "-", stdin=-1)
    assert process.stdin
    process.stdin.write("Read from standard input")
    process.stdin.close()
    process.stdin = None
    answer = "long " * 20_000

    leg = server.take_execution()
    content = json.dumps(answer).encode()
    payload = events.BlobPayload(sha256=leg.client.upload_blob(content), size_bytes=len(content))
    leg.append(events.ExecutionCompleted(output=payload))

    result = finish(process)
    assert result.stdout == answer + "\n"
    assert leg.grant.input == events.InlinePayload(value="Read from standard input")


def test_a_long_wait_says_why(command: Command, server: Server) -> None:
    process = command.start("run", ".", "Hello")
    assert process.stderr

    assert process.stderr.readline().startswith("waiting: Temporal is not reachable")

    server.take_execution().complete("Hi.")
    assert finish(process).exit_code == 0


def test_a_recorded_execution_can_be_played_again(command: Command, server: Server) -> None:
    process = command.start("run", ".", "Hello", "--record", "hello.cassette.yaml")
    leg = server.take_execution()
    leg.answer(1, "Hi.")
    leg.complete("Hi.")
    assert finish(process).exit_code == 0

    again = command.run("run", ".", "Hello", "--model", "replay:hello.cassette.yaml", "--detach")

    leg = server.take_execution(again.stdout.strip())
    assert leg.grant.execution.model is not None
    digest = leg.grant.execution.model.removeprefix("replay:sha256:")
    assert leg.client.fetch_blob(digest) == (command.folder / "hello.cassette.yaml").read_bytes()


def test_files_that_other_programs_will_execute_are_named_on_the_last_line(
    command: Command, server: Server
) -> None:
    process = command.start("run", ".", "Hello")

    leg = server.take_execution()
    leg.append(
        events.WorkspaceWarned(
            files=[".git/hooks/pre-commit", "a\x1b[2K/.envrc"], moved_aside=["x.pth"], further=2
        )
    )
    leg.complete("Done.")

    result = finish(process)
    assert (result.exit_code, result.stdout) == (0, "Done.\n")
    assert result.stderr.splitlines()[-1] == (
        "warning: the agent changed files that other programs execute: .git/hooks/pre-commit, a/.envrc; "
        "moved aside, as other programs would execute them: x.pth; and 2 more. "
        "Look at them before you work in that directory"
    )
    shown = command.run("executions", "get", leg.execution_id)
    assert "warning: the agent changed files that other programs execute: .git/hooks" in shown.stdout
