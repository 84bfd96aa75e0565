"""`stigmer executions rewind`: brings a session back to a step, conversation and files, in place."""

from typing import TYPE_CHECKING

import click

from stigmer_cli.commands.completions import complete_executions

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stigmer_contract.events import RecordedEvent


@click.command("rewind", epilog="Example: stigmer executions rewind 4k2x9q --at 17 --message 'Use euros.'")
@click.argument("given", metavar="ID", required=False, shell_complete=complete_executions)
@click.option("--last", is_flag=True, help="The newest one.")
@click.option(
    "--at", type=click.IntRange(0), required=True, metavar="STEP", help="The newest step to keep; 0: none."
)
@click.option("--message", help="Go on from there with this.")
@click.option("--yes", is_flag=True, help="Do not ask before files of a --workspace change.")
@click.option("--json", "as_json", is_flag=True, help="Print every event as one JSON object a line.")
@click.option("--plain", is_flag=True, help="Show the answer as the model wrote it, not rendered.")
def rewind(
    given: str | None, last: bool, at: int, message: str | None, yes: bool, as_json: bool, plain: bool
) -> None:
    """Bring a session back to a step of an execution: what is said next goes on from there, with the files as
    they were then.

    The files that are there are kept as a snapshot first, and what came after the step stays in the logs:
    `stigmer executions fork` goes on there. What later steps did outside of the workspace stays done. Folders
    that snapshots leave out are not touched.
    """
    from stigmer_cli.commands.connecting import confirm, open_client
    from stigmer_cli.commands.forking import done_outside, follow
    from stigmer_cli.commands.prompts import read_prompt
    from stigmer_cli.commands.references import find_execution_id
    from stigmer_cli.output import print_note

    if message is not None:
        message = read_prompt(message, None)
    with open_client() as client:
        execution_id = find_execution_id(client, given, last=last)
        execution = client.get_execution(execution_id)
        workspace = client.get_session(execution.session_id).workspace
        if workspace is not None:
            confirm(f"bring back the files in {workspace!r}", yes)
        rewound = client.rewind_execution(execution_id, at)
        events = list(client.read_events(execution_id))
        if outside := done_outside(events, after=at):
            print_note(f"note: what later steps did outside of the workspace stays done: {outside}")
        _tell_what_stays(events, execution_id, at)
        follow(client, rewound, as_json=as_json, plain=plain)
        if message is not None:
            sent = client.send_message(rewound.execution_id, message)
            follow(client, client.get_execution(sent.execution_id), as_json=as_json, plain=plain)


def _tell_what_stays(events: "Sequence[RecordedEvent]", execution_id: str, at: int) -> None:
    from stigmer_cli.output import print_note
    from stigmer_contract.steps import number_steps

    numbers = [step.number for step in number_steps(events)]
    if numbers and numbers[-1] > at:
        print_note(
            f"steps {max(at + 1, numbers[0])} to {numbers[-1]} stay in the log of {execution_id}; "
            "`stigmer executions fork` goes on there"
        )
