"""`stigmer run` in a session that is at work: --busy, the question at the terminal, and --continue."""

import pytest

from cli_harness import Command, Leg, Server, finish, wait_for
from stigmer_contract import events
from stigmer_contract.phases import ExecutionPhase


@pytest.fixture
def at_work(unhurried: Command, server: Server) -> Leg:
    """The first execution of the directory's session, which goes on."""
    started = unhurried.run("run", ".", "Count the files.", "--detach")
    assert started.exit_code == 0, started.stderr
    leg = server.take_execution(started.stdout.strip())
    leg.answer(1, "I begin.", calls={"a": "ls"})
    return leg


def number_of_executions(server: Server, leg: Leg) -> int:
    """Of the leg's session."""
    return len(server.client.list_executions(10, session_id=leg.grant.execution.session_id))


def message_of(server: Server, execution_id: str) -> object:
    said = [event.event for event in server.client.read_events(execution_id)]
    [message] = [event for event in said if isinstance(event, events.MessageReceived)]
    return message.message


def test_without_a_terminal_a_prompt_to_a_session_at_work_is_refused_with_what_can_be_done(
    unhurried: Command, at_work: Leg
) -> None:
    refused = unhurried.run("run", ".", "And the folders.", "--continue")
    assert (refused.exit_code, refused.stdout) == (1, "")
    error, _, hint = refused.stderr.strip().splitlines()
    assert "has an execution that has not ended" in error
    assert hint == (
        "hint: pass --busy wait, interrupt or send; "
        f"`stigmer executions follow {at_work.execution_id}` shows what it does"
    )
    assert unhurried.run("run", ".", "x", "--continue", "--busy", "reject").exit_code == 1


def test_busy_wait_begins_when_the_other_has_ended(unhurried: Command, server: Server, at_work: Leg) -> None:
    waiting = unhurried.start("run", ".", "And the folders.", "--continue", "--busy", "wait")
    assert waiting.stderr is not None
    assert "waiting until" in waiting.stderr.readline()
    assert number_of_executions(server, at_work) == 1
    at_work.complete("Three files.")
    following = server.take_execution()
    assert following.grant.execution.session_id == at_work.grant.execution.session_id
    following.answer(1, "One folder.")
    following.complete("One folder.")
    done = finish(waiting)
    assert (done.exit_code, done.stdout) == (0, "One folder.\n")


def test_busy_interrupt_stops_the_other_first(unhurried: Command, server: Server, at_work: Leg) -> None:
    interrupting = unhurried.start("run", ".", "Stop.", "--continue", "--busy", "interrupt")
    wait_for(at_work.is_asked_to_stop, "the request to stop")
    again = server.take_execution(at_work.execution_id)
    again.append(events.ExecutionCancelled())
    following = server.take_execution()
    following.answer(1, "Fine.")
    following.complete("Fine.")
    done = finish(interrupting)
    assert (done.exit_code, done.stdout) == (0, "Fine.\n")
    [*_, last] = server.client.read_events(at_work.execution_id)
    assert last.event == events.ExecutionCancelled(reason="interrupted by a new prompt")


def test_busy_send_says_it_to_the_other_and_follows_that(
    unhurried: Command, server: Server, at_work: Leg
) -> None:
    sending = unhurried.start("run", ".", "The hidden ones, too.", "--continue", "--busy", "send")
    wait_for(lambda: len(list(server.client.read_events(at_work.execution_id))) > 3, "the message")
    assert message_of(server, at_work.execution_id) == events.InlinePayload(value="The hidden ones, too.")
    at_work.answer(2, "Four files.")
    at_work.complete("Four files.")
    done = finish(sending)
    assert (done.exit_code, done.stdout) == (0, "Four files.\n")
    assert number_of_executions(server, at_work) == 1


def test_busy_changes_nothing_where_nothing_is_at_work(
    unhurried: Command, server: Server, at_work: Leg
) -> None:
    at_work.complete("Three files.")
    started = unhurried.run("run", ".", "And now?", "--continue", "--busy", "interrupt", "--detach")
    assert started.exit_code == 0
    following = server.client.get_execution(started.stdout.strip())
    assert following.session_id == at_work.grant.execution.session_id
    assert following.phase is ExecutionPhase.PENDING
    server.client.cancel_execution(following.execution_id, None)


@pytest.mark.parametrize("key", ["s", "i", "w", ""])
def test_at_a_terminal_the_person_is_asked(
    unhurried: Command, server: Server, at_work: Leg, key: str
) -> None:
    terminal = unhurried.start_in_terminal("run", ".", "The hidden ones, too.", "--continue", columns=80)
    terminal.wait_for("Enter: neither]")
    assert "still works: Count the files." in terminal.screen
    terminal.type(f"{key}\n")
    match key:
        case "s":
            terminal.wait_for("message: The hidden ones, too.")
            at_work.answer(2, "Four files.")
            at_work.complete("Four files.")
        case "i":
            wait_for(at_work.is_asked_to_stop, "the request to stop")
            server.take_execution(at_work.execution_id).append(events.ExecutionCancelled())
        case "w":
            terminal.wait_for("waiting until")
            at_work.complete("Three files.")
        case _:
            pass
    if key in ("i", "w"):
        following = server.take_execution()
        following.answer(1, "Four files.")
        following.complete("Four files.")
    if key:
        terminal.wait_for("Four files.")
    assert terminal.finish() == (0 if key else 130)
    if not key:
        assert "nothing was started" in terminal.screen


def test_what_cannot_be_meant_is_said(unhurried: Command) -> None:
    both = unhurried.run("run", ".", "x", "--continue", "--session", "ses_1")
    model = unhurried.run("run", ".", "x", "--continue", "--busy", "send", "--approve", "ask")
    none = unhurried.run("run", ".", "x", "--continue")
    assert [each.exit_code for each in (both, model, none)] == [2, 2, 2]
    assert both.stderr == "error: there is a --session, and --continue too\n"
    assert model.stderr.startswith("error: --busy send says something to an execution")
    assert none.stderr.startswith("error: there is no session of this directory yet")
