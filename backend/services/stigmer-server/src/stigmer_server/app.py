"""Puts the server together: the services, the HTTP application, and what runs in the background."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from importlib.metadata import version
from typing import Any, Final

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from stigmer_contract.api import AppendEvents, HoldLeg, Problem, PublishLiveEvents
from stigmer_contract.conversation import ModelAnswer, ToolResult
from stigmer_contract.events import RecordedEvent
from stigmer_contract.inputs import Approval, Question
from stigmer_server.agents import Agents
from stigmer_server.answer_links import AnswerLinks
from stigmer_server.api import (
    agents,
    answer_page,
    artifacts,
    audit,
    blobs,
    console,
    events,
    executions,
    grants,
    health,
    inputs,
    installation,
    legs,
    manifests,
    mcp_logins,
    placements,
    runners,
    secrets,
    session_files,
    sessions,
    shared_events,
    stack,
    tokens,
    tool_pins,
    usage,
    webhooks,
)
from stigmer_server.api.access import SECURITY_SCHEME
from stigmer_server.api.auditing import Auditor
from stigmer_server.api.gate import MAX_BODY_BYTES, ConsoleCalls, Gate, GateLimits
from stigmer_server.api.problems import register_problem_handlers
from stigmer_server.api.services import Services
from stigmer_server.artifacts import Artifacts
from stigmer_server.audit import AuditTrail
from stigmer_server.blobs import BlobStore
from stigmer_server.console_files import ConsoleFiles
from stigmer_server.console_sessions import ConsoleSessions
from stigmer_server.credentials import Credentials
from stigmer_server.database import open_database
from stigmer_server.endings import Endings
from stigmer_server.errors import DatabaseAway, DatabaseUnusable, Unavailable
from stigmer_server.event_broadcast import EventBroadcast
from stigmer_server.event_feed import EventFeed
from stigmer_server.event_log import EventLog, StoredEvent
from stigmer_server.execution_state import ExecutionState
from stigmer_server.executions import Executions
from stigmer_server.forks import Forks
from stigmer_server.grants import Grants
from stigmer_server.inputs import Inputs
from stigmer_server.installation import Installation
from stigmer_server.leases import Leases
from stigmer_server.log_formats import LogFormats
from stigmer_server.lost_runners import LostRunners
from stigmer_server.mcp_logins import McpLoginStore
from stigmer_server.messages import Messages
from stigmer_server.metrics import Metrics
from stigmer_server.migrations import migrate
from stigmer_server.pauses import Pauses
from stigmer_server.placements import Placements
from stigmer_server.rate_limits import RateLimits
from stigmer_server.reconciler import Reconciler
from stigmer_server.retention import Keeper
from stigmer_server.retries import Retries
from stigmer_server.runner_presence import RunnerPresence
from stigmer_server.runner_reports import RunnerReports
from stigmer_server.secret_keys import SecretKeyFile
from stigmer_server.secrets_store import Secrets
from stigmer_server.session_files import SessionFiles
from stigmer_server.session_imports import SessionImports
from stigmer_server.sessions import Sessions
from stigmer_server.settings import Settings
from stigmer_server.stack_view import StackView
from stigmer_server.standing_reasons import StandingReasons
from stigmer_server.standing_still import StandingStill
from stigmer_server.steady_clock import SteadyClock
from stigmer_server.storage_watch import StorageWatch
from stigmer_server.temporal_client import TemporalClient
from stigmer_server.tokens import Tokens
from stigmer_server.tool_pins import ToolListPins
from stigmer_server.usage_reports import UsageReports
from stigmer_server.webhook_requests import WebhookRules
from stigmer_server.webhook_sender import WebhookSender
from stigmer_server.webhooks import Webhooks
from stigmer_server.workspace_choice import WorkspaceChoice

logger = logging.getLogger(__name__)

VERSION: Final = version("stigmer-server")
FIRST_DATABASE_DELAY_SECONDS: Final = 0.25
MAX_DATABASE_DELAY_SECONDS: Final = 30.0
OTHER_WRITERS_INTERVAL_SECONDS: Final = 2.0
"""How often readers are looked after whose events another server process may have written."""
STRANGERS_CALLS_PER_SECOND: Final = 50
STRANGERS_CALLS_AT_ONCE: Final = 100
"""Of one address, without a valid token: probes, and guesses."""


class StigmerServer:
    """One server: `app` answers HTTP while `running` is entered."""

    def __init__(self, settings: Settings) -> None:
        self.waits_because = "waiting for the database"
        """What `running` waits for, while that is being entered."""
        self._database = open_database(settings.database_url)
        self._broadcast = EventBroadcast()
        self._metrics = Metrics()
        self._steady_clock = SteadyClock(self._database)
        self._log = EventLog(self._database, self._steady_clock, self._observe, self._metrics.observe_append)
        self._blobs = BlobStore(settings.blob_directory)
        self._inputs = Inputs(self._database, self._log, self._blobs)
        temporal = TemporalClient(settings.temporal, settings.heartbeat_timeout_seconds)
        self._audit = AuditTrail(self._database, settings.audit_retention)
        noted = StandingStill()
        self._installation = Installation(
            self._database,
            self._steady_clock,
            settings.temporal.task_queue,
            runner_per_workspace=settings.runner_per_workspace,
        )
        self._presence = RunnerPresence(self._database)
        standing = StandingReasons(self._database, temporal, self._installation, self._presence, noted)
        self._placements = Placements(self._database, self._log, noted)
        self._reconciler = Reconciler(
            self._database,
            temporal,
            self._audit,
            standing,
            noted,
            self._installation,
            settings.reconcile_interval_seconds,
        )
        key_file = SecretKeyFile(settings.secrets_key_file, may_create=settings.may_create_secrets_key)
        secrets_ = Secrets(self._database, key_file, settings.model_keys)
        links = AnswerLinks(self._database)
        webhooks_ = Webhooks(self._database, secrets_, WebhookRules(settings.webhook_hosts))
        self._webhook_sender = WebhookSender(
            self._database, webhooks_, self._inputs, links, settings.public_url
        )
        formats = LogFormats(self._database, self._blobs)
        executions_ = Executions(
            self._database,
            self._log,
            self._broadcast,
            self._blobs,
            secrets_,
            temporal,
            formats,
            standing,
            self._presence,
            self._installation,
            self._note_created,
        )
        endings = Endings(self._database, self._log, self._blobs, self._reconciler.cancel_soon)
        self._reconciler.attach(executions_, endings)
        credentials = Credentials(settings.token, settings.runner_token)
        self._tokens = Tokens(self._database, credentials)
        console_sessions = ConsoleSessions(self._database, credentials)
        self._leases = Leases(self._database)
        is_local = settings.mode == "local"
        self._keeper = Keeper(
            self._database,
            self._blobs,
            settings.retention,
            settings.home / "data" / "workspace" if is_local else None,
        )
        self._storage = StorageWatch(self._database, self._blobs, settings.blob_directory)
        reports = RunnerReports(self._database)
        services = Services(
            database=self._database,
            temporal=temporal,
            agents=Agents(self._database),
            sessions=Sessions(self._database, self._installation.placement_of),
            session_files=SessionFiles(settings),
            session_imports=SessionImports(self._database, self._blobs, self._installation),
            secrets=secrets_,
            executions=executions_,
            endings=endings,
            feed=EventFeed(self._log, self._broadcast, formats),
            formats=formats,
            inputs=self._inputs,
            answer_links=links,
            webhooks=webhooks_,
            webhook_sender=self._webhook_sender,
            messages=Messages(
                self._database, self._log, self._blobs, self._installation, executions_.announce
            ),
            forks=Forks(self._database, self._blobs, formats, self._installation, executions_),
            grants=Grants(self._database, self._log),
            pauses=Pauses(self._log),
            retries=Retries(self._database, self._log, self._reconciler.begin_again_soon),
            artifacts=Artifacts(self._database),
            blobs=self._blobs,
            metrics=self._metrics,
            tokens=self._tokens,
            console_files=ConsoleFiles(),
            console_sessions=console_sessions,
            leases=self._leases,
            presence=self._presence,
            installation=self._installation,
            placements=self._placements,
            lost_runners=LostRunners(self._database, self._log, temporal),
            runner_reports=reports,
            audit=self._audit,
            storage=self._storage,
            tool_pins=ToolListPins(self._database),
            mcp_logins=McpLoginStore(
                self._database,
                secrets_,
                self._inputs,
                settings.mcp_allow_hosts,
                settings.mcp_client_metadata_url,
            ),
            usage=UsageReports(self._database),
            stack=StackView(self._database, temporal, self._installation, self._presence, reports),
            workspaces=WorkspaceChoice(settings),
            version=VERSION,
        )
        api = _make_app(services)
        self.routes: Final = api.routes
        """Every route, as it declares itself; a test holds each to a rule of its own."""
        self.openapi = api.openapi
        """The description of the HTTP API, as `/openapi.json` gives it."""
        # Around FastAPI, which would put words of its own into the Gate's refusals.
        self.app = Gate(
            api,
            credentials=credentials,
            console=ConsoleCalls(console_sessions, self._installation),
            allowed_hosts=settings.allowed_hosts,
            limits=GateLimits(
                RateLimits(settings.calls_per_second, settings.calls_at_once),
                RateLimits(STRANGERS_CALLS_PER_SECOND, STRANGERS_CALLS_AT_ONCE),
                RateLimits(STRANGERS_CALLS_PER_SECOND, STRANGERS_CALLS_AT_ONCE),
            ),
            auditor=Auditor(self._audit),
            metrics=self._metrics,
        )

    @contextlib.asynccontextmanager
    async def running(
        self,
        while_waiting: Callable[[], contextlib.AbstractAsyncContextManager[None]] = contextlib.nullcontext,
    ) -> AsyncGenerator[None]:
        """Migrate, then keep the background work going; leave in good order.

        `while_waiting` is entered where the database is away, until it is there.

        Raises:
            DatabaseUnusable: the database or the blobs' directory cannot be used.
        """
        try:
            try:
                self._blobs.prepare()
            except OSError as error:
                raise DatabaseUnusable(f"could not make the blobs' directory: {error}") from error
            async with contextlib.AsyncExitStack() as meanwhile:
                await self._wait_for_database(lambda: meanwhile.enter_async_context(while_waiting()))
            writer = asyncio.create_task(self._log.run(), name="event log")
            others = [
                asyncio.create_task(self._reconciler.run(), name="reconciler"),
                asyncio.create_task(self._inputs.run(), name="inputs"),
                asyncio.create_task(self._webhook_sender.run(), name="webhooks"),
                asyncio.create_task(self._tokens.run(), name="tokens"),
                asyncio.create_task(self._audit.run(), name="audit trail"),
                asyncio.create_task(self._presence.run(), name="runner presence"),
                asyncio.create_task(self._storage.run(), name="storage watch"),
                asyncio.create_task(self._keeper.run(), name="retention"),
            ]
            if self._database.is_shared:
                others.append(asyncio.create_task(self._watch_other_writers(), name="other writers"))
            try:
                yield
            finally:
                self.end_streams()
                for task in others:
                    task.cancel()
                await asyncio.gather(*others, return_exceptions=True)
                await self._reconciler.stop()
                self._log.close()
                await writer
                with contextlib.suppress(Unavailable):
                    await self._audit.write()
                    await self._tokens.write_last_used()
                    await self._presence.write()
        finally:
            await self._database.close()

    def end_streams(self) -> None:
        """End every reader's stream, which would keep the process from stopping."""
        self._broadcast.close()
        self._placements.close()

    def _observe(self, state: ExecutionState, stored: Sequence[StoredEvent]) -> None:
        """Tell whoever must hear of what has been appended."""
        self._broadcast.publish_recorded(state, stored)
        self._reconciler.observe(state, stored)
        self._placements.observe(state, stored)

    def _note_created(self, state: ExecutionState) -> None:
        self._reconciler.start_soon(state)
        self._placements.observe(state)

    async def _wait_for_database(self, begin_waiting: Callable[[], Awaitable[None]]) -> None:
        """Bring the database to this version's tables and read what it keeps, however long that takes."""
        tries, delay = 0, FIRST_DATABASE_DELAY_SECONDS
        while True:
            try:
                await migrate(self._database)
                await self._load()
            except DatabaseAway as error:
                tries += 1
                times = "once" if tries == 1 else f"{tries} times"
                self.waits_because = f"waiting for the database, tried {times}, last reason: {error}"
                logger.warning("%s; trying again in %.2g s", self.waits_because, delay)
                if tries == 1:
                    await begin_waiting()
            else:
                return
            await asyncio.sleep(delay)
            delay = min(delay * 2, MAX_DATABASE_DELAY_SECONDS)

    async def _load(self) -> None:
        try:
            await self._leases.load_key()
            await self._installation.load()
            await self._steady_clock.load()
            await self._tokens.load()
        except Unavailable as error:
            raise DatabaseAway(str(error)) from error

    async def _watch_other_writers(self) -> None:
        while True:
            await asyncio.sleep(OTHER_WRITERS_INTERVAL_SECONDS)
            watched = self._broadcast.watched_execution_ids
            if not watched:
                continue
            try:
                self._broadcast.compare_with_log(await self._log.read_last_sequences(watched))
            except Unavailable as error:
                logger.warning("could not look for events of other servers: %s", error)


def _make_app(services: Services) -> FastAPI:
    app = FastAPI(
        title="Stigmer",
        version=VERSION,
        description="Agents that finish: executions and their logs.",
        # The interactive pages load scripts from elsewhere, and could not show the token anyway.
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        max_body_size=MAX_BODY_BYTES,
        # FastAPI would export traces by environment variables of its own.
        telemetry={"auto_configure": False, "tracing": False, "metrics": False, "logs": False},
        routes=list(legs.served_directly),
    )
    app.state.services = services
    for module in (
        *(agents, secrets, sessions, executions, inputs, grants, events, legs, runners, installation),
        *(webhooks, answer_page, artifacts, session_files, blobs, tokens, console, audit, tool_pins, health),
        *(placements, usage, stack, manifests, shared_events, mcp_logins),
    ):
        app.include_router(module.router)
    register_problem_handlers(app)
    app.openapi = lambda: _openapi(app)
    return app


def _openapi(app: FastAPI) -> dict[str, Any]:
    """The API's description, with the models that routes read themselves and the token that all ask for."""
    if app.openapi_schema is None:
        schema = get_openapi(
            title=app.title,
            version=app.version,
            description=app.description,
            routes=[*app.routes, *legs.described.routes],
        )
        components: dict[str, Any] = schema.setdefault("components", {})
        models: list[type[BaseModel]] = [
            *(Problem, AppendEvents, PublishLiveEvents, HoldLeg, RecordedEvent),
            # What payloads of the log hold.
            *(ModelAnswer, ToolResult, Question, Approval),
        ]
        _, definitions = models_json_schema(
            [(model, "validation") for model in models], ref_template="#/components/schemas/{model}"
        )
        for name, definition in definitions.get("$defs", {}).items():
            components.setdefault("schemas", {}).setdefault(name, definition)
        components["securitySchemes"] = {SECURITY_SCHEME: {"type": "http", "scheme": "bearer"}}
        app.openapi_schema = schema
    return app.openapi_schema
