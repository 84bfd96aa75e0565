"""Legs that a test holds, and that ask people for approval."""

from cli_harness import Leg, Server
from stigmer_contract import events
from stigmer_contract.api import ResolveInput
from stigmer_contract.identifiers import INPUT_PREFIX, new_id
from stigmer_contract.inputs import Approval, InputKind, InputOutcome


def approve_a_kind(server: Server, leg: Leg, when: str) -> None:
    """Let a leg ask about a command, and approve all of its kind."""
    rule = f'{{"tool":"shell","when":"{when}","policy":"allow"}}'
    content = Approval(toolset="shell", tool="run_command", arguments={"command": when}, kind_rule=rule)
    input_id = new_id(INPUT_PREFIX)
    leg.append(
        events.InputRequested(
            input_id=input_id,
            kind=InputKind.APPROVAL,
            turn=1,
            call_id="call_1",
            tool="run_command",
            title=when,
            content=events.InlinePayload(value=content.model_dump(mode="json")),
        )
    )
    decision = ResolveInput(outcome=InputOutcome.APPROVED, grants_kind=True)
    server.client.resolve_input(input_id, decision)
