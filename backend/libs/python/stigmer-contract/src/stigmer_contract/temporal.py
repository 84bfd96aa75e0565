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
RUN_LEG_ACTIVITY = "run_leg"
LOOK_SIGNAL = "look"
"""Says that the log may hold something that the execution waits for; carries nothing."""
LEG_LOST_FAILURE = "LegLost"
"""Type of the failure by which the server ends the activity of a leg whose runner is known to have ended."""


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
