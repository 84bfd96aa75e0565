"""Has a runner look at an agent's tools, or call one: starts an execution for that, and waits for its end."""

import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from stigmer_cli.api_client import ApiClient
from stigmer_cli.commands.manifest_files import (
    ManifestFile,
    check_supported,
    names_a_path,
    names_files,
    read_agent,
)
from stigmer_cli.errors import CallRefused, ExecutionFailed, StigmerError
from stigmer_cli.output import print_note
from stigmer_contract.api import CreateExecution, ExecutionResource
from stigmer_contract.inspections import Inspection, InspectionReport
from stigmer_contract.manifest import AgentManifest
from stigmer_contract.phases import ExecutionPhase

POLL_SECONDS: Final = 0.1
NOTE_SECONDS: Final = 3.0
RUNNER_SECONDS: Final = 5.0
"""Longest wait for a runner to begin, where the server says that none does."""


class NoRunner(StigmerError):
    """Nobody took the execution."""


@dataclass(frozen=True)
class InspectedAgent:
    """The agent that is meant, as the server is told of it."""

    name: str | None
    """Of an applied one; else `manifest` is given."""
    manifest: AgentManifest | None
    packs: tuple[bytes, ...] = ()


def read_inspected(given: str) -> InspectedAgent:
    """A manifest's path, or the name of an applied agent.

    Raises:
        UsageError, ManifestInvalid, NotYet: the manifest cannot be used.
    """
    if not names_a_path(given):
        return InspectedAgent(given, None)
    file: ManifestFile = read_agent(given)
    check_supported(file, "inspect")
    if not names_files(file.manifest):
        return InspectedAgent(None, file.manifest)
    from stigmer_cli.commands.agent_packs import pack_agents

    [packed] = pack_agents([file])
    return InspectedAgent(None, packed.manifest, tuple(packed.packs))


def manifest_of(client: ApiClient, agent: InspectedAgent) -> AgentManifest:
    """The agent's manifest."""
    return agent.manifest if agent.manifest is not None else client.get_agent(agent.name or "").manifest


def inspect(
    client: ApiClient, agent: InspectedAgent, inspection: Inspection, what: str, *, keeps: bool = False
) -> InspectionReport:
    """What the inspection found.

    Args:
        what: it does, in a few words: the execution's input.
        keeps: the execution stays, for it did something.

    Raises:
        NoRunner: nobody began with it in time.
        ExecutionFailed: why it failed.
    """
    for pack in agent.packs:
        client.upload_blob(pack)
    request = CreateExecution(agent=agent.name, manifest=agent.manifest, input=what, inspection=inspection)
    execution = client.create_execution(request)
    try:
        ended = _wait(client, execution.execution_id)
    except BaseException:
        with contextlib.suppress(StigmerError):
            client.cancel_execution(execution.execution_id, None)
        raise
    if ended.phase is not ExecutionPhase.COMPLETED or ended.output is None:
        message = ended.error.message if ended.error else f"it was {ended.phase}"
        raise ExecutionFailed(f"could not {what}: {message}", ended.error.hint if ended.error else None)
    report = InspectionReport.model_validate(client.load_payload(ended.output))
    if not keeps:
        with contextlib.suppress(CallRefused):
            client.delete_session(ended.session_id)
    return report


def _wait(client: ApiClient, execution_id: str) -> ExecutionResource:
    began, is_noted = time.monotonic(), False
    say: Callable[[str], None] = print_note
    while True:
        execution = client.get_execution(execution_id)
        if execution.phase.is_terminal:
            return execution
        waited = time.monotonic() - began
        if execution.started_at is None and waited > RUNNER_SECONDS and execution.pending_reason is not None:
            raise NoRunner(
                f"nobody looked at the tools within {RUNNER_SECONDS:g} s: {execution.pending_reason}",
                "see `stigmer doctor`",
            )
        if waited > NOTE_SECONDS and not is_noted:
            say(f"waiting: {execution.pending_reason or 'servers are started'}")
            is_noted = True
        time.sleep(POLL_SECONDS)
