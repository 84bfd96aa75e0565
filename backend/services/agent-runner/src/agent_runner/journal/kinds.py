"""The kinds of steps: what each is called in the log, and what becomes of one that was cut off.

A step is known by who does it (the agent's path), its kind, its own key, and which of them it is. All of
that is known before it is done, so it can be looked up; what was asked and what came are content beside it.
A new kind is an entry here. A kind that has none is journalled like an operation: never done twice.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final, NamedTuple

from stigmer_contract.events import (
    AnyEvent,
    InputResolved,
    ModelResponded,
    StepFinished,
    ToolFinished,
    ToolStarted,
)


class StepKey(NamedTuple):
    """What a step is known by."""

    agent_path: str
    """Empty for the execution's own agent."""
    kind: str
    key: str
    nth: int
    """From 1."""


class CutOff(Enum):
    """What becomes of a step that had begun when its runner died, and whose result is not in the log."""

    REPEATED = auto()
    OUTCOME_UNKNOWN = auto()


@dataclass(frozen=True)
class StepKind:
    """One row of the table."""

    name: str
    key: str
    """What its key is made of."""
    event: type[ModelResponded | ToolFinished | StepFinished | InputResolved]
    """What holds its result."""
    cut_off: CutOff
    why: str
    """Why that becomes of it."""
    must_settle: bool = True
    """Whether its result is in the log before anything that follows from it happens."""


MODEL: Final = "model"
TOOL: Final = "tool"
TOOLS_LISTED: Final = "tools.listed"
OPERATION: Final = "operation"
MESSAGE: Final = "message"
INPUT: Final = "input"
SUBMITTED: Final = "submitted"
WAIT: Final = "wait"
NOTE: Final = "note"
COMPACT: Final = "compact"
PUT_DOWN: Final = "tool.put_down"
SAMPLED: Final = "tool.sampled"
SERVER_PREFIX: Final = "mcp/"
"""Begins the key of a list of tools that an MCP server, named behind it, gave."""
TOOL_SEARCH: Final = "tool_search/chosen"
"""The key of which tools are found by search; no toolset has such an id."""

KINDS: Final[Mapping[str, StepKind]] = {
    kind.name: kind
    for kind in (
        StepKind(
            MODEL,
            "turn",
            ModelResponded,
            CutOff.REPEATED,
            "an answer that nobody has is of no use to anybody",
        ),
        StepKind(
            TOOL,
            "turn/call id",
            ToolFinished,
            CutOff.OUTCOME_UNKNOWN,
            "it may have done a part of its work; one that only reads, or that runs agents, begins again",
        ),
        StepKind(
            TOOLS_LISTED,
            "toolset id, or `mcp/` and a server's name, or what says which tools are found by search",
            StepFinished,
            CutOff.REPEATED,
            "to list changes nothing",
            must_settle=False,
        ),
        StepKind(
            OPERATION,
            "name of the operation",
            StepFinished,
            CutOff.REPEATED,
            "pydantic-ai says of its durable operations that they bear to be begun again",
        ),
        StepKind(
            MESSAGE,
            "turn that it comes before",
            StepFinished,
            CutOff.REPEATED,
            "nobody was asked with it yet",
            must_settle=False,
        ),
        StepKind(
            WAIT, "turn/call id", StepFinished, CutOff.REPEATED, "to wait changes nothing", must_settle=False
        ),
        StepKind(
            NOTE,
            "turn that it comes before",
            StepFinished,
            CutOff.REPEATED,
            "nobody was asked with it yet",
            must_settle=False,
        ),
        StepKind(
            COMPACT,
            "turn that it comes before",
            StepFinished,
            CutOff.REPEATED,
            "a summary that nobody has is of no use to anybody",
        ),
        StepKind(
            PUT_DOWN,
            "turn/call id; by turns what its server asks before it goes on, and that it goes on",
            StepFinished,
            CutOff.REPEATED,
            "a call that its server has put down does nothing",
        ),
        StepKind(
            SAMPLED,
            "turn/call id/digest of what is asked",
            StepFinished,
            CutOff.REPEATED,
            "an answer that nobody has is of no use to anybody",
        ),
        StepKind(INPUT, "turn/call id", InputResolved, CutOff.REPEATED, "to wait changes nothing"),
        StepKind(
            SUBMITTED,
            "turn",
            StepFinished,
            CutOff.REPEATED,
            "the request was not handed in, as far as we know",
        ),
    )
}
"""By name. Of these, `submitted` is a request of a turn that was handed in and is to be collected: it counts
among the turn's requests, like the answer that is collected by the next of them."""


def kind_named(name: str) -> StepKind:
    """The kind's row; for a kind that has none, that of an operation."""
    return KINDS.get(name, KINDS[OPERATION])


def key_of(event: AnyEvent) -> StepKey | None:
    """The step that the event belongs to; None where it belongs to none."""
    match event:
        case ModelResponded():
            return StepKey(event.agent_path, MODEL, str(event.turn), event.nth)
        case ToolStarted() | ToolFinished():
            return StepKey(event.agent_path, TOOL, call_key(event.turn, event.call_id), event.nth)
        case StepFinished():
            return StepKey(event.agent_path, event.kind, event.key, event.nth)
        case _:
            return None


def approval_key(turn: int, call_id: str) -> tuple[str, str]:
    """Kind and key of the questions whether a call may run; those that it asks itself have the call's own."""
    return INPUT, f"{call_key(turn, call_id)} approval"


def call_key(turn: int, call_id: str) -> str:
    """The key of a tool call."""
    return f"{turn}/{call_id}"
