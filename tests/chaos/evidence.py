"""Gathers what a chaos run has left: logs, marks of commands, questions to the model, what is still open."""

import asyncio
import itertools
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, cast

import asyncpg
import httpx
from temporalio.client import Client

from chaos.cluster import Cluster
from chaos.faults import Happened
from chaos.model import MARKS_FILE, Asking
from chaos.plan import MODEL
from chaos.watch import Watch
from chaos.workload import ANSWER_TIMEOUT_SECONDS, Told
from stigmer_contract.api import ExecutionResource, Page
from stigmer_contract.events import (
    ExecutionCancelled,
    ExecutionCompleted,
    ExecutionFailed,
    InlinePayload,
    LegLost,
    ModelResponded,
    RecordedEvent,
    ToolFinished,
)

ENDS: Final = (ExecutionCompleted, ExecutionFailed, ExecutionCancelled)
LINGER_SECONDS: Final = 2.0
"""After a link's fault: what it had taken in may have been lost."""
LEFT_TIMEOUT_SECONDS: Final = 60.0
_PAGE: Final = 500
_POLL_SECONDS: Final = 0.2


@dataclass
class Ran:
    """One execution, after its end."""

    told: Told
    phase: str
    """As the list says."""
    log: list[RecordedEvent]
    marks: list[str]
    """Lines that its commands left."""
    askings: list[Asking]
    """What the model was asked, in order."""

    @property
    def execution_id(self) -> str:
        """Of the execution."""
        return self.told.execution_id

    @property
    def has_ended(self) -> bool:
        """Whether its log says so."""
        return any(isinstance(recorded.event, ENDS) for recorded in self.log)

    def askings_by_turn(self) -> dict[int, list[Asking]]:
        """What the model was asked for each turn."""
        by_turn = defaultdict[int, list[Asking]](list)
        for asking in self.askings:
            by_turn[asking.turn].append(asking)
        return by_turn

    def result_of(self, mark: str) -> object:
        """What the model was told of a command."""
        for recorded in self.log:
            event = recorded.event
            if isinstance(event, ToolFinished) and mark == f"{event.turn}-{event.call_id.rpartition('_')[2]}":
                return event.result.value if isinstance(event.result, InlinePayload) else "a blob"
        return None

    def legs_lost_in(self, turn: int) -> int:
        """How many legs were lost while an answer of the turn was not in the log yet."""
        lost, answered = 0, 0
        for recorded in self.log:
            if isinstance(recorded.event, ModelResponded):
                answered = recorded.event.turn
            elif isinstance(recorded.event, LegLost) and answered == turn - 1:
                lost += 1
        return lost


@dataclass
class Evidence:
    """All of it."""

    started_at: float
    happened: list[Happened]
    ran: list[Ran]
    watch: Watch
    left_behind: list[str] = field(default_factory=list[str])
    """What is still there and should not be, a line each."""


def lost_answers(ran: Ran, turn: int, evidence: Evidence) -> list[Asking]:
    """Those paid answers of a turn that never came to be in the log, for a reason that is known.

    The model itself broke it, the link to its runner was hit meanwhile, it took the agent's time-out (on a
    busy machine), or the leg that asked was lost.
    """
    asked = ran.askings_by_turn()[turn]
    paid = [asking for asking in asked if asking.is_paid]
    next_at = {id(one): following.began_at for one, following in itertools.pairwise(asked)}
    broken = [
        asking
        for asking in paid
        if asking.fault is not None
        or _was_hit(asking, evidence)
        or next_at.get(id(asking), asking.began_at) - asking.began_at >= ANSWER_TIMEOUT_SECONDS
    ]
    rest = [asking for asking in paid if asking not in broken]
    return broken + rest[: ran.legs_lost_in(turn)]


def _was_hit(asking: Asking, evidence: Evidence) -> bool:
    ended_at = asking.ended_at or time.monotonic()
    return any(
        happened.fault.target == f"{asking.runner}>{MODEL}"
        and happened.began_at <= ended_at + LINGER_SECONDS
        and happened.ended_at + LINGER_SECONDS >= asking.began_at
        for happened in evidence.happened
    )


def gather(cluster: Cluster, told: Sequence[Told], askings: Sequence[Asking]) -> list[Ran]:
    """Read the log and the marks of every execution, past all links."""
    by_key = defaultdict[str, list[Asking]](list)
    for asking in askings:
        by_key[asking.conversation].append(asking)
    headers = {"Authorization": f"Bearer {cluster.token}"}
    begun = [one for one in told if one.execution_id]
    with httpx.Client(base_url=cluster.direct_endpoint(), headers=headers, timeout=30) as client:
        logs = [_log(client, one.execution_id) for one in begun]
        phases = _phases(client)  # after the logs: what has ended there must have ended here
    return [
        Ran(one, phases[one.execution_id], log, _marks(cluster, one), by_key[one.work.key])
        for one, log in zip(begun, logs, strict=True)
    ]


def _marks(cluster: Cluster, told: Told) -> list[str]:
    file = cluster.workspace_root / told.session_id / MARKS_FILE
    return file.read_text(encoding="utf-8").split() if file.exists() else []


def _phases(client: httpx.Client) -> dict[str, str]:
    phases = dict[str, str]()
    cursor: str | None = None
    while True:
        params = {"limit": "100"} | ({} if cursor is None else {"cursor": cursor})
        answer = client.get("/v1/executions", params=params).raise_for_status()
        page = Page[ExecutionResource].model_validate_json(answer.content)
        phases |= {item.execution_id: item.phase.value for item in page.items}
        cursor = page.next_cursor
        if cursor is None:
            return phases


def _log(client: httpx.Client, execution_id: str) -> list[RecordedEvent]:
    events = list[RecordedEvent]()
    while True:
        after = events[-1].sequence if events else 0
        answer = client.get(
            f"/v1/executions/{execution_id}/events",
            params={"after": after, "limit": _PAGE},
            headers={"Accept": "application/json"},
        ).raise_for_status()
        page = Page[RecordedEvent].model_validate_json(answer.content)
        events += page.items
        if page.next_cursor is None:
            return events


def find_left_behind(cluster: Cluster) -> list[str]:
    """Workflows that are open and legs that are held after the end of all; they get some time to go."""
    return asyncio.run(_find_left_behind(cluster))


async def _find_left_behind(cluster: Cluster) -> list[str]:
    temporal = await Client.connect(cluster.temporal.address)
    deadline = time.monotonic() + LEFT_TIMEOUT_SECONDS
    while True:
        query = 'ExecutionStatus="Running"'
        left = [f"workflow {one.id} is still open" async for one in temporal.list_workflows(query)]
        left += await _held_legs(cluster.database_url)
        if not left or time.monotonic() > deadline:
            return left
        await asyncio.sleep(_POLL_SECONDS)


async def _held_legs(database_url: str) -> list[str]:
    connection = await asyncpg.connect(database_url)
    try:
        rows = await connection.fetch(
            "SELECT execution_id, leg_runner FROM executions WHERE leg_runner IS NOT NULL"
        )
    finally:
        await connection.close()
    return [f"{cast('str', row[0])}: {row[1]} still holds a leg" for row in rows]


def find_left_processes(cluster: Cluster) -> list[str]:
    """Processes that outlive the cluster; they get some time to go."""
    deadline = time.monotonic() + LEFT_TIMEOUT_SECONDS
    while processes := cluster.processes():
        if time.monotonic() > deadline:
            return [f"process {one.pid} is left: {one}" for one in processes]
        time.sleep(_POLL_SECONDS)
    return []
