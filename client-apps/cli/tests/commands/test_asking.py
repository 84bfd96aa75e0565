"""`stigmer run` asks at the terminal what its execution waits for; without one it says how to answer."""

from dataclasses import replace
from pathlib import Path

import pytest

from cli_harness import Command, Leg, Server, finish, free_port, running_server, wait_for
from stigmer_contract import events
from stigmer_contract.api import InputResolution, ResolveInput
from stigmer_contract.identifiers import INPUT_PREFIX, new_id
from stigmer_contract.inputs import Approval, InputKind, InputOutcome, Question, wait_kind_of
from stigmer_contract.phases import ExecutionPhase
from stigmer_contract.waits import WaitReason

FORM: dict[str, object] = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "nights": {"type": "integer"}},
    "required": ["city", "nights"],
}
PUSH = Approval(toolset="shell", tool="run_command", arguments={"command": "git push"}, reason="git push*")
WHICH = Question(text="Which one?", choices=["red", "green"])


def request(
    content: Question | Approval, schema: dict[str, object] | None = None, after: str | None = None
) -> events.InputRequested:
    """The event that asks; behind another input, since what is open is asked in the order of the ids."""
    return events.InputRequested.model_validate(
        {
            "input_id": new_id(INPUT_PREFIX, after=after),
            "kind": InputKind.QUESTION if isinstance(content, Question) else InputKind.APPROVAL,
            "turn": 1,
            "call_id": "call_1",
            "tool": "run_command",
            "title": content.text if isinstance(content, Question) else "run_command git push",
            "content": {"kind": "inline", "value": content.model_dump(mode="json")},
            "answer_schema": schema,
        }
    )


def ask(leg: Leg, content: Question | Approval, schema: dict[str, object] | None = None) -> str:
    """What a leg asks before it ends; gives the input's id."""
    requested = request(content, schema)
    ask_all(leg, requested)
    return requested.input_id


def ask_all(leg: Leg, *requested: events.InputRequested) -> None:
    """The leg asks all of it, and ends."""
    seen = leg.grant.events[-1].sequence
    waits = [WaitReason(kind=wait_kind_of(each.kind), key=each.input_id) for each in requested]
    ended = events.LegEnded(
        attempt=leg.grant.attempt, reason=events.LegEndReason.WAITING, waiting_for=waits, seen=seen
    )
    leg.append(*requested, ended)


def resolution(server: Server, input_id: str) -> InputResolution:
    """How the input was resolved, once it is."""
    wait_for(lambda: server.client.get_input(input_id).resolution is not None, "the decision")
    found = server.client.get_input(input_id).resolution
    assert found is not None
    return found


def go_on(server: Server, leg: Leg, output: str) -> None:
    """The next leg ends the execution."""
    server.take_execution(leg.execution_id).complete(output)


@pytest.mark.parametrize(
    ("keys", "outcome", "reason"),
    [
        (["y\n"], "approved", None),
        (["n\n", "Not today.\n"], "denied", "Not today."),
        (["n\n", "\n"], "denied", None),
    ],
)
def test_a_call_is_decided_at_the_terminal(
    command: Command, server: Server, keys: list[str], outcome: str, reason: str | None
) -> None:
    terminal = command.start_in_terminal("run", ".", "Hello")
    leg = server.take_execution()
    input_id = ask(leg, PUSH)

    terminal.wait_for("command: git push")
    terminal.wait_for("Run it? [y/n, Enter: later]")
    terminal.type(keys[0])
    if len(keys) > 1:
        terminal.wait_for("Why not?")
        terminal.type(keys[1])

    decided = resolution(server, input_id)
    assert (decided.outcome, decided.reason) == (outcome, reason)
    go_on(server, leg, "Done.")
    assert terminal.finish() == 0


def test_what_happens_meanwhile_stands_above_the_next_question(command: Command, server: Server) -> None:
    terminal = command.start_in_terminal("run", ".", "Hello")
    leg = server.take_execution()
    first = request(PUSH.model_copy(update={"kind_rule": '{"tool":"shell","when":"git push *"}'}))
    ask_all(leg, first, request(WHICH, {"type": "string"}, after=first.input_id))
    terminal.wait_for("All of this kind would be: {")
    terminal.wait_for("Run it? [y/n, a: all of this kind, Enter: later]")

    terminal.type("y\n")

    question = "Which? [number or words, Enter: later]"
    terminal.wait_until(
        lambda screen: "\napproved\n" in screen and screen.endswith(question), "the question below"
    )
    lines = terminal.screen.splitlines()
    assert "approved" in lines
    assert lines.count(question) == 1
    terminal.type("2\n")
    go_on(server, leg, "Done.")
    assert terminal.finish() == 0


def test_a_form_is_filled_in_at_the_terminal_field_by_field(command: Command, server: Server) -> None:
    terminal = command.start_in_terminal("run", ".", "Hello")
    leg = server.take_execution()
    ask(leg, Question(text="Where to?"), FORM)

    terminal.wait_for("city:")
    terminal.type("Bergen\n")
    terminal.wait_for("nights:")
    terminal.type("two\n")
    terminal.wait_for("is not JSON")
    terminal.type("2\n")

    go_on_when_answered = [
        each
        for each in _resolved(server, leg)
        if each.answer == events.InlinePayload(value={"city": "Bergen", "nights": 2})
    ]
    assert len(go_on_when_answered) == 1
    go_on(server, leg, "Done.")
    assert terminal.finish() == 0


def test_what_was_typed_before_the_question_does_not_answer_it(command: Command, server: Server) -> None:
    terminal = command.start_in_terminal("run", ".", "Hello")
    leg = server.take_execution()
    terminal.type("yes\n")
    terminal.wait_for("yes")  # the terminal has it
    input_id = ask(leg, PUSH)

    terminal.wait_for("Run it? [y/n, Enter: later]")
    terminal.type("n\n")
    terminal.wait_for("Why not?")
    terminal.type("\n")

    assert resolution(server, input_id).outcome == "denied"
    go_on(server, leg, "Done.")
    assert terminal.finish() == 0


def test_what_is_answered_to_ctrl_c_is_no_answer_to_the_agent(command: Command, server: Server) -> None:
    terminal = command.start_in_terminal("run", ".", "Hello")
    leg = server.take_execution()
    input_id = ask(leg, Question(text="Well?"), {"type": "string"})
    question = "Answer [Enter: later]:"
    terminal.wait_for(question)

    terminal.type("\x03")
    terminal.wait_for("Cancel the execution, or detach")
    terminal.type("neither\n")
    terminal.wait_until(lambda screen: screen.count(question) == 2, "the question again")
    assert server.client.get_input(input_id).resolution is None
    terminal.type("Fine.\n")

    [answered] = _resolved(server, leg)
    assert answered.answer == events.InlinePayload(value="Fine.")
    go_on(server, leg, "Done.")
    assert terminal.finish() == 0


def test_a_question_is_asked_again_once_the_server_is_back(command: Command, tmp_path: Path) -> None:
    port = free_port()
    command = replace(
        command, environment=command.environment | {"STIGMER_BACKEND_ENDPOINT": f"127.0.0.1:{port}"}
    )
    (home := tmp_path / "server").mkdir()
    with running_server(home, port) as server:
        terminal = command.start_in_terminal("run", ".", "Hello")
        leg = server.take_execution()
        input_id = ask(leg, PUSH)
        terminal.wait_for("Run it? [y/n, Enter: later]")
    terminal.type("y\n")
    terminal.wait_for(f"could not reach the server at http://127.0.0.1:{port}")
    with running_server(home, port) as server:
        # The same question, once more.
        terminal.wait_until(lambda screen: screen.endswith("Run it? [y/n, Enter: later]"), "the question")
        assert server.client.get_input(input_id).resolution is None
        terminal.type("y\n")
        assert resolution(server, input_id).outcome == "approved"
        go_on(server, leg, "Done.")
        assert terminal.finish() == 0


def test_a_reason_that_is_too_long_is_asked_for_again(command: Command, server: Server) -> None:
    terminal = command.start_in_terminal("run", ".", "Hello")
    leg = server.take_execution()
    input_id = ask(leg, PUSH)
    terminal.wait_for("Run it? [y/n, Enter: later]")
    terminal.type("n\n")
    terminal.wait_for("Why not?")

    terminal.type("x" * 2001 + "\n")

    terminal.wait_for("the reason has 2001 characters, and may have 2000")
    terminal.type("No.\n")
    assert resolution(server, input_id).reason == "No."
    go_on(server, leg, "Done.")
    assert terminal.finish() == 0


def test_an_answer_from_elsewhere_takes_the_question_away(command: Command, server: Server) -> None:
    terminal = command.start_in_terminal("run", ".", "Hello")
    leg = server.take_execution()
    input_id = ask(leg, WHICH, {"type": "string"})
    terminal.wait_for("Which? [number or words, Enter: later]")
    terminal.type("half an ans")

    answer = ResolveInput(outcome=InputOutcome.ANSWERED, answer="red")
    server.client.resolve_input(input_id, answer)

    terminal.wait_for("that was decided elsewhere")
    go_on(server, leg, "Done.")
    assert terminal.finish() == 0
    assert len(_resolved(server, leg)) == 1


def test_what_is_left_for_later_waits(command: Command, server: Server) -> None:
    terminal = command.start_in_terminal("run", ".", "Hello")
    leg = server.take_execution()
    input_id = ask(leg, WHICH, {"type": "string"})
    terminal.wait_for("Which? [number or words, Enter: later]")

    terminal.type("\n")

    terminal.wait_for("It waits. Answer with `stigmer executions answer")
    assert server.client.get_input(input_id).resolution is None
    assert command.run("executions", "answer", input_id, "1").exit_code == 0
    go_on(server, leg, "Done.")
    assert terminal.finish() == 0


@pytest.mark.parametrize("options", [(), ("--json",)])
def test_without_a_terminal_the_command_ends_with_4_and_says_how_to_answer(
    command: Command, server: Server, options: tuple[str, ...]
) -> None:
    process = command.start("run", ".", "Hello", *options)
    leg = server.take_execution()
    input_id = ask(leg, WHICH, {"type": "string"})

    result = finish(process)

    assert result.exit_code == 4
    assert result.stderr.endswith(
        f"error: execution {leg.execution_id} waits for a person: Which one?\n\n"
        f"hint: Answer with `stigmer executions answer {input_id[-6:]} ANSWER`. "
        f"`stigmer executions follow {leg.execution_id}` then shows how it goes on\n"
    )
    assert server.client.get_execution(leg.execution_id).phase is ExecutionPhase.WAITING


def test_with_wait_the_command_waits_on(command: Command, server: Server) -> None:
    process = command.start("run", ".", "Hello", "--wait")
    leg = server.take_execution()
    input_id = ask(leg, WHICH, {"type": "string"})

    assert command.run("executions", "answer", input_id, "green").exit_code == 0
    go_on(server, leg, "Done.")

    result = finish(process)
    assert (result.exit_code, result.stdout) == (0, "Done.\n")


def _resolved(server: Server, leg: Leg) -> list[events.InputResolved]:
    def find() -> list[events.InputResolved]:
        log = server.client.read_events(leg.execution_id)
        return [each.event for each in log if isinstance(each.event, events.InputResolved)]

    wait_for(lambda: bool(find()), "a decision")
    return find()
