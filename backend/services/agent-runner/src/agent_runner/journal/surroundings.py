"""What an agent is told of where it works: read from the session's log, else written into it, once."""

import asyncio
from datetime import timedelta
from typing import Final

from agent_runner.journal.notes import NoteRules, NoteSteps
from agent_runner.journal.open_waits import ServerClock
from agent_runner.journal.steps import StepJournal
from agent_runner.workspace import (
    AgentsFileReader,
    SessionWorkspace,
    describe_surroundings,
    is_time_zone,
    local_time_zone,
)
from stigmer_contract.api import LegGrant
from stigmer_contract.events import EnvironmentDescribed

_FALLBACK_ZONE: Final = "UTC"


class Surroundings:
    """Where the agent of one leg works."""

    def __init__(self, described: EnvironmentDescribed, notes: NoteSteps, *, is_told: bool) -> None:
        self._described = described
        self._is_told = is_told
        self.notes = notes

    @property
    def text(self) -> str | None:
        """The system part; None where the agent is to have none."""
        return self._described.text if self._is_told else None


async def open_surroundings(
    journal: StepJournal, grant: LegGrant, workspace: SessionWorkspace, clock: ServerClock
) -> Surroundings:
    """Where the agent works, as its session was told at first.

    Raises:
        WorkspaceUnavailableError: the workspace is gone.
    """
    spec = grant.spec
    directory = await workspace.working_dir()
    described = _known(grant)
    if described is None:
        described = await asyncio.to_thread(_describe, grant, workspace, directory)
        if spec.context.environment:
            journal.write(described, more_follows=True)
    zone = described.time_zone if is_time_zone(described.time_zone) else _FALLBACK_ZONE
    ends_at = None if grant.seconds_left is None else clock.now() + timedelta(seconds=grant.seconds_left)
    rules = NoteRules(
        circumstances=spec.context.environment,
        agents_file=AgentsFileReader(workspace) if spec.context.agents_file else None,
        time_zone=zone,
        workspace=directory,
        described_workspace=described.workspace,
        ends_at=ends_at,
    )
    return Surroundings(described, NoteSteps(journal, rules, clock), is_told=spec.context.environment)


def _known(grant: LegGrant) -> EnvironmentDescribed | None:
    """The first text of the session that was written for an agent such as this."""
    own = [recorded.event for recorded in grant.events]
    for event in (*grant.environments, *own):
        if (
            isinstance(event, EnvironmentDescribed)
            and sorted(event.tools) == sorted(grant.spec.tools)
            and event.network == grant.spec.network
        ):
            return event
    return None


def _describe(grant: LegGrant, workspace: SessionWorkspace, directory: str) -> EnvironmentDescribed:
    spec = grant.spec
    time_zone = local_time_zone(workspace.command_environment)
    text = describe_surroundings(
        workspace, directory, tools=frozenset(spec.tools), network=spec.network, time_zone=time_zone
    )
    return EnvironmentDescribed(
        text=text,
        workspace=directory,
        time_zone=time_zone,
        tools=sorted(spec.tools),
        network=spec.network,
    )
