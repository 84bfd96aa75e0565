"""The runner's calls to stigmer-server. Knows HTTP and retries; knows nothing of agents or Temporal.

The server may be restarted at any moment, so a call that got no answer is made again until the
caller gives up (is cancelled): appends carry an id, which makes the repetition harmless.
"""

import asyncio
import base64
import hashlib
import logging
import math
import random
import time
from collections.abc import Mapping, Sequence
from typing import Final
from uuid import uuid4

import aiohttp
from pydantic import BaseModel, JsonValue, TypeAdapter, ValidationError

from agent_runner.errors import AttemptSuperseded, ServerRefused
from stigmer_contract.api import (
    LEASE_HEADER,
    MAX_BROUGHT_BLOBS,
    MAX_BROUGHT_BYTES,
    AppendResult,
    HoldLeg,
    InstallationResource,
    LegGrant,
    LegHeld,
    Page,
    Problem,
    StartLeg,
)
from stigmer_contract.error_codes import ErrorCode
from stigmer_contract.events import (
    INLINE_PAYLOAD_MAX_BYTES,
    LOG_FORMAT,
    BlobPayload,
    InlinePayload,
    Payload,
    RecordedEvent,
)
from stigmer_contract.http_statuses import RETRYABLE_STATUSES
from stigmer_contract.mcp_logins import McpToken, WantMcpToken
from stigmer_contract.temporal import WORKFLOW_VERSION
from stigmer_contract.tool_lists import ReportTools, ToolList, ToolPins

logger = logging.getLogger(__name__)

REQUEST_TIMEOUT_SECONDS: Final = 30.0
FIRST_TIMEOUT_SECONDS: Final = 5.0
"""Of a call's first try; each further one has twice as long, up to `REQUEST_TIMEOUT_SECONDS`."""
SUSPECT_SECONDS: Final = 30.0
"""After a call that got no answer in time all calls open connections of their own for so long: those that
stand open may swallow everything, and the pool closes the ones it does not use within half of that."""
LIVE_TIMEOUT_SECONDS: Final = 2.0
RETRY_FIRST_DELAY_SECONDS: Final = 0.05
RETRY_MAX_DELAY_SECONDS: Final = 2.0
RETRY_LONGEST_ASKED_SECONDS: Final = 60.0
MAX_CONNECTIONS: Final = 200
_EVENT_PAGE_SIZE: Final = 500

_FENCED = frozenset({ErrorCode.ATTEMPT_SUPERSEDED, ErrorCode.EXECUTION_ENDED})
_SHORT = aiohttp.ClientTimeout(total=LIVE_TIMEOUT_SECONDS)
_JSON_BODY = {"Content-Type": "application/json"}
_JSON: TypeAdapter[JsonValue] = TypeAdapter(JsonValue)
_EVENT_PAGE = TypeAdapter(Page[RecordedEvent])


class ServerClient:
    """One connection pool to the server, shared by all legs of the process. Make it inside the event loop.

    aiohttp, because a leg makes some 25 calls: 0.25 ms of CPU time each, where httpx took 1.3 to 2.1
    (2 cores, 20 legs at once, 2026-11).
    """

    def __init__(self, endpoint: str, token: str) -> None:
        """`endpoint` is a base URL such as `http://localhost:7234`."""
        self._endpoint = endpoint
        self._http, self._fresh = (
            aiohttp.ClientSession(
                base_url=endpoint,
                headers={"Authorization": f"Bearer {token}"},
                timeout=aiohttp.ClientTimeout(total=REQUEST_TIMEOUT_SECONDS),
                connector=aiohttp.TCPConnector(limit=MAX_CONNECTIONS, force_close=is_fresh),
                # The server is ours and near; a proxy set for the models is not meant for it.
                trust_env=False,
            )
            for is_fresh in (False, True)
        )
        self._suspect_until = -math.inf

    async def close(self) -> None:
        """Close the pool. Nothing may be called afterwards."""
        await self._http.close()
        await self._fresh.close()

    async def is_reachable(self) -> str | None:
        """None when the server answers this runner's credentials, else the reason why not."""
        try:
            async with self._http.get("/v1/tokens/self", timeout=_SHORT) as response:
                if response.ok:
                    return None
                return f"the server at {self._endpoint} answered {response.status}"
        except (aiohttp.ClientError, TimeoutError) as error:
            return f"the server at {self._endpoint} does not answer: {type(error).__name__}"

    async def installation(self) -> InstallationResource:
        """Which task queues to poll.

        Raises:
            ServerRefused: it is none of this runner's business, or the server is older than the route.
        """
        params = {"workflow_version": WORKFLOW_VERSION}
        answer = await self.request("GET", "/v1/installation", params=params)
        return InstallationResource.model_validate_json(answer)

    async def start_leg(self, execution_id: str, request: StartLeg) -> LegGrant:
        """Take the execution.

        Raises:
            ServerRefused: no such execution, or it has ended (`AttemptSuperseded`).
        """
        answer = await self._post(f"/v1/executions/{execution_id}/legs", request)
        return LegGrant.model_validate_json(answer)

    async def publish(self, path: str, body: bytes, headers: dict[str, str]) -> None:
        """Make a call that is best effort: nothing is lost where the server is away.

        Raises:
            aiohttp.ClientError, TimeoutError: it got no answer.
        """
        async with self._http.post(path, data=body, headers=_JSON_BODY | headers, timeout=_SHORT):
            return

    async def _post(self, path: str, body: BaseModel) -> bytes:
        return await self.request("POST", path, content=body.model_dump_json().encode(), headers=_JSON_BODY)

    async def request(
        self,
        method: str,
        path: str,
        *,
        content: bytes | None = None,
        params: dict[str, int] | None = None,
        headers: dict[str, str] | None = None,
    ) -> bytes:
        """Make the call until there is an answer; the server being away is no reason to lose a leg.

        Raises:
            ServerRefused: the server answered, and refused.
        """
        delay, patience = RETRY_FIRST_DELAY_SECONDS, FIRST_TIMEOUT_SECONDS
        while True:
            http = self._fresh if time.monotonic() < self._suspect_until else self._http
            timeout = aiohttp.ClientTimeout(total=patience)
            try:
                async with http.request(
                    method, path, data=content, params=params, headers=headers, timeout=timeout
                ) as response:
                    body = await response.read()
                    if response.ok:
                        return body
                    if response.status not in RETRYABLE_STATUSES:
                        raise _refusal(response.status, response.reason, body)
                    problem = f"answered {response.status}"
                    delay = max(delay, _asked_delay(response.headers.get("Retry-After", "")))
            except (aiohttp.ClientError, TimeoutError) as error:
                problem = f"does not answer ({type(error).__name__})"
                if isinstance(error, TimeoutError):
                    self._suspect_until = time.monotonic() + SUSPECT_SECONDS
                    patience = min(patience * 2, REQUEST_TIMEOUT_SECONDS)
            logger.warning("the server %s to %s %s; trying again in %.2g s", problem, method, path, delay)
            await asyncio.sleep(delay * random.uniform(0.5, 1.5))  # noqa: S311 - jitter, not a secret
            delay = min(delay * 2, RETRY_MAX_DELAY_SECONDS)


class LegClient:
    """The calls of one leg, which carry its attempt and its lease."""

    def __init__(self, server: ServerClient, grant: LegGrant) -> None:
        self._server = server
        self._execution_id = grant.execution.execution_id
        self._execution = f"/v1/executions/{self._execution_id}"
        self._attempt = grant.attempt
        self._lease = {LEASE_HEADER: grant.lease}
        self._takes_blobs = grant.takes_blobs
        self._brought: dict[str, bytes] = {}
        """Blobs that the next append brings along, by SHA-256."""

    async def append(self, events: Sequence[bytes]) -> AppendResult:
        """Append events to the log, exactly once, however often it has to be tried. Each is JSON of its own.

        Raises:
            AttemptSuperseded: another attempt holds the execution, or it has ended.
            ServerRefused: the log does not take them.
        """
        brought = dict(self._brought)
        body = b'{"attempt":%d,"append_id":"%s","log_format":%d,%s"events":[%s]}' % (
            self._attempt,
            uuid4().hex.encode(),
            LOG_FORMAT,
            _members_of(brought),
            b",".join(events),
        )
        headers = _JSON_BODY | self._lease
        answer = await self._server.request(
            "POST", f"{self._execution}/events", content=body, headers=headers
        )
        for sha256 in brought:
            del self._brought[sha256]
        return AppendResult.model_validate_json(answer)

    async def hold(self, task_token: str | None) -> LegHeld:
        """Say that the leg goes on; with a token: under another activity of Temporal's.

        Raises:
            AttemptSuperseded: another attempt holds the execution, or it has ended.
            ServerRefused: the server is older than the call.
        """
        request = HoldLeg(attempt=self._attempt, task_token=task_token)
        answer = await self._server.request(
            "POST",
            f"{self._execution}/hold",
            content=request.model_dump_json().encode(),
            headers=_JSON_BODY | self._lease,
        )
        return LegHeld.model_validate_json(answer)

    async def publish(self, events: Sequence[bytes]) -> None:
        """Show events to whoever watches. Best effort: what nobody could be shown is dropped."""
        body = b'{"attempt":%d,"events":[%s]}' % (self._attempt, b",".join(events))
        try:
            await self._server.publish(f"{self._execution}/live", body, self._lease)
        except (aiohttp.ClientError, TimeoutError) as error:
            logger.debug("live events dropped: %s", type(error).__name__, extra={"path": self._execution})

    async def list_events(self, execution_id: str | None = None, after: int = 0) -> list[RecordedEvent]:
        """The log of an execution of the leg's session after a sequence, ascending; None: of its own."""
        events: list[RecordedEvent] = []
        while True:
            answer = await self._server.request(
                "GET",
                f"/v1/executions/{execution_id or self._execution_id}/events",
                params={"after": events[-1].sequence if events else after, "limit": _EVENT_PAGE_SIZE},
                headers={"Accept": "application/json"} | self._lease,
            )
            page = _EVENT_PAGE.validate_json(answer)
            events.extend(page.items)
            if not page.items or page.next_cursor is None:
                return events

    async def tool_pins(self) -> ToolPins:
        """What the execution's MCP servers are held to.

        Raises:
            ServerRefused: the server is older than the call.
        """
        path = f"{self._execution}/tool-pins"
        return ToolPins.model_validate_json(await self._server.request("GET", path, headers=self._lease))

    async def report_tools(self, found: ToolList) -> None:
        """Tell what an MCP server was found to offer.

        Raises:
            ServerRefused: the server is older than the call, or takes no such list.
        """
        await self._server.request(
            "PUT",
            f"{self._execution}/tool-pins/{found.server}",
            content=ReportTools(tool_list=found.model_dump_json()).model_dump_json().encode(),
            headers=_JSON_BODY | self._lease,
        )

    async def mcp_token(self, server: str, rejected: str | None) -> McpToken:
        """What one of the execution's MCP servers is called with.

        Raises:
            ServerRefused: the server is older than the call.
        """
        answer = await self._server.request(
            "POST",
            f"{self._execution}/mcp-tokens/{server}",
            content=WantMcpToken(rejected=rejected).model_dump_json().encode(),
            headers=_JSON_BODY | self._lease,
        )
        return McpToken.model_validate_json(answer)

    async def load_blob(self, sha256: str) -> bytes:
        """The blob's bytes.

        Raises:
            ServerRefused: there is no such blob.
        """
        return await self._server.request("GET", f"/v1/blobs/{sha256}", headers=self._lease)

    async def store_payload(self, value: JsonValue) -> Payload:
        """Wrap a JSON value for the log: inline, or as a blob where it is large."""
        text = _JSON.dump_json(value)
        if len(text) <= INLINE_PAYLOAD_MAX_BYTES:
            return InlinePayload(value=value)
        return await self._store_blob(text)

    async def store_text(self, text: bytes) -> Payload:
        """Wrap the JSON text of a value, as `store_payload`."""
        if len(text) <= INLINE_PAYLOAD_MAX_BYTES:
            return InlinePayload(value=_JSON.validate_json(text))
        return await self._store_blob(text)

    async def load_text(self, payload: Payload) -> bytes:
        """The JSON text of the value that was wrapped."""
        if isinstance(payload, InlinePayload):
            return _JSON.dump_json(payload.value)
        return await self.load_blob(payload.sha256)

    async def _store_blob(self, text: bytes) -> BlobPayload:
        return BlobPayload(sha256=await self.store_blob(text), size_bytes=len(text))

    async def store_blob(self, content: bytes) -> str:
        """Store bytes as they are; their SHA-256.

        Raises:
            ServerRefused: the server does not take them.
        """
        sha256 = hashlib.sha256(content).hexdigest()
        await self._server.request("PUT", f"/v1/blobs/{sha256}", content=content, headers=self._lease)
        return sha256

    def bring_blob(self, content: bytes) -> str | None:
        """Let the next append bring a blob along, so that the event that names it comes to the log with it.

        May be called in any thread.

        Returns:
            Its SHA-256; None: it is too large for that, or too many are on their way, or the server is too
            old: it has to be stored.
        """
        is_full = len(self._brought) >= MAX_BROUGHT_BLOBS
        if is_full or not self._takes_blobs or len(content) > MAX_BROUGHT_BYTES:
            return None
        sha256 = hashlib.sha256(content).hexdigest()
        self._brought[sha256] = content
        return sha256

    async def load_payload(self, payload: Payload) -> JsonValue:
        """The value that `store_payload` wrapped."""
        if isinstance(payload, InlinePayload):
            return payload.value
        return _JSON.validate_json(await self.load_blob(payload.sha256))


def _members_of(brought: Mapping[str, bytes]) -> bytes:
    """What an append says of blobs that it brings."""
    if not brought:
        return b""
    blobs = (
        b'{"sha256":"%s","content":"%s"}' % (sha256.encode(), base64.b64encode(content))
        for sha256, content in brought.items()
    )
    return b'"blobs":[%s],' % b",".join(blobs)


def _asked_delay(retry_after: str) -> float:
    """The seconds that a server asks to be waited (RFC 9110, section 10.2.3); a date counts as none."""
    return min(float(retry_after), RETRY_LONGEST_ASKED_SECONDS) if retry_after.isdecimal() else 0.0


def _refusal(status: int, reason: str | None, body: bytes) -> ServerRefused:
    try:
        problem = Problem.model_validate_json(body)
    except ValidationError:
        return ServerRefused(status, None, reason or "no reason given")
    kind = AttemptSuperseded if problem.code in _FENCED else ServerRefused
    return kind(status, problem.code, problem.detail or problem.title)
