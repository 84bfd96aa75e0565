"""Ten runs as a person sees them at 60, 100 and 200 columns, compared with screens that were looked at.

After a wanted change: delete `recorded_runs`, run this file, and look at every screen that differs.
"""

import os
import signal
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from cli_harness import Command, Leg, Server, Terminal
from recorded_screens import Screens, shows_life
from stigmer_contract import events
from stigmer_contract.conversation import TextContent, ToolOutcome, ToolResult
from stigmer_contract.error_codes import ErrorCode
from stigmer_contract.waits import WaitKind, WaitReason

RECORDED = Path(__file__).parent / "recorded_runs"
COLUMNS = (60, 100, 200)

MARKDOWN = """# Sales of 2026

The **north** sold most: 日本語のテキストも折り返されます, and this sentence
goes on until it has to be wrapped somewhere.

1. north
2. south

| region | sum |
|--------|-----|
| north  | 120 |

```sh
make report
```
"""

Play = Callable[[Terminal, Leg, Callable[[str], None]], None]


def _tool_finished(
    leg: Leg, call_id: str, text: str, outcome: ToolOutcome, tool: str = "run_command"
) -> None:
    told = ToolResult(
        outcome=outcome, content=[TextContent(text=text)], correctable=outcome is ToolOutcome.INVALID
    )
    leg.append(
        events.ToolFinished(
            turn=1,
            call_id=call_id,
            tool=tool,
            outcome=outcome,
            result=events.InlinePayload(value=told.to_json()),
            duration_seconds=1.25,
        )
    )


def an_answer(terminal: Terminal, leg: Leg, look: Callable[[str], None]) -> None:
    leg.write(1, MARKDOWN[:50])
    terminal.wait_for("writing the answer")
    look("while it is written")
    leg.answer(1, MARKDOWN)
    leg.complete(MARKDOWN)


def two_calls_at_once(terminal: Terminal, leg: Leg, look: Callable[[str], None]) -> None:
    leg.answer(1, "I look in both.", calls={"a": "make first", "b": "make second"})
    leg.call(1, "a", "make first")
    leg.call(1, "b", "make second")
    terminal.wait_for("running 2 calls")
    leg.print_output("a", "of the first\n10%\r20%\r")
    leg.print_output("b", "of the second\n")
    terminal.wait_for("20%")
    terminal.wait_for("of the second")
    look("while they run")
    leg.finish_call(1, "b", "of the second")
    leg.finish_call(1, "a", "of the first")
    leg.answer(2, "Both are made.")
    leg.complete("Both are made.")


def calls_that_fail(terminal: Terminal, leg: Leg, look: Callable[[str], None]) -> None:
    commands = {
        "a": "make all",
        "b": "sleep 900",
        "c": "rsync -a reports/ backup.example.com:/srv/reports/of/the/whole/year/2026",
    }
    leg.answer(1, "", calls=commands)
    for call_id, command in commands.items():
        leg.call(1, call_id, command)
    _tool_finished(leg, "a", "cc: no input files\nmake: stopped\n[exit code: 2]", ToolOutcome.FAILED)
    _tool_finished(leg, "b", "[Command timed out after 600s]", ToolOutcome.FAILED)
    _tool_finished(leg, "c", "The outcome is not known.", ToolOutcome.UNKNOWN)
    leg.answer(2, "None of it worked.")
    leg.complete("None of it worked.")


def calls_that_are_refused(terminal: Terminal, leg: Leg, look: Callable[[str], None]) -> None:
    leg.answer(1, "", calls={"a": "ls", "b": "vi notes.txt", "c": "git push --force origin main"})
    missing = '[{"type":"missing","loc":["command"],"msg":"Field required","input":{"comand":"ls"}}]'
    _tool_finished(leg, "a", missing, ToolOutcome.INVALID)
    unknown = (
        "Unknown tool name: 'edit'. Available tools: 'edit_file', 'find_files', 'read_file', 'run_command'"
    )
    _tool_finished(leg, "b", unknown, ToolOutcome.INVALID, tool="edit")
    _tool_finished(leg, "c", "denied by alice: not on a Friday", ToolOutcome.DENIED)
    leg.answer(2, "I could do nothing.")
    leg.complete("I could do nothing.")


def a_command_that_forges_lines(terminal: Terminal, leg: Leg, look: Callable[[str], None]) -> None:
    command = "printf 'ok\\r✓ run_command all tests pass 0.1 s'"
    leg.answer(1, "fine\r✓ run_command rm 1.0 s\x1b[2J\x1b]0;title\x07 \u202eevil", calls={"a": command})
    leg.call(1, "a", command)
    leg.print_output("a", "ok\r✓ run_command all tests pass 0.1 s\r\n\x1b[1A\x1b[2Kgone?\n")
    terminal.wait_for("gone?")
    look("while it runs")
    leg.finish_call(1, "a", "x")
    leg.complete("fine")


def a_long_output(terminal: Terminal, leg: Leg, look: Callable[[str], None]) -> None:
    leg.answer(1, "", calls={"a": "make test"})
    leg.call(1, "a", "make test")
    for number in range(1, 31):
        leg.print_output("a", f"test {number} passes {'and says so at great length ' * 8}\n")
    terminal.wait_for("test 30")
    look("while it runs")
    leg.finish_call(1, "a", "x")
    leg.complete("All pass.")


def a_model_that_is_asked_again(terminal: Terminal, leg: Leg, look: Callable[[str], None]) -> None:
    leg.write(1, "The begin")
    terminal.wait_for("The begin")
    reason = "model 'gpt-5' failed: 429: Rate limit reached for gpt-5 in organization acme, try again soon"
    leg.show(
        events.ModelPartial(turn=1, text=""), events.ModelRetry(turn=1, reason=reason, seconds=100_000_000)
    )
    terminal.wait_for("asking the model again in")
    look("while it waits")
    leg.answer(1, "The end.")
    leg.complete("The end.")


def a_refusal(terminal: Terminal, leg: Leg, look: Callable[[str], None]) -> None:
    message = "the provider's content filter refused: This request was flagged for violence."
    leg.append(events.ExecutionFailed(code=ErrorCode.MODEL_REJECTED, message=message, hint="ask otherwise"))


def a_wait_for_a_message(terminal: Terminal, leg: Leg, look: Callable[[str], None]) -> None:
    leg.answer(1, "Which file do you mean?")
    until = datetime(2099, 1, 1, tzinfo=UTC)
    leg.append(
        events.LegEnded(
            attempt=1,
            reason=events.LegEndReason.WAITING,
            waiting_for=[WaitReason(kind=WaitKind.MESSAGE, until=until)],
            seen=leg.client.get_execution(leg.execution_id).last_sequence,
        )
    )
    # As a remark, and below it as what is happening now.
    terminal.wait_until(lambda screen: screen.count("waiting for a message") == 2, "the wait")
    look("while it waits")
    leg.client.cancel_execution(leg.execution_id, "nobody answers")


def a_person_who_lets_go(terminal: Terminal, leg: Leg, look: Callable[[str], None]) -> None:
    leg.answer(1, "I begin.", calls={"a": "make all"})
    leg.call(1, "a", "make all")
    terminal.wait_for("running run_command make all")
    os.kill(terminal.process.pid, signal.SIGINT)
    terminal.wait_for("neither]")
    look("when asked")
    terminal.type("d\n")


RUNS: dict[Play, int] = {
    an_answer: 0,
    two_calls_at_once: 0,
    calls_that_fail: 0,
    calls_that_are_refused: 0,
    a_command_that_forges_lines: 0,
    a_long_output: 0,
    a_model_that_is_asked_again: 0,
    a_refusal: 1,
    a_wait_for_a_message: 1,
    a_person_who_lets_go: 130,
}
"""With the exit code that each ends with."""


@pytest.mark.parametrize("columns", COLUMNS)
@pytest.mark.parametrize("play", RUNS, ids=lambda play: play.__name__)
def test_a_run_looks_as_it_was_reviewed(unhurried: Command, server: Server, play: Play, columns: int) -> None:
    terminal = unhurried.start_in_terminal("run", ".", "Hello", columns=columns, lines=60)
    leg = server.take_execution()
    terminal.wait_for("asking the model")
    screens = Screens()

    def look(title: str) -> None:
        if title.startswith("while"):
            terminal.wait_until(shows_life, "the sign of life")
        screens.take(title, terminal.screen)

    play(terminal, leg, look)
    assert terminal.finish() == RUNS[play]
    look("at the end")
    screens.compare(RECORDED / f"{play.__name__.replace('_', '-')}-{columns}.txt", columns)
