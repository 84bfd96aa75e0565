"""A new execution: whether it may begin, and its row and first event. Starts no workflow, tells nobody."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

from sqlalchemy import Connection, func, select

from stigmer_contract.api import CreateExecution
from stigmer_contract.attachments import MAX_ATTACHMENTS_BYTES, AttachedFile, Attachment
from stigmer_contract.events import BlobPayload, ExecutionStarted, ForkOrigin, Payload
from stigmer_contract.identifiers import EXECUTION_PREFIX, new_id
from stigmer_contract.manifest import AgentManifest, unsupported_fields
from stigmer_contract.manifest_approval import ApprovalPolicy, strictest
from stigmer_contract.manifest_parts import secrets_excess
from stigmer_contract.model_names import split_model
from stigmer_contract.untrusted_text import strip_controls
from stigmer_server.agents import find_agent
from stigmer_server.blob_grants import grant_to_session, may_read
from stigmer_server.blobs import BlobStore
from stigmer_server.errors import (
    FeatureNotYet,
    Forbidden,
    InvalidRequest,
    NotFound,
    PayloadTooLarge,
    SecretMissing,
    SessionBusy,
)
from stigmer_server.event_log import NewEvent, StoredEvent, insert_first_event
from stigmer_server.execution_state import ExecutionState
from stigmer_server.installation import Installation
from stigmer_server.owners import Caller, find_owner
from stigmer_server.policies import check_costs, check_policy
from stigmer_server.secrets_store import find_missing_secrets, size_of_secrets
from stigmer_server.sessions import (
    find_session,
    has_unended_execution,
    insert_session,
    next_place,
    note_compaction,
    place_session,
)
from stigmer_server.tables import executions

MAX_HEAD_CHARACTERS: Final = 120
_READ_CHARACTERS: Final = 2000
"""Of an input; one that begins with more white space has no head."""
_EXCESS_HINT: Final = "name fewer or smaller secrets in `spec.env`"


def check_request(request: CreateExecution) -> None:
    """Refuse a request that makes no sense, whoever makes it.

    Raises:
        InvalidRequest: why.
    """
    if (request.agent is None) == (request.manifest is None):
        raise InvalidRequest("give exactly one of agent and manifest")
    if request.session_id is not None and request.workspace is not None:
        raise InvalidRequest("workspace is for a new session; session_id names one that has its own")
    if request.model is not None:
        try:
            split_model(request.model)
        except ValueError as error:
            raise InvalidRequest(f"model: {error}") from error


def measure_attachments(request: CreateExecution, blobs: BlobStore) -> list[Attachment]:
    """The files that come with the input, as far as they are there; who may read them is seen later.

    Raises:
        InvalidRequest: there is none of that digest.
        PayloadTooLarge: all of them together are.
    """
    found = list[Attachment]()
    for file in request.attachments:
        try:
            size_bytes = blobs.find(file.sha256).stat().st_size
        except (NotFound, OSError):
            raise _not_brought(file) from None
        found.append(Attachment(name=file.name, sha256=file.sha256, size_bytes=size_bytes))
    if sum(attachment.size_bytes for attachment in found) > MAX_ATTACHMENTS_BYTES:
        raise PayloadTooLarge("the attached files together", MAX_ATTACHMENTS_BYTES)
    return found


def _not_brought(file: AttachedFile | Attachment) -> InvalidRequest:
    # Alike whether nobody has stored it or somebody else has.
    return InvalidRequest(
        f"the attached file {file.name!r} is not there", f"store it first: PUT /v1/blobs/{file.sha256}"
    )


def head_of(text: str) -> str:
    """How a text begins, in one line of at most `MAX_HEAD_CHARACTERS`, without controls."""
    return " ".join(strip_controls(text[:_READ_CHARACTERS]).split())[:MAX_HEAD_CHARACTERS].rstrip()


def _resolve_manifest(
    connection: Connection, request: CreateExecution, caller: Caller
) -> tuple[AgentManifest, Caller]:
    """The manifest, and whose it is."""
    manifest, author = request.manifest, caller
    if manifest is None:
        agent = find_agent(connection, request.agent or "", caller)
        manifest, author = agent.manifest, find_owner(connection, agent.owner)
    unsupported = unsupported_fields(manifest.spec)
    if unsupported:
        raise FeatureNotYet(unsupported)
    for what in manifest.spec.unpacked:
        raise InvalidRequest(
            f"{what} was not packed with the manifest",
            "apply the agent with `stigmer apply`, or run it with `stigmer run`",
        )
    names = manifest.spec.secret_names
    excess = secrets_excess(len(names), 0)
    if excess is not None:
        raise InvalidRequest(excess, _EXCESS_HINT)
    missing = find_missing_secrets(connection, names, caller)
    if missing:
        raise SecretMissing(missing[0])
    excess = secrets_excess(len(names), size_of_secrets(connection, names, caller))
    if excess is not None:
        raise InvalidRequest(excess, _EXCESS_HINT)
    return manifest, author


def _least_policy(request: CreateExecution, caller: Caller) -> ApprovalPolicy | None:
    """The stricter of what was asked for and what the token says, so that neither loosens the other."""
    if request.approve is None and caller.policy.approve is None:
        return None
    return strictest(request.approve, caller.policy.approve)


def _check_call(request: CreateExecution, caller: Caller) -> None:
    """See that a person may call a tool by hand, which no rule of the agent's looks at.

    Raises:
        Forbidden: their calls wait for somebody else, or are denied.
    """
    policy = _least_policy(request, caller)
    if policy not in (None, "allow"):
        raise Forbidden(f"the policy {policy!r} holds for tool calls: none can be made by hand")


def insert_execution(
    connection: Connection,
    request: CreateExecution,
    caller: Caller,
    payload: Payload,
    installation: Installation,
    attachments: Sequence[Attachment] = (),
    fork: ForkOrigin | None = None,
) -> tuple[ExecutionState, StoredEvent]:
    """Write a new execution; `payload` is its input as the log holds it, with its `attachments`; `fork` says
    where it comes from.

    Raises:
        FeatureNotYet, InvalidRequest, SecretMissing, NotFound, SessionBusy: as `Executions.create`.
        Forbidden: the policy of the caller's token excludes it.
    """
    manifest, author = _resolve_manifest(connection, request, caller)
    for attachment in attachments:
        if not may_read(connection, attachment.sha256, caller):
            raise _not_brought(attachment)
    spec = manifest.spec
    if request.snapshots is not None:
        spec = spec.model_copy(update={"snapshots": request.snapshots})
    if request.session_id is None:
        placement = installation.placement_of(request.workspace)
        session = insert_session(connection, caller.owner, request.workspace, placement)
    else:
        session = find_session(connection, request.session_id, caller, lock=True)
        if has_unended_execution(connection, session.session_id):
            raise SessionBusy(session.session_id)
        placement = installation.placement_of(session.workspace)
        place_session(connection, session, placement)
    now = datetime.now(UTC)
    if request.inspection is not None and request.inspection.call is not None:
        _check_call(request, caller)
    check_policy(caller.policy, manifest.spec, session.workspace)
    if caller.policy.max_cost_per_day_usd is not None and caller.token_id is not None:
        check_costs(connection, caller.token_id, now)
    duration: timedelta | None = manifest.spec.limits.duration
    newest = connection.execute(select(func.max(executions.c.execution_id))).scalar()
    execution_id = new_id(EXECUTION_PREFIX, after=newest)
    state = ExecutionState(
        execution_id=execution_id,
        session_id=session.session_id,
        agent_name=manifest.metadata.name,
        model=request.model or manifest.spec.model,
        input_head=head_of(request.input),
        created_at=now,
        deadline_at=None if duration is None else installation.steady_clock.now() + duration,
        place=next_place(connection, session.session_id),
        workflow_id=installation.workflow_id(execution_id),
        task_queue=installation.task_queue,
        leg_task_queue=placement,
        owner=caller.owner,
        # Only where there is something to count; every answer looks then.
        token_id=caller.token_id if caller.policy.max_cost_per_day_usd is not None else None,
    )
    first = ExecutionStarted(
        session_id=state.session_id,
        agent_name=state.agent_name,
        spec=spec,
        model=request.model,
        input=payload,
        attachments=list(attachments),
        approve=_least_policy(request, caller),
        # A rewind asks no model.
        compact=session.compaction_asked_at is not None and fork is None,
        inspection=request.inspection,
        fork=fork,
    )
    if first.compact:
        note_compaction(connection, session.session_id, None)
    new_event = NewEvent.of(first)
    for sha256 in new_event.blobs:
        is_input = isinstance(payload, BlobPayload) and payload.sha256 == sha256
        if is_input or any(may_read(connection, sha256, person) for person in (caller, author)):
            grant_to_session(connection, sha256, session.session_id)
    return state, insert_first_event(connection, state, new_event)
