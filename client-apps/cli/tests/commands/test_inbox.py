"""What waits for a person is listed, shown and decided from the command line."""

import json

import pytest

from cli_harness import Command, Leg, Server
from stigmer_contract import events
from stigmer_contract.api import CreateExecution, InputResource
from stigmer_contract.identifiers import INPUT_PREFIX, new_id
from stigmer_contract.inputs import Approval, InputKind, Question
from stigmer_contract.manifest_reader import read_manifests

WORDS: dict[str, object] = {"type": "string", "minLength": 1}
CHOICE: dict[str, object] = {"type": "string", "enum": ["red", "green"]}
FORM: dict[str, object] = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "nights": {"type": "integer"}},
    "required": ["city", "nights"],
}


def ask(
    command: Command, server: Server, content: Question | Approval, schema: dict[str, object] | None = None
) -> tuple[Leg, str]:
    """A new execution that asks; gives its leg and the input's id."""
    manifest = read_manifests((command.folder / "agent.yaml").read_bytes(), "agent.yaml")[0]
    execution = server.client.create_execution(CreateExecution(manifest=manifest, input="x"))
    leg = server.take_execution(execution.execution_id)
    is_question = isinstance(content, Question)
    requested = events.InputRequested.model_validate(
        {
            "input_id": new_id(INPUT_PREFIX),
            "kind": InputKind.QUESTION if is_question else InputKind.APPROVAL,
            "turn": 1,
            "call_id": "call_1",
            "tool": "ask_user" if is_question else "run_command",
            "title": content.text if isinstance(content, Question) else "run_command git push",
            "content": {"kind": "inline", "value": content.model_dump(mode="json")},
            "answer_schema": schema,
        }
    )
    leg.append(requested)
    return leg, requested.input_id


def resolved(server: Server, input_id: str) -> InputResource:
    return server.client.get_input(input_id)


PUSH = Approval(
    toolset="shell", tool="run_command", arguments={"command": "git push"}, reason="shell: git push*"
)


def test_what_waits_is_listed_and_shown(command: Command, server: Server) -> None:
    _, input_id = ask(command, server, Question(text="Which one?", choices=["red", "green"]), CHOICE)

    listed = command.run("inbox").stdout
    shown = command.run("inbox", input_id[-6:]).stdout
    as_json = json.loads(command.run("inbox", "--json").stdout)

    assert input_id[-6:] in listed
    assert "Which one?" in listed
    assert "  1. red\n  2. green\n" in shown
    assert f"Answer with `stigmer executions answer {input_id[-6:]} ANSWER`." in shown
    assert input_id in {each["input_id"] for each in as_json}


@pytest.mark.parametrize(
    ("question", "schema", "given", "answer"),
    [
        (Question(text="Which?", choices=["red", "green"]), CHOICE, "2", "green"),
        (Question(text="Which?", choices=["red", "green"]), CHOICE, "red", "red"),
        (Question(text="Well?"), WORDS, "Because.", "Because."),
        (Question(text="Where?"), FORM, '{"city": "Bergen", "nights": 2}', {"city": "Bergen", "nights": 2}),
        (
            Question(text="Which?", choices=["red", "green"], several=True),
            {"type": "array", "items": {"type": "string"}},
            "1,2",
            ["red", "green"],
        ),
    ],
)
def test_an_answer_is_given_by_the_execution_or_the_question(
    command: Command,
    server: Server,
    question: Question,
    schema: dict[str, object],
    given: str,
    answer: object,
) -> None:
    leg, input_id = ask(command, server, question, schema)

    result = command.run("executions", "answer", leg.execution_id, given)

    assert (result.exit_code, result.stderr.partition(";")[0]) == (0, "answered")
    [event] = [
        each.event
        for each in server.client.read_events(leg.execution_id)
        if isinstance(each.event, events.InputResolved)
    ]
    assert (event.input_id, event.answer) == (
        input_id,
        events.InlinePayload.model_validate({"value": answer}),
    )


def test_an_answer_that_does_not_fit_is_refused_before_it_is_sent(command: Command, server: Server) -> None:
    _, input_id = ask(command, server, Question(text="Which?", choices=["red", "green"]), CHOICE)

    wrong = command.run("executions", "answer", input_id, "blue")
    none = command.run("executions", "answer", input_id)

    assert (wrong.exit_code, none.exit_code) == (2, 2)
    assert wrong.stderr == 'error: that does not answer \'Which?\': the answer is none of "red", "green"\n'
    assert resolved(server, input_id).resolution is None


def test_a_call_is_approved_or_denied_once(command: Command, server: Server) -> None:
    leg, input_id = ask(command, server, PUSH)

    shown = command.run("inbox", leg.execution_id).stdout
    denied = command.run("executions", "deny", input_id, "--reason", "Not today.")
    late = command.run("executions", "approve", input_id)

    assert "command: git push" in shown
    assert "Asked because: shell: git push*" in shown
    assert denied.exit_code == 0
    assert late.exit_code == 1
    by_execution = command.run("executions", "approve", leg.execution_id)
    resolution = resolved(server, input_id).resolution
    assert resolution is not None
    since = f"{resolution.resolved_at:%Y-%m-%d %H:%M:%S} UTC"
    assert late.stderr.startswith(f"error: 'run_command git push' is denied already, since {since}\n")
    assert by_execution.stderr == late.stderr
    assert (resolution.outcome, resolution.reason) == ("denied", "Not today.")


def test_a_call_is_approved_with_other_arguments(command: Command, server: Server) -> None:
    leg, input_id = ask(command, server, PUSH)

    broken = command.run("executions", "approve", input_id, "--arguments", "[1]")
    approved = command.run("executions", "approve", input_id, "--arguments", '{"command": "git status"}')

    assert (broken.exit_code, approved.exit_code) == (2, 0)
    [event] = [
        each.event
        for each in server.client.read_events(leg.execution_id)
        if isinstance(each.event, events.InputResolved)
    ]
    assert event.arguments == events.InlinePayload(value={"command": "git status"})


def test_no_id_means_no_input(command: Command, server: Server) -> None:
    _, input_id = ask(command, server, PUSH)

    refused = command.run("executions", "approve", "")

    assert (refused.exit_code, refused.stderr.splitlines()[0]) == (1, "error: no execution has an id like ''")
    assert resolved(server, input_id).resolution is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--reason", "x" * 2001], "the reason has 2001 characters, and may have 2000"),
        (["--reason", "\udcff"], "is not valid UTF-8"),
        (["--arguments", '{"a": ' + "[" * 5000], "is not JSON"),
        (["--arguments", '{"a": NaN}'], "NaN is no JSON number"),
        (["--arguments", '{"a": "\\ud800"}'], "is not JSON"),
        (["--arguments", '{"a": ' + "[" * 400 + "]" * 400 + "}"], "the arguments cannot be sent"),
    ],
)
def test_a_decision_that_cannot_be_sent_is_told_in_a_line(
    command: Command, server: Server, options: list[str], message: str
) -> None:
    _, input_id = ask(command, server, PUSH)

    refused = command.run("executions", "approve", input_id, *options)

    assert refused.exit_code == 2
    assert message in refused.stderr.splitlines()[0]
    assert resolved(server, input_id).resolution is None


def test_an_empty_reason_is_none(command: Command, server: Server) -> None:
    _, input_id = ask(command, server, PUSH)

    denied = command.run("executions", "deny", input_id, "--reason", "")

    assert denied.exit_code == 0
    resolution = resolved(server, input_id).resolution
    assert resolution is not None
    assert (resolution.outcome, resolution.reason) == ("denied", None)


def test_what_an_agent_says_does_not_steer_the_terminal(command: Command, server: Server) -> None:
    _, input_id = ask(command, server, Question(text="Which?\x1b[2J one\x07"), WORDS)

    shown = command.run("inbox", input_id).stdout + command.run("inbox").stdout

    assert "\x1b" not in shown
    assert "\x07" not in shown
