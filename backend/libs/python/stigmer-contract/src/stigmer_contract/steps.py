"""The steps of an execution as people count them: each answer of its agent's model, and each call of it.

What agents below the execution's own do is part of the call that runs them. A fork counts on from where it
left its parent.
"""

from collections.abc import Iterable
from typing import Literal, NamedTuple

from stigmer_contract.events import ExecutionStarted, ModelResponded, RecordedEvent, ToolFinished


class Step(NamedTuple):
    """One step, and where its end stands in the log."""

    number: int
    """From 1."""
    sequence: int
    kind: Literal["model", "tool"]
    turn: int
    call_id: str | None
    """None: it is the model's answer."""


def number_steps(events: Iterable[RecordedEvent]) -> list[Step]:
    """The steps of a log, in its order; `events` is all of it, ascending by sequence."""
    steps = list[Step]()
    before = 0
    for recorded in events:
        event = recorded.event
        if isinstance(event, ExecutionStarted):
            before = 0 if event.fork is None else event.fork.steps_before
        elif isinstance(event, ModelResponded | ToolFinished) and not event.agent_path:
            call_id = event.call_id if isinstance(event, ToolFinished) else None
            kind: Literal["model", "tool"] = "model" if call_id is None else "tool"
            number = before + len(steps) + 1
            steps.append(Step(number, recorded.sequence, kind, event.turn, call_id))
    return steps
