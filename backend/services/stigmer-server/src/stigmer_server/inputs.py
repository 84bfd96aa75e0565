"""What executions ask of people: listed, and resolved once, by whatever comes first.

The log decides: an answer, the expiry and the end of the execution are events, of which only one can follow
the question. Here is who may answer, whether an answer fits, and the clock of expiry.
"""

import asyncio
import json
import logging
from collections.abc import Sequence, Set
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from pydantic import JsonValue, TypeAdapter
from sqlalchemy import Connection

from stigmer_contract.answer_schemas import find_problem
from stigmer_contract.api import InputResource, Page, ResolveInput
from stigmer_contract.events import (
    EVENT_ADAPTER,
    INLINE_PAYLOAD_MAX_BYTES,
    BlobPayload,
    Event,
    InlinePayload,
    InputReminded,
    InputResolved,
    Payload,
)
from stigmer_contract.inputs import (
    MAX_OPEN_INPUTS,
    OUTCOMES_OF_PEOPLE,
    SIGNED_IN,
    Approval,
    InputKind,
    InputOutcome,
)
from stigmer_server.blobs import BlobStore
from stigmer_server.database import Database
from stigmer_server.errors import (
    Forbidden,
    InputAlreadyResolved,
    InvalidRequest,
    NotFound,
    PayloadTooLarge,
    Unavailable,
)
from stigmer_server.event_log import Change, EventLog, NewEvent
from stigmer_server.execution_state import ExecutionState
from stigmer_server.found_inputs import FoundInput, inputs_of, read_input
from stigmer_server.idempotency import append_id
from stigmer_server.owners import Caller
from stigmer_server.pages import decode_cursor, page_of
from stigmer_server.tables import executions, inputs
from stigmer_server.token_reach import check_reach

logger = logging.getLogger(__name__)

EXPIRY_INTERVAL_SECONDS: Final = 0.5
"""How often is looked for what has expired; an answer that comes after its time is refused in any case."""
EXPIRED_AT_ONCE: Final = 100
_JSON: Final[TypeAdapter[JsonValue]] = TypeAdapter(JsonValue)


@dataclass(frozen=True, slots=True)
class Answerer:
    """Who decides, and from where."""

    caller: Caller
    name: str
    """Of the token."""
    origin: str | None
    """A network address."""


class Inputs:
    """The inputs of all executions, by id."""

    def __init__(self, database: Database, log: EventLog, blobs: BlobStore) -> None:
        self._database = database
        self._log = log
        self._blobs = blobs

    async def list(
        self,
        caller: Caller,
        limit: int,
        cursor: str | None,
        *,
        execution_id: str | None = None,
        kind: InputKind | None = None,
        is_open: bool = True,
    ) -> Page[InputResource]:
        """What the caller sees that waits (or, without `is_open`, was resolved), oldest first."""
        is_resolved = inputs.c.resolved_sequence.is_not(None)
        query = inputs_of(caller).where(~is_resolved if is_open else is_resolved)
        query = query.order_by(inputs.c.input_id)
        if cursor is not None:
            query = query.where(inputs.c.input_id > decode_cursor(cursor))
        if execution_id is not None:
            query = query.where(inputs.c.execution_id == execution_id)
        if kind is not None:
            query = query.where(inputs.c.kind == kind.value)

        def work(connection: Connection) -> list[InputResource]:
            return [read_input(row).resource for row in connection.execute(query.limit(limit + 1))]

        return page_of(await self._database.read(work), limit, lambda resource: resource.input_id)

    async def get(self, input_id: str, caller: Caller) -> InputResource:
        """The input of this id; its content stands in it, however large.

        Raises:
            NotFound: there is none that the caller sees.
        """
        resource = (await self._find(input_id, caller)).resource
        return resource.model_copy(
            update={"content": InlinePayload(value=await self._load(resource.content))}
        )

    async def look(self, input_id: str) -> InputResource:
        """The input of this id, for the server itself.

        Raises:
            NotFound: there is none.
        """
        return (await self._find(input_id, None)).resource

    async def resolve(
        self, input_id: str, request: ResolveInput, who: Answerer, idempotency_key: str | None
    ) -> InputResource:
        """Decide, unless something else has come first. The caller's same key is the same decision.

        Raises:
            NotFound: there is none that the caller sees.
            Forbidden: it is another's, who alone may decide, or the policy of the caller's token excludes its
                execution; to deny is free to every token of those who decide.
            InvalidRequest: that is no answer to what is asked.
            PayloadTooLarge: the answer is.
            InputAlreadyResolved: somebody was first, it has expired, or its execution has ended.
        """
        found = await self._find(input_id, who.caller)
        deciders = (found.resource.owner, found.resource.escalated_to)
        if who.caller.owner not in deciders and not who.caller.sees_all:
            raise Forbidden(
                f"input {input_id!r} is {found.resource.owner!r}'s to decide",
                f"use a token of {found.resource.owner!r}",
            )
        if request.outcome is not InputOutcome.DENIED:
            of = found.resource
            await check_reach(self._database, who.caller, of.execution_id, of.session_id)
        resolution = await self._resolution(found, request, who)
        known_by = append_id(f"input {input_id}", who.caller.owner, idempotency_key)
        resolved = await self._append(
            found, NewEvent.of(resolution), known_by, await self._of_that_kind(found, resolution)
        )
        after = (await self._find(input_id, who.caller)).resource
        if not resolved:
            assert after.resolution is not None
            raise InputAlreadyResolved(input_id, after.resolution)
        return after

    async def resolve_logins(self, url: str, who: Answerer) -> None:
        """Answer what executions of somebody's wait for who has signed in at an MCP server."""
        query = inputs_of(None).where(
            inputs.c.resolved_sequence.is_(None),
            inputs.c.kind == InputKind.LOGIN.value,
            executions.c.owner == who.caller.owner,
        )

        def work(connection: Connection) -> list[FoundInput]:
            return [read_input(row) for row in connection.execute(query)]

        for found in await self._database.read(work):
            content = await self._load(found.request.content)
            if isinstance(content, dict) and content.get("url") == url:
                resolved = InputResolved(
                    input_id=found.request.input_id,
                    outcome=InputOutcome.ANSWERED,
                    resolved_by=who.name,
                    origin=who.origin,
                    answer=InlinePayload(value=SIGNED_IN),
                )
                await self._append(found, NewEvent.of(resolved), None)

    async def run(self) -> None:
        """Expire what was not answered in time, and remind people of what waits long, until cancelled."""
        while True:
            try:
                await self.expire()
                await self.remind()
            except Unavailable as error:
                logger.warning("could not look for expired inputs: %s", error)
            except Exception:
                logger.exception("could not expire inputs")
            await asyncio.sleep(EXPIRY_INTERVAL_SECONDS)

    async def expire(self) -> None:
        """Resolve what has expired by now."""
        query = inputs_of(None).where(
            inputs.c.resolved_sequence.is_(None), inputs.c.expires_at <= datetime.now(UTC)
        )

        def work(connection: Connection) -> list[FoundInput]:
            return [read_input(row) for row in connection.execute(query.limit(EXPIRED_AT_ONCE))]

        for found in await self._database.read(work):
            await self._append(found, None, None)

    async def remind(self) -> None:
        """Remind people of what is open at the time that was set for that, and tell who else may decide."""
        query = inputs_of(None).where(
            inputs.c.resolved_sequence.is_(None),
            inputs.c.reminded_at.is_(None),
            inputs.c.remind_at <= datetime.now(UTC),
        )

        def work(connection: Connection) -> list[FoundInput]:
            return [read_input(row) for row in connection.execute(query.limit(EXPIRED_AT_ONCE))]

        for found in await self._database.read(work):
            await self._remind(found)

    async def _remind(self, found: FoundInput) -> None:
        input_id, escalate = found.request.input_id, found.request.escalate
        reminded = InputReminded(
            input_id=input_id,
            escalated_to=escalate and escalate.owner,
            webhook=escalate and escalate.webhook,
        )

        def decide(state: ExecutionState) -> Change:
            waits = any(each.input_id == input_id and not each.is_reminded for each in state.open_inputs)
            return Change(state, [NewEvent.of(reminded, is_servers=True)] if waits else [])

        await self._log.append(found.resource.execution_id, decide)

    async def _of_that_kind(self, found: FoundInput, resolution: InputResolved) -> Sequence[FoundInput]:
        """What else of the execution waits for an approval, and is of the kind that is approved once for all.

        Each question holds the rule for its kind; one with the same rule is one that the rule lets run.
        """
        if resolution.grants is None:
            return []
        query = inputs_of(None).where(
            inputs.c.execution_id == found.resource.execution_id,
            inputs.c.kind == InputKind.APPROVAL.value,
            inputs.c.resolved_sequence.is_(None),
            inputs.c.input_id != resolution.input_id,
        )

        def work(connection: Connection) -> list[FoundInput]:
            return [read_input(row) for row in connection.execute(query.order_by(inputs.c.input_id))]

        waiting = await self._database.read(work)
        contents = [Approval.model_validate(await self._load(each.request.content)) for each in waiting]
        pairs = zip(waiting, contents, strict=True)
        return [each for each, content in pairs if content.kind_rule == resolution.grants]

    async def _append(
        self,
        found: FoundInput,
        answer: NewEvent | None,
        known_by: str | None,
        also: Sequence[FoundInput] = (),
    ) -> bool:
        """Write the answer down where the input is open and has not expired, else, maybe, that it has.

        `also`: the others that it answers, each where that is open and has not expired.

        Returns:
            Whether the answer is the input's.
        """
        input_id, expires_at = found.request.input_id, found.request.expires_at
        expired = NewEvent.of(InputResolved(input_id=input_id, outcome=InputOutcome.EXPIRED), is_servers=True)
        decided = list[bool]()

        def decide(state: ExecutionState) -> Change:
            # Anew each time: what was decided in a transaction that was undone did not happen.
            decided[:] = [False]
            if all(each.input_id != input_id for each in state.open_inputs):
                return Change(state)
            if expires_at is not None and datetime.now(UTC) >= expires_at:
                return Change(state, [expired])
            if answer is None:
                return Change(state)
            decided[:] = [True]
            waiting = {each.input_id for each in state.open_inputs}
            return Change(state, [answer, *_granted_with(answer, also, waiting)])

        appended = await self._log.append(found.resource.execution_id, decide, known_by)
        if decided or answer is None:
            return decided == [True]
        return await self._is_known(found, appended.last_sequence, answer.event)

    async def _is_known(self, found: FoundInput, sequence: int, answer: Event) -> bool:
        """Whether an event of those up to there, which came with the same key, says the same; from wherever
        it came. Behind it come only those of inputs that it answered, too."""
        after = max(0, sequence - MAX_OPEN_INPUTS)
        anybody = {"resolved_by": None, "origin": None}
        wanted = answer.model_copy(update=anybody)
        for stored in await self._log.read(found.resource.execution_id, after, MAX_OPEN_INPUTS):
            if stored.type == wanted.type and stored.sequence <= sequence:
                known = EVENT_ADAPTER.validate_json(stored.body)
                if known.model_copy(update=anybody) == wanted:
                    return True
        return False

    async def _resolution(self, found: FoundInput, request: ResolveInput, who: Answerer) -> InputResolved:
        kind = found.request.kind
        if request.outcome not in OUTCOMES_OF_PEOPLE[kind]:
            possible = " or ".join(sorted(OUTCOMES_OF_PEOPLE[kind]))
            raise InvalidRequest(f"{kind} {found.request.input_id!r} is {possible}, not {request.outcome}")
        grants = None
        if request.outcome is not InputOutcome.APPROVED and (
            request.arguments is not None or request.grants_kind
        ):
            raise InvalidRequest("arguments and grants_kind are for what is approved")
        if request.grants_kind:
            content = Approval.model_validate(await self._load(found.request.content))
            if content.kind_rule is None or request.arguments is not None:
                raise InvalidRequest("calls of this kind cannot be approved once for all")
            grants = content.kind_rule
        answer = None
        if request.outcome is InputOutcome.ANSWERED:
            if "answer" not in request.model_fields_set:
                raise InvalidRequest("there is no answer")
            answer = _inline("the answer", request.answer)
            schema = found.request.answer_schema
            if schema is not None:
                # May take a second, in which others are served.
                problem = await asyncio.to_thread(find_problem, request.answer, schema)
                if problem is not None:
                    raise InvalidRequest(f"the answer does not fit what is asked: {problem}")
        elif request.answer is not None:
            raise InvalidRequest(f"what is {request.outcome} has no answer")
        arguments = None if request.arguments is None else _inline("the arguments", request.arguments)
        return InputResolved(
            input_id=found.request.input_id,
            outcome=InputOutcome(request.outcome),
            resolved_by=who.name,
            origin=who.origin,
            reason=request.reason,
            answer=answer,
            arguments=arguments,
            grants=grants,
        )

    async def _find(self, input_id: str, caller: Caller | None) -> FoundInput:
        query = inputs_of(caller).where(inputs.c.input_id == input_id)

        def work(connection: Connection) -> FoundInput:
            row = connection.execute(query).one_or_none()
            if row is None:
                raise NotFound("input", input_id)
            return read_input(row)

        return await self._database.read(work)

    async def _load(self, payload: Payload) -> JsonValue:
        if isinstance(payload, BlobPayload):
            content = await asyncio.to_thread(self._blobs.find(payload.sha256).read_bytes)
            return _JSON.validate_json(content)
        return payload.value


def _granted_with(answer: NewEvent, also: Sequence[FoundInput], waiting: Set[str]) -> list[NewEvent]:
    """That the others are approved, too; what has expired meanwhile is left to whoever looks for that."""
    decided = answer.event
    assert isinstance(decided, InputResolved)
    now = datetime.now(UTC)
    return [
        NewEvent.of(
            InputResolved(
                input_id=each.request.input_id,
                outcome=decided.outcome,
                resolved_by=decided.resolved_by,
                origin=decided.origin,
                granted_with=decided.input_id,
            )
        )
        for each in also
        if each.request.input_id in waiting
        and (each.request.expires_at is None or now < each.request.expires_at)
    ]


def _inline(what: str, value: JsonValue) -> InlinePayload:
    try:
        # Numbers that are not finite are read, and would be kept as null.
        text = json.dumps(value, allow_nan=False, ensure_ascii=False, separators=(",", ":")).encode()
    except ValueError as error:
        raise InvalidRequest(f"{what} cannot hold a number that is not finite") from error
    if len(text) > INLINE_PAYLOAD_MAX_BYTES:
        raise PayloadTooLarge(what, INLINE_PAYLOAD_MAX_BYTES)
    return InlinePayload(value=value)
