"""What an execution asks of a person: an approval of a call, a question, a login, a tool of the client's.

Each is one event `input.requested` in its execution's log; whichever of an answer, its expiry and the end of
the execution comes first is the one `input.resolved`. What is asked stands in the event's content, in a form
of its kind.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import Final, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from stigmer_contract.waits import WaitKind

MAX_OPEN_INPUTS: Final = 100
"""Of one execution."""
MAX_TITLE_CHARACTERS: Final = 300
MAX_REASON_CHARACTERS: Final = 2000


SIGNED_IN: Final = "I have signed in"
"""The answer to a `login`."""


class InputKind(StrEnum):
    """What is asked for."""

    APPROVAL = "approval"
    """Whether a call may run."""
    QUESTION = "question"
    """An answer."""
    LOGIN = "login"
    """That somebody signs in somewhere."""
    CLIENT_TOOL = "client_tool"
    """The result of a tool that whoever is connected carries out."""


class InputOutcome(StrEnum):
    """How an input was resolved."""

    APPROVED = "approved"
    DENIED = "denied"
    """Somebody said no: to a call, or to answering a question."""
    ANSWERED = "answered"
    EXPIRED = "expired"
    """Nobody decided in time."""
    CANCELLED = "cancelled"
    """The execution ended before."""


OUTCOMES_OF_PEOPLE: Final[Mapping[InputKind, frozenset[InputOutcome]]] = {
    InputKind.APPROVAL: frozenset({InputOutcome.APPROVED, InputOutcome.DENIED}),
    InputKind.QUESTION: frozenset({InputOutcome.ANSWERED, InputOutcome.DENIED}),
    InputKind.LOGIN: frozenset({InputOutcome.ANSWERED, InputOutcome.DENIED}),
    InputKind.CLIENT_TOOL: frozenset({InputOutcome.ANSWERED, InputOutcome.DENIED}),
}
"""What a person may decide, by what is asked for."""


def wait_kind_of(kind: InputKind) -> WaitKind:
    """What an execution waits for that asks for this."""
    return WaitKind.APPROVAL if kind is InputKind.APPROVAL else WaitKind.ANSWER


class _Content(BaseModel):
    # Read by programs that may be older than who wrote it.
    model_config = ConfigDict(extra="ignore", frozen=True)


class Question(_Content):
    """Content of a `question`. What an answer looks like, the event's `answer_schema` says."""

    version: Literal[1] = 1
    text: str
    """In the agent's words."""
    choices: list[str] = []
    """What the person may choose from."""
    several: bool = False
    """Whether more than one of them may be chosen."""
    own_words: bool = True
    """Whether the person may answer something else than the choices."""


class Login(Question):
    """Content of a `login`: an MCP server asks who calls it. Signing in there answers it."""

    url: str
    """Of the server."""
    status: int = 401
    challenge: str = ""
    """How the server asked: its answer's `WWW-Authenticate`."""
    key: str = ""
    """Tells it from another one of the same call."""


class Approval(_Content):
    """Content of an `approval`."""

    version: Literal[1] = 1
    toolset: str
    tool: str
    arguments: dict[str, JsonValue]
    rule: str | None = None
    """Why it is asked: the rule, as the manifest has it."""
    reason: str | None = None
    """Why it is asked, in words."""
    diff: str | None = None
    """What a file would look like afterwards, as a unified diff."""
    base: str | None = None
    """Hash of the file that the diff is made on: only that is written over. `absent`: there is none."""
    kind_rule: str | None = None
    """What approving this kind of call would mean, as a rule in JSON; None: that cannot be offered."""
    again: str | None = None
    """Why the same call is asked about once more."""


class ClientToolCall(_Content):
    """Content of a `client_tool`. The answer is the call's result, whatever JSON it is."""

    version: Literal[1] = 1
    tool: str
    arguments: dict[str, JsonValue]


class OpenInput(BaseModel):
    """An input that is not resolved, as the server keeps it beside its execution."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    input_id: str
    sequence: int = Field(ge=1)
    """Of the event that asks."""
    is_reminded: bool = False
    """Whether people were reminded of it."""
