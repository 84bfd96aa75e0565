"""What the routes work with, and how they get at it."""

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Final

from fastapi import Depends, Header, Path, Query, Request, Response
from pydantic import AfterValidator, AwareDatetime
from pydantic_core import from_json

from stigmer_contract.api import IDEMPOTENCY_KEY_HEADER, OWNER_PATTERN
from stigmer_server.agents import Agents
from stigmer_server.answer_links import AnswerLinks
from stigmer_server.artifacts import Artifacts
from stigmer_server.audit import AuditTrail
from stigmer_server.blobs import BlobStore
from stigmer_server.console_files import ConsoleFiles
from stigmer_server.console_sessions import ConsoleSessions
from stigmer_server.database import Database
from stigmer_server.endings import Endings
from stigmer_server.errors import InvalidRequest
from stigmer_server.event_feed import EventFeed
from stigmer_server.executions import Executions
from stigmer_server.forks import Forks
from stigmer_server.grants import Grants
from stigmer_server.idempotency import MAX_KEY_LENGTH, Answer
from stigmer_server.inputs import Inputs
from stigmer_server.installation import Installation
from stigmer_server.leases import Leases
from stigmer_server.log_formats import LogFormats
from stigmer_server.lost_runners import LostRunners
from stigmer_server.mcp_logins import McpLoginStore
from stigmer_server.messages import Messages
from stigmer_server.metrics import Metrics
from stigmer_server.pages import MAX_PAGE_SIZE
from stigmer_server.pauses import Pauses
from stigmer_server.placements import Placements
from stigmer_server.retries import Retries
from stigmer_server.runner_presence import RunnerPresence
from stigmer_server.runner_reports import RunnerReports
from stigmer_server.secrets_store import Secrets
from stigmer_server.session_files import SessionFiles
from stigmer_server.session_imports import SessionImports
from stigmer_server.sessions import Sessions
from stigmer_server.stack_view import StackView
from stigmer_server.storage_watch import StorageWatch
from stigmer_server.temporal_client import TemporalClient
from stigmer_server.tokens import Tokens
from stigmer_server.tool_pins import ToolListPins
from stigmer_server.usage_reports import UsageReports
from stigmer_server.webhook_sender import WebhookSender
from stigmer_server.webhooks import Webhooks
from stigmer_server.workspace_choice import WorkspaceChoice


@dataclass(frozen=True)
class Services:
    """Everything that a route may call."""

    database: Database
    temporal: TemporalClient
    agents: Agents
    sessions: Sessions
    session_files: SessionFiles
    session_imports: SessionImports
    secrets: Secrets
    executions: Executions
    endings: Endings
    feed: EventFeed
    formats: LogFormats
    inputs: Inputs
    answer_links: AnswerLinks
    webhooks: Webhooks
    webhook_sender: WebhookSender
    grants: Grants
    messages: Messages
    forks: Forks
    pauses: Pauses
    retries: Retries
    artifacts: Artifacts
    blobs: BlobStore
    metrics: Metrics
    tokens: Tokens
    console_files: ConsoleFiles
    console_sessions: ConsoleSessions
    leases: Leases
    presence: RunnerPresence
    installation: Installation
    placements: Placements
    lost_runners: LostRunners
    runner_reports: RunnerReports
    audit: AuditTrail
    storage: StorageWatch
    tool_pins: ToolListPins
    mcp_logins: McpLoginStore
    usage: UsageReports
    stack: StackView
    workspaces: WorkspaceChoice
    version: str


async def services_of(request: Request) -> Services:
    """The services of the server that got the request."""
    services: Services = request.app.state.services
    return services


def execution_id_of(request: Request) -> str:
    """The execution id in the path of a request that FastAPI does not read.

    Raises:
        InvalidRequest: no execution can have it.
    """
    execution_id: str = request.path_params["execution_id"]
    if not re.fullmatch(IDENTIFIER, execution_id):
        raise InvalidRequest(f"{execution_id!r} is not an execution's id")
    return execution_id


def created_response(answer: Answer, collection: str, id_field: str) -> Response:
    """The answer to a creating call; `Location` says where the new resource is."""
    resource_id: str = from_json(answer.body)[id_field]
    headers = {"Location": f"{collection}/{resource_id}"}
    return Response(answer.body, answer.status, headers=headers, media_type="application/json")


def _within_bounds(time: datetime) -> datetime:
    if not EARLIEST <= time <= LATEST:
        raise ValueError(f"a time between {EARLIEST:%Y} and {LATEST:%Y} is meant")
    return time.astimezone(UTC)


EARLIEST: Final = datetime(1970, 1, 1, tzinfo=UTC)
LATEST: Final = datetime(2100, 1, 1, tzinfo=UTC)
Time = Annotated[AwareDatetime, AfterValidator(_within_bounds)]
"""A time in a query, with its zone."""
ServicesOf = Annotated[Services, Depends(services_of)]
IDENTIFIER: Final = r"^[!-~]{1,64}$"
"""What the id of an execution or a session may look like; every database can hold it."""
ExecutionId = Annotated[str, Path(pattern=IDENTIFIER)]
OwnerName = Annotated[
    str | None,
    Query(
        alias="owner",
        pattern=OWNER_PATTERN,
        description="Whose it is; left out: the caller's own, else the shared one of that name.",
    ),
]
SessionId = Annotated[str, Path(pattern=IDENTIFIER)]
Limit = Annotated[int, Query(ge=1, le=MAX_PAGE_SIZE, description="Most items of the page.")]
Cursor = Annotated[str | None, Query(max_length=512, description="`next_cursor` of the page before.")]
IdempotencyKey = Annotated[
    str | None,
    Header(
        alias=IDEMPOTENCY_KEY_HEADER,
        min_length=1,
        max_length=MAX_KEY_LENGTH,
        description="The same key with the same request acts once and is answered alike, for 24 hours.",
    ),
]
