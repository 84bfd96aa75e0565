"""`stigmer inbox`, and `executions answer`, `approve` and `deny`: what waits for people."""

from typing import TYPE_CHECKING, Literal

import click

from stigmer_cli.commands.completions import complete_inputs

if TYPE_CHECKING:
    from pydantic import JsonValue

    from stigmer_cli.api_client import ApiClient
    from stigmer_contract.api import InputResource
    from stigmer_contract.inputs import InputOutcome


@click.command(epilog="Example: stigmer inbox")
@click.argument("given", metavar="ID", required=False, shell_complete=complete_inputs)
@click.option("--limit", type=click.IntRange(1, 10_000), default=100, show_default=True, help="Most of it.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def inbox(given: str | None, limit: int, as_json: bool) -> None:
    """Show what waits for you: approvals and questions.

    With an ID all of one, else a list, oldest first.
    """
    from stigmer_cli.commands.connecting import open_client
    from stigmer_cli.output import print_json, print_line
    from stigmer_cli.rendering.inputs import describe_input, print_inputs
    from stigmer_contract.inputs import InputKind

    with open_client() as client:
        if given is not None:
            from stigmer_cli.commands.answers import find_input

            found = find_input(client, given, list(InputKind), "question or approval")
            if as_json:
                print_json(found.model_dump(mode="json"))
            else:
                print_line(describe_input(found))
            return
        waiting = client.list_inputs(limit)
    if as_json:
        print_json([each.model_dump(mode="json") for each in waiting])
    else:
        print_inputs(waiting)


@click.command(epilog="Example: stigmer executions answer 4k2x9q 'The second one.'")
@click.argument("given", metavar="ID", shell_complete=complete_inputs)
@click.argument("answer", metavar="ANSWER", required=False)
@click.option("--decline", is_flag=True, help="Don't answer; the agent goes on without.")
@click.option("--reason", metavar="TEXT", help="What the agent is told besides.")
def answer(given: str, answer: str | None, decline: bool, reason: str | None) -> None:
    """Answer a question of an agent, which goes on with it.

    ANSWER is a text, the number of a choice (several: 1,3), or JSON where there are several fields; - reads
    standard input. ID is that of the execution or of the question.
    """
    from stigmer_cli.commands.answers import find_input, question_of, read_answer
    from stigmer_cli.commands.connecting import open_client
    from stigmer_cli.commands.prompts import read_prompt
    from stigmer_cli.errors import UsageError
    from stigmer_contract.inputs import InputKind, InputOutcome

    if (answer is None) != decline:
        raise UsageError(
            "give an answer, or --decline" if answer is None else "there is an answer, and --decline"
        )
    text = None if answer is None else read_prompt(answer, None)
    with open_client() as client:
        found = find_input(
            client, given, [kind for kind in InputKind if kind is not InputKind.APPROVAL], "question"
        )
        if text is None:
            _decide(client, found, InputOutcome.DENIED, reason=reason)
            return
        try:
            value = read_answer(text, question_of(found), found.answer_schema)
        except ValueError as error:
            raise UsageError(f"that does not answer {found.title!r}: {error}") from error
        _decide(client, found, InputOutcome.ANSWERED, reason=reason, answer=value)


@click.command(epilog="Example: stigmer executions approve 4k2x9q")
@click.argument("given", metavar="ID", shell_complete=complete_inputs)
@click.option("--arguments", metavar="JSON", help="Run the call with these arguments instead.")
@click.option("--kind", "grants_kind", is_flag=True, help="Approve further calls of this kind, too.")
@click.option("--reason", metavar="TEXT", help="What the agent is told besides.")
def approve(given: str, arguments: str | None, grants_kind: bool, reason: str | None) -> None:
    """Let a call run that waits for approval.

    ID is that of the execution or of the approval.
    """
    from stigmer_cli.commands.answers import find_input
    from stigmer_cli.commands.connecting import open_client
    from stigmer_contract.inputs import InputKind, InputOutcome

    changed = None if arguments is None else _read_arguments(arguments)
    with open_client() as client:
        found = find_input(client, given, [InputKind.APPROVAL], "approval")
        _decide(
            client, found, InputOutcome.APPROVED, reason=reason, arguments=changed, grants_kind=grants_kind
        )


@click.command(epilog="Example: stigmer executions deny 4k2x9q --reason 'Use the copy instead.'")
@click.argument("given", metavar="ID", shell_complete=complete_inputs)
@click.option("--reason", metavar="TEXT", help="Why; the agent is told.")
def deny(given: str, reason: str | None) -> None:
    """Refuse a call that waits for approval; the agent is told, and goes on.

    ID is that of the execution or of the approval.
    """
    from stigmer_cli.commands.answers import find_input
    from stigmer_cli.commands.connecting import open_client
    from stigmer_contract.inputs import InputKind, InputOutcome

    with open_client() as client:
        found = find_input(client, given, [InputKind.APPROVAL], "approval")
        _decide(client, found, InputOutcome.DENIED, reason=reason)


def _read_arguments(text: str) -> "dict[str, JsonValue]":
    from stigmer_cli.commands.answers import read_json

    try:
        value = read_json(text)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--arguments") from error
    if not isinstance(value, dict):
        raise click.BadParameter("is not a JSON object", param_hint="--arguments")
    return value


def _decide(
    client: "ApiClient",
    found: "InputResource",
    outcome: "Literal[InputOutcome.APPROVED, InputOutcome.DENIED, InputOutcome.ANSWERED]",
    *,
    reason: str | None,
    answer: "JsonValue" = None,
    arguments: "dict[str, JsonValue] | None" = None,
    grants_kind: bool = False,
) -> None:
    from stigmer_cli.commands.answers import make_decision
    from stigmer_cli.errors import UsageError
    from stigmer_cli.output import print_note

    try:
        decision = make_decision(
            outcome, reason=reason, answer=answer, arguments=arguments, grants_kind=grants_kind
        )
    except UnicodeEncodeError:
        raise  # whoever knows the arguments says which it is
    except ValueError as error:
        raise UsageError(f"could not decide {found.title!r}: {error}") from error
    resolved = client.resolve_input(found.input_id, decision)
    became = resolved.resolution.outcome if resolved.resolution else "open"
    print_note(
        f"{became}; `stigmer executions follow {resolved.execution_id}` shows how the execution goes on"
    )
