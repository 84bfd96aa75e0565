"""`stigmer executions fork`: goes back to a step of an execution, and on from there in another way."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from stigmer_cli.commands.completions import complete_executions, complete_runnable
from stigmer_cli.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stigmer_cli.api_client import ApiClient
    from stigmer_contract.api import ExecutionResource, ForkExecution
    from stigmer_contract.events import RecordedEvent

MAX_FORKS = 50


@click.command("fork", epilog="Example: stigmer executions fork 4k2x9q --at 17 --model openai:gpt-5")
@click.argument("given", metavar="ID", required=False, shell_complete=complete_executions)
@click.option("--last", is_flag=True, help="The newest one.")
@click.option(
    "--at", type=click.IntRange(0), required=True, metavar="STEP", help="The newest step to keep; 0: none."
)
@click.option("--prompt", help="In the place of the first message; with --at 0 only.")
@click.option("--message", help="Say this behind that step.")
@click.option(
    "--answer",
    "answers",
    metavar="CALL=TEXT",
    multiple=True,
    help="Let a call of that turn have given TEXT: by its step, its tool or its id; may be given again.",
)
@click.option(
    "--agent",
    metavar="AGENT",
    help="Let another agent go on: a manifest, a folder or an applied agent's name.",
    shell_complete=complete_runnable,
)
@click.option("--model", metavar="PROVIDER:NAME", help="Let another model go on.")
@click.option(
    "-n", "count", type=click.IntRange(1, MAX_FORKS), default=1, show_default=True, help="So many forks."
)
@click.option("--detach", is_flag=True, help="Print the forks' ids and do not wait.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--plain", is_flag=True, help="Show the answer as the model wrote it, not rendered.")
def fork(
    given: str | None,
    last: bool,
    at: int,
    prompt: str | None,
    message: str | None,
    answers: tuple[str, ...],
    agent: str | None,
    model: str | None,
    count: int,
    detach: bool,
    as_json: bool,
    plain: bool,
) -> None:
    """Go back to a step of an execution, and on from there.

    The fork is a new execution in a session of its own. It begins with what the other's model was shown up to
    STEP, and with the files as they were then; nothing before that is asked, run or paid for again. `stigmer
    executions get` shows the steps with their numbers. With --answer a call of the step's turn gave something
    else than it did; one that was not made by then is not made. What steps before did outside of the
    workspace stays done.
    """
    if prompt is not None and at:
        raise UsageError("--prompt is for --at 0", "say something at a later step with --message")

    from stigmer_cli.commands.connecting import open_client
    from stigmer_cli.commands.prompts import read_prompt
    from stigmer_cli.commands.references import find_execution_id
    from stigmer_cli.output import print_json, print_line, print_note

    if prompt is not None:
        prompt = read_prompt(prompt, None)
    if message is not None:
        message = read_prompt(message, None)
    with open_client() as client:
        request = fork_request(client, at, prompt, message, agent, model)
        execution_id = find_execution_id(client, given, last=last)
        if answers:
            from stigmer_cli.commands.fork_answers import read_answers

            told = read_answers(client, execution_id, at, answers)
            request = request.model_copy(update={"answers": told})
        forks = [client.fork_execution(execution_id, request) for _ in range(count)]
        for each in forks:
            if because := _no_files_because(client, each):
                print_note(f"note: {each.execution_id} begins with an empty workspace: {because}")
                break
        outside = done_outside(list(client.read_events(execution_id)), until=at)
        if outside:
            print_note(f"note: what these steps did outside of the workspace stays done: {outside}")
        if detach:
            for each in forks:
                if as_json:
                    print_json(each.model_dump(mode="json"))
                else:
                    print_line(each.execution_id)
        elif count == 1:
            follow(client, forks[0], as_json=as_json, plain=plain)
        else:
            _compare(client, forks, as_json=as_json)


def fork_request(
    client: "ApiClient",
    at: int,
    prompt: str | None,
    message: str | None,
    agent: str | None,
    model: str | None,
) -> "ForkExecution":
    """The fork as the server is asked for it; what its agent and model need is brought there."""
    from stigmer_cli.commands.run import read_order
    from stigmer_contract.api import ForkExecution

    wanted: dict[str, object] = {"at": at, "prompt": prompt, "message": message, "model": model}
    if agent is not None:
        # What is asked is not the order's: `-` as a prompt would be read from standard input.
        order = read_order(agent, "as before", None, model, None, None)
        for pack in order.packs:
            client.upload_blob(pack)
        wanted |= {"agent": order.agent_name, "manifest": order.manifest}
        cassette = order.cassette
    else:
        from stigmer_cli.commands.manifest_files import read_cassette

        cassette = read_cassette(model, Path.cwd())
    if cassette is not None:
        wanted["model"] = f"replay:sha256:{client.upload_blob(cassette.content)}"
    return ForkExecution.model_validate({name: value for name, value in wanted.items() if value is not None})


def _no_files_because(client: "ApiClient", fork: "ExecutionResource") -> str | None:
    from stigmer_contract.events import ExecutionStarted

    first = next(iter(client.read_events(fork.execution_id))).event
    assert isinstance(first, ExecutionStarted)
    return first.fork and first.fork.no_files_because


def done_outside(events: "Sequence[RecordedEvent]", *, after: int = 0, until: int | None = None) -> str:
    """The tools of steps between these that may have changed something elsewhere, for a person."""
    from collections import Counter

    from stigmer_cli.output import sanitize
    from stigmer_contract.events import ExecutionStarted, ToolStarted
    from stigmer_contract.steps import number_steps

    steps = number_steps(events)
    begin = max((step.sequence for step in steps if step.number <= after), default=0)
    end = max((step.sequence for step in steps if until is None or step.number <= until), default=0)
    first = events[0].event
    has_network = isinstance(first, ExecutionStarted) and first.spec.network != "none"
    done = Counter[str]()
    for recorded in events:
        event = recorded.event
        if not begin < recorded.sequence <= end or not isinstance(event, ToolStarted):
            continue
        if event.side_effects and event.toolset != "files" and (event.toolset != "shell" or has_network):
            done[event.tool] += 1
    return ", ".join(f"{sanitize(tool)} × {count}" for tool, count in done.most_common())


def follow(client: "ApiClient", fork: "ExecutionResource", *, as_json: bool, plain: bool) -> None:
    """Show how an execution goes, to its end."""
    from stigmer_cli.commands.following import Following
    from stigmer_cli.rendering.execution_view import ExecutionView
    from stigmer_cli.rendering.json_view import JsonView
    from stigmer_cli.rendering.screen import Screen

    if as_json:
        view = JsonView(sys.stdout, fork.execution_id)
    else:
        view = ExecutionView(Screen(sys.stdout, sys.stderr, plain=plain), client.load_payload)
    Following(client, fork.execution_id, view, cancels=True, asks=not as_json).follow()


def _compare(client: "ApiClient", forks: "Sequence[ExecutionResource]", *, as_json: bool) -> None:
    """Wait until all have ended, and show them one below the other."""
    from stigmer_cli.api_client import follow_events
    from stigmer_cli.output import print_json, print_note
    from stigmer_cli.rendering.execution_table import print_executions

    ended = list["ExecutionResource"]()
    for place, each in enumerate(forks, start=1):
        for _ in follow_events(client.transport, each.execution_id):
            pass
        ended.append(client.get_execution(each.execution_id))
        print_note(f"{place} of {len(forks)}: {each.execution_id} is {ended[-1].phase}")
    if as_json:
        print_json([each.model_dump(mode="json") for each in ended])
    else:
        print_executions(ended)
