"""Names and payloads that the server (which starts workflows) and the runner (which runs them) share.

Only ids and small enums cross Temporal: never a prompt, an answer, a tool result or a secret, since
its history is kept and shown by tools that know nothing of our access rules.
"""

from enum import StrEnum

from pydantic import BaseModel, ConfigDict

DEFAULT_ADDRESS = "localhost:7233"
DEFAULT_NAMESPACE = "default"
DEFAULT_TASK_QUEUE = "agent_execution_runner"
WORKFLOW_TYPE = "AgentExecution"
WORKFLOW_VERSION = 2
"""Of the workflow's code. A change that leaves in Temporal what older code could not go on with counts it up,
and asks `AgentExecutionInput.workflow_version`: workflows keep the version that they were started with. Those
of each version have a task queue of their own, which runners of that version and of later ones poll.
1 is 0.1.0's."""
FIRST_NAMED_VERSION = 2
"""The first version whose runners ask the server which task queues are theirs."""
RUN_LEG_ACTIVITY = "run_leg"
LOOK_SIGNAL = "look"
"""Says that the log may hold something that the execution waits for; carries nothing."""
LEG_LOST_FAILURE = "LegLost"
"""Type of the failure by which the server ends the activity of a leg whose runner is known to have ended."""


def task_queue_of_version(installation_queue: str, version: int) -> str:
    """The task queue of an installation's workflows of a version; those of 0.1.0 have none of its own."""
    return installation_queue if version <= FIRST_NAMED_VERSION else f"{installation_queue}.w{version}"


def version_of_task_queue(task_queue: str | None) -> int:
    """The version of the workflows on a queue; None: that of 0.1.0, which all installations shared."""
    if task_queue is None:
        return 1
    _, _, version = task_queue.rpartition(".w")
    return int(version) if version.isascii() and version.isdigit() else FIRST_NAMED_VERSION


class LegOutcome(StrEnum):
    """How a leg ended; decides whether the workflow starts another one."""

    ENDED = "ended"
    """The log holds a terminal event."""
    DRAINED = "drained"
    """The worker was told to stop; the next leg goes on from the log."""
    SUPERSEDED = "superseded"
    """Another attempt took over; the next leg finds out from the log how things stand."""
    WAITING = "waiting"
    """Nothing can go on until a signal or a time; the next leg finds out from the log what came."""


class AgentExecutionInput(BaseModel):
    """Input of the workflow `AgentExecution`. The workflow id is the execution id."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    execution_id: str
    heartbeat_timeout_seconds: float = 5.0
    """After this long without a heartbeat Temporal gives the leg to another worker."""
    workflow_version: int = 1
    """As which version of the code the workflow was started, and goes on."""
    leg_task_queue: str | None = None
    """Where legs run; None: where the workflow does."""


class LegInput(BaseModel):
    """Input of the activity `run_leg`."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    execution_id: str


class LegResult(BaseModel):
    """Result of the activity `run_leg`."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    outcome: LegOutcome
    wait_seconds: float | None = None
    """While waiting: how long at most; None: until a signal comes."""
