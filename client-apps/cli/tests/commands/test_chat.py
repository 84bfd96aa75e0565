"""`stigmer chat` in a terminal of 80 columns, against a real server, its runner played by the test."""

import re
from dataclasses import replace
from pathlib import Path

from cli_harness import Command, Leg, Server, Terminal, wait_for
from stigmer_contract import events
from stigmer_contract.phases import ExecutionPhase


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
