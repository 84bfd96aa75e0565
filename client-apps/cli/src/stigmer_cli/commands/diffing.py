"""`stigmer executions diff`: where two executions part, and what became of each."""

import os
from typing import TYPE_CHECKING

import click

from stigmer_cli.commands.completions import complete_executions

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stigmer_cli.api_client import ApiClient
    from stigmer_cli.rendering.differences import Compared, ComparedStep
    from stigmer_contract.events import RecordedEvent
    from stigmer_contract.snapshots import Chain


@click.command("diff", epilog="Example: stigmer executions diff 4k2x9q 7p3m1c")
@click.argument("one", metavar="A", shell_complete=complete_executions)
@click.argument("other", metavar="B", shell_complete=complete_executions)
@click.option("--no-files", is_flag=True, help="Compare steps and figures only.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def diff(one: str, other: str, no_files: bool, as_json: bool) -> None:
    """Show where two executions part: the first step that differs, what each did from there, the files at the
    end, cost and time.

    Of a fork, the steps that it shares with its parent count as its own. Configured keys, and texts that look
    like keys of well-known services, are masked.
    """
    from stigmer_cli.commands.connecting import open_client
    from stigmer_cli.commands.references import find_execution_id
    from stigmer_cli.config import load_configuration
    from stigmer_cli.output import print_json, print_line
    from stigmer_cli.rendering.differences import differences_json, format_differences
    from stigmer_cli.rendering.masked_texts import SecretMask

    with open_client() as client:
        both = [
            compared(client, find_execution_id(client, given, last=False), with_files=not no_files)
            for given in (one, other)
        ]
        mask = SecretMask(load_configuration(os.environ)).mask
        if as_json:
            print_json(differences_json(both[0], both[1], client.fetch_blob, mask))
        else:
            print_line(format_differences(both[0], both[1], client.fetch_blob, mask))


def compared(client: "ApiClient", execution_id: str, *, with_files: bool) -> "Compared":
    """An execution, as far as it is compared with another one."""
    from stigmer_cli.rendering.differences import Compared

    files = _files(client, execution_id) if with_files else "not compared"
    return Compared(client.get_execution(execution_id), _steps(client, execution_id), files)


def _files(client: "ApiClient", execution_id: str) -> "Chain | str":
    from stigmer_cli.errors import CallRefused
    from stigmer_contract.error_codes import ErrorCode
    from stigmer_contract.errors import SnapshotDamaged
    from stigmer_contract.snapshots import load_chain, provide

    try:
        snapshot = client.get_snapshot(execution_id, None)
    except CallRefused as refused:  # it is shared, and its files are not
        if refused.code != ErrorCode.FORBIDDEN:
            raise
        return refused.message
    if snapshot.listing is None:
        return snapshot.none_because or "not known"
    try:
        return provide(load_chain(snapshot.listing.sha256), client.fetch_blob)
    except SnapshotDamaged as error:
        return str(error)


def _steps(client: "ApiClient", execution_id: str) -> "list[ComparedStep]":
    """All steps of an execution, those before a fork first."""
    from stigmer_contract.events import ExecutionStarted

    events = list(client.read_events(execution_id))
    first = events[0].event
    before: list[ComparedStep] = []
    if isinstance(first, ExecutionStarted) and first.fork is not None and first.fork.steps_before:
        before = _steps(client, first.fork.execution_id)[: first.fork.steps_before]
    return [*before, *_own_steps(client, events)]


def _own_steps(client: "ApiClient", events: "Sequence[RecordedEvent]") -> "list[ComparedStep]":
    from stigmer_cli.rendering.differences import ComparedStep
    from stigmer_cli.rendering.tool_calls import describe_call
    from stigmer_contract.conversation import ModelAnswer, ToolResult
    from stigmer_contract.events import ModelResponded, ToolFinished, ToolStarted
    from stigmer_contract.steps import number_steps

    numbers = {step.sequence: step.number for step in number_steps(events)}
    arguments = dict[tuple[int, str], object]()
    steps = list[ComparedStep]()
    for recorded in events:
        match recorded.event:
            case ToolStarted(agent_path="") as event:
                arguments[event.turn, event.call_id] = client.load_payload(event.arguments)
            case ModelResponded() as event if recorded.sequence in numbers:
                answer = ModelAnswer.model_validate(client.load_payload(event.response))
                calls = "".join(
                    f"\n→ {describe_call(call.tool, call.arguments)}" for call in answer.tool_calls
                )
                number = numbers[recorded.sequence]
                steps.append(ComparedStep(number, "answer", f"{answer.text}{calls}", ""))
            case ToolFinished() as event if recorded.sequence in numbers:
                call = describe_call(event.tool, arguments.get((event.turn, event.call_id), {}))
                result = ToolResult.model_validate(client.load_payload(event.result)).text
                steps.append(
                    ComparedStep(numbers[recorded.sequence], "call", call, f"{event.outcome}\n{result}")
                )
            case _:
                pass
    return steps
