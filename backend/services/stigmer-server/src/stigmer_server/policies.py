"""What the policy of a token excludes, and what a token has spent today. Finds no tokens.

A day is one of UTC. What an answer cost is counted in the transaction that writes the answer down, so that
a limit holds whatever the runner does.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from fnmatch import fnmatchcase
from pathlib import PurePosixPath

from sqlalchemy import Connection, select

from stigmer_contract.api import TokenPolicy
from stigmer_contract.error_codes import ErrorCode
from stigmer_contract.events import Event, ExecutionFailed, Usage
from stigmer_contract.manifest import AgentSpec
from stigmer_contract.manifest_approval import ApprovalPolicy, strictest
from stigmer_server.database import insert_where_absent
from stigmer_server.errors import Forbidden
from stigmer_server.tables import token_costs, tokens

_HINT = "use another token, or ask an administrator for one whose policy allows it"


def check_policy(policy: TokenPolicy, spec: AgentSpec, workspace: str | None) -> None:
    """See that an execution may be started with a token.

    Raises:
        Forbidden: its policy excludes it.
    """
    if policy.allow_network is not None:
        for path, network in spec.networks.items():
            if network not in policy.allow_network:
                raise Forbidden(f"the token's policy does not allow {path} {network!r}", _HINT)
    if policy.allow_secrets is not None:
        for name in spec.secret_names:
            if not any(fnmatchcase(name, pattern) for pattern in policy.allow_secrets):
                raise Forbidden(f"the token's policy does not allow the secret {name!r}", _HINT)
    check_workspace(policy, workspace)


def check_approve(policy: TokenPolicy, approve: ApprovalPolicy | None) -> None:
    """See that an execution that was started asks, or refuses, no less than a token's policy says.

    Raises:
        Forbidden: it lets more through.
    """
    if policy.approve is not None and strictest(approve, policy.approve) != (approve or "allow"):
        raise Forbidden(
            f"the token's policy says {policy.approve!r} at least, and the execution was started without",
            _HINT,
        )


def check_workspace(policy: TokenPolicy, workspace: str | None) -> None:
    """See that a session may work in a directory.

    Raises:
        Forbidden: the policy excludes it.
    """
    if workspace is None or policy.allow_workspaces is None:
        return
    path = PurePosixPath(workspace)
    if ".." in path.parts or not any(path.is_relative_to(root) for root in policy.allow_workspaces):
        raise Forbidden(f"the token's policy does not allow the workspace {workspace!r}", _HINT)


@dataclass(slots=True)
class DailyCosts:
    """What tokens with a daily limit have spent, within one transaction."""

    day: str
    limits: dict[str, Decimal] = field(default_factory=dict[str, Decimal])
    spent: dict[str, Decimal] = field(default_factory=dict[str, Decimal])
    changed: set[str] = field(default_factory=set[str])

    @classmethod
    def load(cls, connection: Connection, token_ids: Iterable[str], now: datetime) -> "DailyCosts":
        """Those of some tokens, which are locked."""
        costs, wanted = cls(now.date().isoformat()), sorted(set(token_ids))
        if not wanted:
            return costs
        query = select(tokens.c.token_id, tokens.c.policy).where(tokens.c.token_id.in_(wanted))
        for row in connection.execute(query.order_by(tokens.c.token_id).with_for_update()):
            limit = None if row.policy is None else TokenPolicy.model_validate_json(row.policy)
            if limit is not None and limit.max_cost_per_day_usd is not None:
                costs.limits[row.token_id] = limit.max_cost_per_day_usd
        of_today = (token_costs.c.token_id.in_(costs.limits)) & (token_costs.c.day == costs.day)
        for row in connection.execute(select(token_costs).where(of_today)):
            costs.spent[row.token_id] = Decimal(row.cost_usd)
        return costs

    def charge(self, token_id: str, events: Sequence[Event]) -> ExecutionFailed | None:
        """Count what events cost; the end of their execution where that is beyond the token's limit."""
        limit = self.limits.get(token_id)
        usages = [usage for event in events if isinstance(usage := getattr(event, "usage", None), Usage)]
        if limit is None or not usages:
            return None
        self.spent[token_id] = self.spent.get(token_id, Decimal(0)) + sum(
            (usage.cost_usd or Decimal(0) for usage in usages), Decimal(0)
        )
        self.changed.add(token_id)
        if any(usage.cost_usd is None and usage.requests for usage in usages):
            return _failure(
                f"the token's limit of {limit} USD a day cannot be kept: no price is known for the model"
            )
        return self.find_excess(token_id)

    def find_excess(self, token_id: str) -> ExecutionFailed | None:
        """What is to be said where a token has spent its limit."""
        limit, spent = self.limits.get(token_id), self.spent.get(token_id, Decimal(0))
        if limit is None or spent < limit:
            return None
        return _failure(
            f"the token's limit of {limit} USD a day is reached: {spent} USD were spent today (UTC)"
        )

    def write(self, connection: Connection) -> None:
        """Write down what has changed."""
        for token_id in sorted(self.changed):
            key = {"token_id": token_id, "day": self.day}
            cost = str(self.spent[token_id])
            if not insert_where_absent(connection, token_costs, key | {"cost_usd": cost}):
                mine = (token_costs.c.token_id == token_id) & (token_costs.c.day == self.day)
                connection.execute(token_costs.update().where(mine).values(cost_usd=cost))


def check_costs(connection: Connection, token_id: str, now: datetime) -> None:
    """See that a token may start something today.

    Raises:
        Forbidden: it has spent its limit.
    """
    excess = DailyCosts.load(connection, [token_id], now).find_excess(token_id)
    if excess is not None:
        raise Forbidden(excess.message, excess.hint)


def _failure(message: str) -> ExecutionFailed:
    return ExecutionFailed(
        code=ErrorCode.LIMIT_COST,
        message=message,
        hint="go on tomorrow (UTC), or use a token with another limit",
    )
