"""Routes of `/v1/executions` that people and the command line call."""

from decimal import Decimal
from typing import Annotated

from fastapi import APIRouter, Query, Response

from stigmer_contract.api import (
    OWNER_PATTERN,
    CancelExecution,
    CreateExecution,
    ExecutionResource,
    ForkExecution,
    MessageResource,
    Page,
    PauseExecution,
    RetryExecution,
    RewindExecution,
    SendMessage,
    SnapshotResource,
)
from stigmer_contract.phases import ExecutionPhase
from stigmer_server.api.access import NEEDS_USER, CallerOf, CredentialOf, GuardedRoute, check_model
from stigmer_server.api.own_sessions import own_session
from stigmer_server.api.problems import problem_responses
from stigmer_server.api.services import (
    Cursor,
    ExecutionId,
    IdempotencyKey,
    Limit,
    ServicesOf,
    Time,
    created_response,
)
from stigmer_server.errors import Conflict, IdempotencyKeyReused, NotFound
from stigmer_server.execution_lists import ExecutionFilter
from stigmer_server.pages import DEFAULT_PAGE_SIZE

router = APIRouter(prefix="/v1/executions", tags=["executions"], route_class=GuardedRoute)


@router.post(
    "",
    status_code=201,
    response_model=ExecutionResource,
    responses=problem_responses(NotFound, Conflict, IdempotencyKeyReused),
    openapi_extra=NEEDS_USER,
)
async def create_execution(
    request: CreateExecution,
    services: ServicesOf,
    credential: CredentialOf,
    idempotency_key: IdempotencyKey = None,
) -> Response:
    """Run an agent on an input. Answers at once; the log tells how it goes."""
    for model in (request.model, request.manifest and request.manifest.spec.model):
        check_model(model, credential)
    workspace = await services.workspaces.check(request.workspace, credential)
    request = request.model_copy(update={"workspace": workspace})
    answer = await services.executions.create(request, credential.caller, idempotency_key)
    return created_response(answer, "/v1/executions", "execution_id")


@router.get("", responses=problem_responses(), openapi_extra=NEEDS_USER)
async def list_executions(
    caller: CallerOf,
    services: ServicesOf,
    limit: Limit = DEFAULT_PAGE_SIZE,
    cursor: Cursor = None,
    session_id: Annotated[str | None, Query(max_length=64)] = None,
    agent: Annotated[str | None, Query(max_length=63)] = None,
    phase: Annotated[list[ExecutionPhase] | None, Query(description="One of these.")] = None,
    owner: Annotated[str | None, Query(pattern=OWNER_PATTERN, description="Who started it.")] = None,
    since: Annotated[Time | None, Query(description="Created then or later.")] = None,
    until: Annotated[Time | None, Query(description="Created before.")] = None,
    min_cost_usd: Annotated[
        Decimal | None, Query(ge=0, le=1_000_000, description="It cost as much or more.")
    ] = None,
    text: Annotated[
        str | None,
        Query(
            min_length=1,
            max_length=200,
            description=(
                "Words, each of which stands in its prompt, messages or answers, in the agent's name or an "
                "id; beginnings of words are enough. What tools gave is not looked at."
            ),
        ),
    ] = None,
) -> Page[ExecutionResource]:
    """The executions that the caller sees, newest first; those that fit all that is asked for."""
    wanted = ExecutionFilter(
        session_id=session_id,
        agent_name=agent,
        phases=tuple(phase or ()),
        owner=owner,
        since=since,
        until=until,
        min_cost_usd=min_cost_usd,
        text=text,
    )
    return await services.executions.list(caller, limit, cursor, wanted)


@router.get("/{execution_id}", responses=problem_responses(NotFound), openapi_extra=NEEDS_USER)
async def get_execution(
    execution_id: ExecutionId, caller: CallerOf, services: ServicesOf
) -> ExecutionResource:
    """One execution."""
    return await services.executions.get(execution_id, caller)


@router.post(
    "/{execution_id}/cancel",
    status_code=202,
    responses=problem_responses(NotFound, Conflict),
    openapi_extra=NEEDS_USER,
)
async def cancel_execution(
    execution_id: ExecutionId,
    caller: CallerOf,
    services: ServicesOf,
    request: CancelExecution | None = None,
) -> ExecutionResource:
    """Ask for an execution to stop. Cancelling it again changes nothing."""
    reason = None if request is None else request.reason
    state = await services.executions.load(execution_id, caller)
    return await services.endings.request_cancel(state, reason)


@router.post(
    "/{execution_id}/pause",
    status_code=202,
    responses=problem_responses(NotFound, Conflict),
    openapi_extra=NEEDS_USER,
)
async def pause_execution(
    execution_id: ExecutionId,
    credential: CredentialOf,
    services: ServicesOf,
    request: PauseExecution | None = None,
) -> ExecutionResource:
    """Let an execution rest. What it has in hand ends first; then it holds no runner until it is resumed.

    Pausing it again changes nothing.
    """
    state = await services.executions.load(execution_id, credential.caller)
    reason = None if request is None else request.reason
    return await services.pauses.pause(state.execution_id, credential.name, reason)


@router.post(
    "/{execution_id}/resume",
    status_code=202,
    responses=problem_responses(NotFound, Conflict),
    openapi_extra=NEEDS_USER,
)
async def resume_execution(
    execution_id: ExecutionId,
    credential: CredentialOf,
    services: ServicesOf,
    idempotency_key: IdempotencyKey = None,
) -> ExecutionResource:
    """Let a paused execution go on. What was answered and said meanwhile, it finds then."""
    state = await services.executions.load(execution_id, credential.caller)
    return await services.pauses.resume(
        state.execution_id, credential.name, credential.caller, idempotency_key
    )


@router.post(
    "/{execution_id}/retry",
    status_code=202,
    responses=problem_responses(NotFound, Conflict),
    openapi_extra=NEEDS_USER,
)
async def retry_execution(
    execution_id: ExecutionId,
    credential: CredentialOf,
    services: ServicesOf,
    request: RetryExecution | None = None,
    idempotency_key: IdempotencyKey = None,
) -> ExecutionResource:
    """Let an execution that failed go on from its log, or one that waits for a model ask it at once.

    It must be the newest of its session. Retrying it again while it goes on changes nothing.
    """
    state = await services.executions.load(execution_id, credential.caller)
    check_model(state.model, credential)
    return await services.retries.retry(
        state, request or RetryExecution(), credential.caller, idempotency_key
    )


@router.post(
    "/{execution_id}/fork",
    status_code=201,
    response_model=ExecutionResource,
    responses=problem_responses(NotFound, Conflict, IdempotencyKeyReused),
    openapi_extra=NEEDS_USER,
)
async def fork_execution(
    execution_id: ExecutionId,
    request: ForkExecution,
    credential: CredentialOf,
    services: ServicesOf,
    idempotency_key: IdempotencyKey = None,
) -> Response:
    """Begin an execution that goes on behind a step of this one, with the files as they were at that step.

    It has a session and a workspace of its own. What came before the step is its history, and is neither
    asked nor done again; its limits count what it uses itself.
    """
    for model in (request.model, request.manifest and request.manifest.spec.model):
        check_model(model, credential)
    state = await services.executions.load(execution_id, credential.caller)
    await own_session(services, state.session_id, credential.caller)
    if request.model is None and request.agent is None and request.manifest is None:
        check_model(state.model, credential)  # the fork has it, too
    answer = await services.forks.fork(state, request, credential.caller, idempotency_key)
    return created_response(answer, "/v1/executions", "execution_id")


@router.post(
    "/{execution_id}/rewind",
    status_code=201,
    response_model=ExecutionResource,
    responses=problem_responses(NotFound, Conflict, IdempotencyKeyReused),
    openapi_extra=NEEDS_USER,
)
async def rewind_execution(
    execution_id: ExecutionId,
    request: RewindExecution,
    caller: CallerOf,
    services: ServicesOf,
    idempotency_key: IdempotencyKey = None,
) -> Response:
    """Begin an execution that brings the session back to a step of this one, with the files of then in place.

    It asks no model, and the session takes no other execution until it has ended. What comes next in the
    session goes on from that step; executions in between stay as they are, and can be forked.
    """
    state = await services.executions.load(execution_id, caller)
    await own_session(services, state.session_id, caller)
    answer = await services.forks.rewind(state, request, caller, idempotency_key)
    return created_response(answer, "/v1/executions", "execution_id")


@router.get("/{execution_id}/snapshot", responses=problem_responses(NotFound), openapi_extra=NEEDS_USER)
async def get_snapshot(
    execution_id: ExecutionId,
    caller: CallerOf,
    services: ServicesOf,
    at: Annotated[int | None, Query(ge=0, description="The step; left out: the newest.")] = None,
) -> SnapshotResource:
    """The execution's files as they were at a step: after it, before the next could change any."""
    state = await services.executions.load(execution_id, caller)
    await own_session(services, state.session_id, caller)
    return await services.forks.find_snapshot(state, at)


@router.post(
    "/{execution_id}/messages",
    status_code=201,
    response_model=MessageResource,
    responses=problem_responses(NotFound, Conflict, IdempotencyKeyReused),
    openapi_extra=NEEDS_USER,
)
async def send_message(
    execution_id: ExecutionId,
    request: SendMessage,
    credential: CredentialOf,
    services: ServicesOf,
    idempotency_key: IdempotencyKey = None,
) -> Response:
    """Say something to an execution, which reads it before its next turn, or where it waits for a message.

    One that comes before the end is answered: one more turn follows. A later one goes to the session's
    execution that has not ended, or starts the next; the answer says which. The same key with the same
    message acts once, for as long as the log is kept.
    """
    state = await services.executions.load(execution_id, credential.caller)
    answer = await services.messages.send(
        state,
        request,
        credential.caller,
        idempotency_key,
        check_start=lambda ended: check_model(ended.model, credential),
    )
    return Response(answer.body, answer.status, media_type="application/json")
