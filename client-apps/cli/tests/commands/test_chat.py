"""`stigmer chat` in a terminal of 80 columns, against a real server, its runner played by the test."""

import re
import signal
from dataclasses import replace
from pathlib import Path

from pydantic import JsonValue

from cli_harness import Command, Leg, Server, Terminal, wait_for
from stigmer_contract import events
from stigmer_contract.identifiers import INPUT_PREFIX, new_id
from stigmer_contract.inputs import Approval, InputKind, wait_kind_of
from stigmer_contract.phases import ExecutionPhase
from stigmer_contract.waits import WaitReason

FETCH = '{"tool":"shell","when":"git fetch *","policy":"allow"}'


def open_chat(command: Command, *arguments: str) -> Terminal:
    return open_in_terminal(command, "chat", *arguments)


def open_in_terminal(command: Command, *arguments: str) -> Terminal:
    # The test's terminal does not answer where its cursor is.
    environment = command.environment | {"PROMPT_TOOLKIT_NO_CPR": "1"}
    command = replace(command, environment=environment)
    terminal = command.start_in_terminal(*arguments, columns=80, lines=24)
    terminal.wait_for("›")
    return terminal


def say(terminal: Terminal, text: str) -> None:
    terminal.type(f"{text}\r")


def leave(terminal: Terminal) -> None:
    # Between two lines the terminal is a shell's for a moment, where the key would be swallowed.
    wait_for(lambda: not terminal.echoes, "the line")
    terminal.type("\x04")
    assert terminal.finish() == 0


def end(leg: Leg, answer: str, turn: int = 1) -> None:
    leg.answer(turn, answer)
    leg.complete(answer)


def check(terminal: Terminal, *texts: str) -> None:
    """The texts stand on the screen, one behind the other."""
    at = 0
    for text in texts:
        found = terminal.screen.find(text, at)
        assert found >= 0, f"{text!r} does not stand behind {at} in {terminal.screen!r}"
        at = found + len(text)


def wait_for_turns(terminal: Terminal, number: int) -> None:
    """So many turns have ended here: each says last which session it was of."""
    terminal.wait_until(lambda screen: len(re.findall("tokens in", screen)) == number, f"{number} turns")


def session_of(leg: Leg) -> str:
    return leg.grant.execution.session_id


def test_a_chat_of_two_turns_is_one_session(unhurried: Command, server: Server) -> None:
    terminal = open_chat(unhurried, ".")
    say(terminal, "Who are you?")
    first = server.take_execution()
    end(first, "I am **an agent**.")
    wait_for_turns(terminal, 1)
    say(terminal, "And who am I?")
    second = server.take_execution()
    assert session_of(second) == session_of(first)
    end(second, "You are a person.")
    wait_for_turns(terminal, 2)
    leave(terminal)
    check(terminal, "› Who are you?", "I am an agent.", "› And who am I?", "You are a person.", "comes back")


def test_what_is_typed_while_it_works_is_a_message(unhurried: Command, server: Server) -> None:
    terminal = open_chat(unhurried, ".")
    say(terminal, "Count the files.")
    leg = server.take_execution()
    leg.answer(1, "", calls={"a": "ls"})
    leg.call(1, "a", "ls")
    say(terminal, "The hidden ones, too.")
    terminal.wait_for("message: The hidden ones, too.")
    leg.finish_call(1, "a", "a b .c")
    end(leg, "Three files.", turn=2)
    wait_for_turns(terminal, 1)
    leave(terminal)
    [*said] = [each for each in server.client.read_events(leg.execution_id) if is_message(each)]
    assert len(said) == 1
    check(terminal, "› Count the files.", "message: The hidden ones, too.", "run_command ls", "Three files.")


def test_a_file_behind_an_at_goes_with_what_begins_a_turn(unhurried: Command, server: Server) -> None:
    (unhurried.folder / "a.txt").write_bytes(b"text")
    terminal = open_chat(unhurried, ".")
    say(terminal, "Read @a.txt, and @nothing.")
    leg = server.take_execution()
    [attached] = leg.grant.attachments
    assert (attached.name, attached.size_bytes) == ("a.txt", 4)
    say(terminal, "And @a.txt once more.")
    terminal.wait_for("message: And @a.txt once more.")
    end(leg, "Read.", turn=1)
    wait_for_turns(terminal, 1)
    leave(terminal)
    check(terminal, "attached: a.txt", "a.txt: only what begins a turn takes files along")


def test_files_and_diff_tell_what_the_agent_changed_and_compact_asks_for_less(
    unhurried: Command, server: Server
) -> None:
    terminal = open_chat(unhurried, ".")
    say(terminal, "/files")
    terminal.wait_for("nothing yet")
    say(terminal, "Write it down.")
    leg = server.take_execution()
    change(leg, "write_file", {"path": "new.txt", "content": "one\ntwo"})
    edits: list[JsonValue] = [{"old_text": "blue", "new_text": "green"}]
    change(leg, "edit_file", {"path": "a.txt", "old_text": "red", "new_text": "gold", "replacements": edits})
    end(leg, "Done.")
    wait_for_turns(terminal, 1)
    say(terminal, "/files")
    terminal.wait_until(lambda screen: "a.txt" in screen.partition("/files")[2], "the files")
    say(terminal, "/diff")
    terminal.wait_for("+green")
    say(terminal, "/compact")
    terminal.wait_for("a compacted conversation")
    assert server.client.get_session(session_of(leg)).compaction_asked_at is not None
    leave(terminal)
    check(terminal, "new.txt", "a.txt", "+one", "+two", "-red", "+gold", "-blue", "+green")


def change(leg: Leg, tool: str, arguments: dict[str, JsonValue]) -> None:
    """A call of a file tool that succeeds."""
    leg.append(
        events.ToolStarted(
            turn=1,
            call_id=tool,
            tool=tool,
            arguments=events.InlinePayload(value=arguments),
            side_effects=True,
        ),
        events.ToolFinished(
            turn=1,
            call_id=tool,
            tool=tool,
            outcome=events.ToolOutcome.SUCCEEDED,
            result=events.InlinePayload(value={"outcome": "succeeded"}),
            duration_seconds=0,
        ),
    )


def is_message(recorded: events.RecordedEvent) -> bool:
    return isinstance(recorded.event, events.MessageReceived)


def test_ctrl_c_stops_the_turn_and_not_the_session(unhurried: Command, server: Server) -> None:
    terminal = open_chat(unhurried, ".")
    say(terminal, "Work for ever.")
    leg = server.take_execution()
    leg.answer(1, "I begin.")
    terminal.wait_for("I begin.")
    terminal.type("\x03")
    terminal.wait_for("stopping")
    wait_for(leg.is_asked_to_stop, "the request to stop")
    again = server.take_execution(leg.execution_id)
    again.append(events.ExecutionCancelled())
    wait_for_turns(terminal, 1)
    say(terminal, "Say hello instead.")
    following = server.take_execution()
    assert session_of(following) == session_of(leg)
    end(following, "Hello.")
    wait_for_turns(terminal, 2)
    leave(terminal)
    check(terminal, "I begin.", "stopping", "stopped", "› Say hello instead.", "Hello.")


def test_who_left_comes_back_to_the_turn_with_continue(unhurried: Command, server: Server) -> None:
    terminal = open_chat(unhurried, ".")
    say(terminal, "Take your time.")
    leg = server.take_execution()
    leg.answer(1, "I begin.", calls={"a": "make"})
    leg.call(1, "a", "make")
    terminal.wait_for("I begin.")
    leave(terminal)
    assert server.client.get_execution(leg.execution_id).phase is ExecutionPhase.IN_PROGRESS

    again = open_chat(unhurried, "--continue")
    again.wait_for("I begin.")
    leg.finish_call(1, "a", "made")
    end(leg, "It is made.", turn=2)
    wait_for_turns(again, 1)
    say(again, "Thanks.")
    following = server.take_execution()
    assert (session_of(following), following.grant.execution.agent_name) == (
        session_of(leg),
        leg.grant.execution.agent_name,
    )
    end(following, "You are welcome.")
    wait_for_turns(again, 2)
    leave(again)
    check(again, "I begin.", "It is made.", "› Thanks.", "You are welcome.")


def test_what_would_steer_the_terminal_is_inert(unhurried: Command, server: Server) -> None:
    terminal = open_chat(unhurried, ".")
    say(terminal, "Be evil.")
    leg = server.take_execution()
    evil = "\x1b]0;owned\x07\x1b[2J\u202edlrow"
    leg.answer(1, f"first {evil}", calls={"a": f"echo '{evil}'"})
    leg.call(1, "a", f"echo '{evil}'")
    terminal.wait_for("first")
    leg.finish_call(1, "a", evil)
    end(leg, f"last {evil}", turn=2)
    wait_for_turns(terminal, 1)
    leave(terminal)
    assert "\x1b]0;" not in terminal.raw
    assert "\u202e" not in terminal.raw


def test_approvals_are_decided_in_the_order_in_which_they_are_shown(
    unhurried: Command, server: Server
) -> None:
    terminal = open_chat(unhurried, ".")
    say(terminal, "Clean up.")
    leg = server.take_execution()
    commands = ("rm -r build", "git push", "git fetch a", "git fetch b")
    asked = request_approvals(leg, *commands)
    terminal.wait_for("y approves it")
    terminal.wait_for("approval: git push")
    assert "command: git push" not in terminal.screen
    say(terminal, "y")
    terminal.wait_for("command: git push")
    say(terminal, "Not today.")
    terminal.wait_for("command: git fetch a")
    terminal.wait_for("y approves it, a all of this kind")
    say(terminal, "a")
    wait_for(lambda: is_resolved(server, asked[-1]), "the last decision")
    decided = [server.client.get_input(each).resolution for each in asked]
    assert [(each.outcome, each.reason) for each in decided if each] == [
        ("approved", None),
        ("denied", "Not today."),
        ("approved", None),
        ("approved", None),
    ]
    end(server.take_execution(leg.execution_id), "Done.")
    wait_for_turns(terminal, 1)
    leave(terminal)


def request_approvals(leg: Leg, *commands: str) -> list[str]:
    """What a leg asks before it ends; gives the inputs' ids."""
    requested = [
        events.InputRequested.model_validate(
            {
                "input_id": new_id(INPUT_PREFIX),
                "kind": InputKind.APPROVAL,
                "turn": 1,
                "call_id": f"call_{place}",
                "tool": "run_command",
                "title": command,
                "content": {
                    "kind": "inline",
                    "value": Approval(
                        toolset="shell",
                        tool="run_command",
                        arguments={"command": command},
                        kind_rule=FETCH if command.startswith("git fetch") else None,
                    ).model_dump(mode="json"),
                },
            }
        )
        for place, command in enumerate(commands)
    ]
    leg.append(
        *requested,
        events.LegEnded(
            attempt=leg.grant.attempt,
            reason=events.LegEndReason.WAITING,
            waiting_for=[
                WaitReason(kind=wait_kind_of(InputKind.APPROVAL), key=each.input_id) for each in requested
            ],
            seen=leg.grant.events[-1].sequence,
        ),
    )
    return [each.input_id for each in requested]


def is_resolved(server: Server, input_id: str) -> bool:
    return server.client.get_input(input_id).resolution is not None


def test_bytes_that_are_no_text_end_no_conversation(unhurried: Command, server: Server) -> None:
    terminal = open_chat(unhurried, ".")
    terminal.type_bytes(b"caf\xe9\r")
    leg = server.take_execution()
    started = leg.grant.events[0].event
    assert isinstance(started, events.ExecutionStarted)
    assert started.input == events.InlinePayload(value="caf\ufffd")
    end(leg, "Coffee.")
    wait_for_turns(terminal, 1)
    leave(terminal)


def test_sigterm_gives_the_terminal_back_as_it_was(unhurried: Command) -> None:
    terminal = open_chat(unhurried, ".")
    assert not terminal.echoes

    terminal.process.terminate()

    wait_for(lambda: terminal.process.poll() is not None, "the end of the conversation")
    assert (terminal.process.returncode, terminal.echoes) == (128 + signal.SIGTERM, True)
    terminal.hang_up()


def test_run_without_a_prompt_talks_on_a_terminal(unhurried: Command, server: Server) -> None:
    terminal = open_in_terminal(unhurried, "run", ".")
    say(terminal, "/help")
    terminal.wait_for("Ctrl-C or Esc stops the turn")
    say(terminal, "/nothing")
    terminal.wait_for("there is no /nothing")
    leave(terminal)


def test_a_chat_needs_a_terminal_and_somebody_to_talk_with(command: Command) -> None:
    refused = command.run("chat", ".")
    assert (refused.exit_code, refused.stderr.splitlines()[0]) == (
        2,
        "error: could not talk without a terminal",
    )
    alone = command.start_in_terminal("chat")
    assert alone.finish() == 2
    assert "there is nobody to talk with" in alone.screen
    nobody = command.start_in_terminal("chat", "nobody")
    assert nobody.finish() == 1
    assert "no agent of that name is applied" in nobody.screen
    nothing = command.start_in_terminal("chat", "--continue")
    assert nothing.finish() == 2
    assert "no session of this directory" in nothing.screen


def test_what_was_typed_is_kept_for_the_person_alone(unhurried: Command, server: Server) -> None:
    terminal = open_chat(unhurried, ".")
    say(terminal, "/cost")
    terminal.wait_for("nothing yet")
    leave(terminal)
    history = Path(unhurried.environment["STIGMER_HOME"]) / "chat_history"
    assert history.stat().st_mode & 0o077 == 0
    assert "/cost" in history.read_text(encoding="utf-8")
