"""Lists executions with what a table shows of them, without the contract's models.

Importing these takes most of what the command may take as a whole.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, Final, NamedTuple

from stigmer_cli.api_client.http_transport import HttpTransport
from stigmer_cli.errors import CallRefused
from stigmer_contract.phases import ExecutionPhase
from stigmer_contract.wait_kinds import WaitKind

PAGE_SIZE: Final = 500


class ListedUsage(NamedTuple):
    """What it has used."""

    requests: int
    total_tokens: int
    cost_usd: Decimal | None


class ListedWait(NamedTuple):
    """One thing that it waits for."""

    kind: WaitKind
    key: str | None
    until: datetime | None
    detail: str | None


class ListedError(NamedTuple):
    """Why it failed."""

    code: str


@dataclass(frozen=True, slots=True)
class ListedExecution:
    """What a list shows of an execution; its fields are those of `ExecutionResource`."""

    execution_id: str
    agent_name: str
    input_head: str | None
    phase: ExecutionPhase
    pending_reason: str | None
    standing_reason: str | None
    waiting_for: Sequence[ListedWait]
    cancel_requested: bool
    usage: ListedUsage
    error: ListedError | None
    created_at: datetime
    ended_at: datetime | None
    paused_at: datetime | None


def fetch_listed(
    transport: HttpTransport, limit: int, filters: Mapping[str, str | None]
) -> list[ListedExecution]:
    """Executions that fit every filter given, at most `limit`, newest first.

    Raises:
        CallRefused: the server refused, or its answer is not as it should be.
        ServerUnreachable: it does not answer.
    """
    found: list[ListedExecution] = []
    cursor: str | None = None
    while len(found) < limit:
        query = {**filters, "limit": min(limit - len(found), PAGE_SIZE), "cursor": cursor}
        answer = transport.request("GET", "/v1/executions", query=query)
        try:
            page = json.loads(answer.body)
            found += map(_listed, page["items"])
            cursor = page["next_cursor"]
        except (ValueError, LookupError, TypeError, ArithmeticError) as error:
            raise CallRefused(
                "the server's list of executions is not as it should be",
                "check that a stigmer-server of this version answers there",
                code="unknown",
                status=answer.status,
            ) from error
        if cursor is None:
            break
    return found[:limit]


def _listed(item: Mapping[str, Any]) -> ListedExecution:
    usage, error, cost = item["usage"], item["error"], item["usage"]["cost_usd"]
    return ListedExecution(
        execution_id=item["execution_id"],
        agent_name=item["agent_name"],
        input_head=item["input_head"],
        phase=ExecutionPhase(item["phase"]),
        pending_reason=item["pending_reason"],
        standing_reason=item["standing_reason"],
        waiting_for=[
            ListedWait(WaitKind(each["kind"]), each["key"], _moment(each["until"]), each["detail"])
            for each in item["waiting_for"]
        ],
        cancel_requested=item["cancel_requested"],
        usage=ListedUsage(
            usage["requests"],
            usage["input_tokens"] + usage["output_tokens"],
            None if cost is None else Decimal(cost),
        ),
        error=None if error is None else ListedError(error["code"]),
        created_at=datetime.fromisoformat(item["created_at"]),
        ended_at=_moment(item["ended_at"]),
        paused_at=_moment(item["paused_at"]),
    )


def _moment(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)
