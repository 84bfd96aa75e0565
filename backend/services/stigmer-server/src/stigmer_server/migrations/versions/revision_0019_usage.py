"""What models were paid for by quarters of an hour, and what lists of executions are filtered by."""

import json
from datetime import datetime
from decimal import Decimal
from typing import Any

import sqlalchemy as sa
from alembic import op

from stigmer_server.tables import UtcDateTime

revision = "0019"
down_revision = "0018"
branch_labels = None
depends_on = None

_COUNTED = ("requests", "input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens")
_NANOS = 1_000_000_000
_BATCH = 500
_EXECUTIONS_AT_ONCE = 50
_KEPT = ("execution_id", "quarter", "model", "session_id", "agent_name", "owner", "cost_nanos")
_EVENTS = sa.table(
    "events",
    sa.column("execution_id", sa.String),
    sa.column("recorded_at", UtcDateTime),
    sa.column("type", sa.String),
    sa.column("body", sa.Text),
)


def upgrade() -> None:
    """Make the table and fill it from the logs."""
    op.add_column(
        "executions",
        sa.Column("cost_nanos", sa.BigInteger, comment="its cost in US dollars x 10^9; NULL: not known"),
    )
    op.drop_index("ix_executions_phase", "executions")
    for columns in (("phase", "execution_id"), ("phase", "ended_at"), ("owner", "execution_id")):
        op.create_index(f"ix_executions_{'_'.join(columns)}", "executions", list(columns))
    op.create_table(
        "usage_quarters",
        sa.Column("execution_id", sa.String(64), nullable=False),
        sa.Column("quarter", sa.Integer, nullable=False, comment="of an hour, since 1970"),
        sa.Column("model", sa.String(255), nullable=False),
        sa.Column("session_id", sa.String(64), nullable=False),
        sa.Column("agent_name", sa.String(63), nullable=False),
        sa.Column("owner", sa.String(63), nullable=False),
        *(sa.Column(name, sa.BigInteger, nullable=False) for name in _COUNTED),
        sa.Column("cost_nanos", sa.BigInteger, comment="US dollars x 10^9; NULL: no price is known"),
        sa.PrimaryKeyConstraint("execution_id", "quarter", "model", name="pk_usage_quarters"),
        sa.ForeignKeyConstraint(
            ["execution_id"], ["executions.execution_id"], name="fk_usage_quarters_execution_id_executions"
        ),
    )
    op.create_index("ix_usage_quarters_quarter", "usage_quarters", ["quarter"])
    op.create_index("ix_usage_quarters_owner_quarter", "usage_quarters", ["owner", "quarter"])
    op.create_index("ix_usage_quarters_session_id", "usage_quarters", ["session_id"])
    _fill()


def downgrade() -> None:
    """Forget them; the logs still have all of it."""
    op.drop_table("usage_quarters")
    for columns in (("phase", "execution_id"), ("phase", "ended_at"), ("owner", "execution_id")):
        op.drop_index(f"ix_executions_{'_'.join(columns)}", "executions")
    op.create_index("ix_executions_phase", "executions", ["phase"])
    op.drop_column("executions", "cost_nanos")


def _fill() -> None:
    """In Python: PostgreSQL takes no JSON apart that holds a NUL character somewhere."""
    connection = op.get_bind()
    executions = {
        row.execution_id: row
        for row in connection.execute(
            sa.text("SELECT execution_id, session_id, agent_name, owner, model, usage FROM executions")
        )
    }
    costs = [
        {"execution_id": row.execution_id, "nanos": nanos}
        for row in executions.values()
        if (nanos := _nanos(json.loads(row.usage))) is not None
    ]
    update = sa.text("UPDATE executions SET cost_nanos = :nanos WHERE execution_id = :execution_id")
    for first in range(0, len(costs), _BATCH):
        connection.execute(update, costs[first : first + _BATCH])
    rows = dict[tuple[str, int, str], dict[str, Any]]()
    paid = _EVENTS.c.type.in_(("model.responded", "step.finished"))
    ids = list(executions)
    for first in range(
        0, len(ids), _EXECUTIONS_AT_ONCE
    ):  # a cursor of PostgreSQL's would keep what follows out
        these = _EVENTS.c.execution_id.in_(ids[first : first + _EXECUTIONS_AT_ONCE])
        for event in connection.execute(sa.select(_EVENTS).where(these, paid)):
            _add(rows, executions[event.execution_id], event.recorded_at, json.loads(event.body))
    values = list(rows.values())
    columns: list[sa.ColumnClause[Any]] = [sa.column(name) for name in (*_KEPT, *_COUNTED)]
    table = sa.table("usage_quarters", *columns)
    for first in range(0, len(values), _BATCH):
        connection.execute(table.insert(), values[first : first + _BATCH])


def _add(
    rows: dict[tuple[str, int, str], dict[str, Any]], execution: Any, time: datetime, body: dict[str, Any]
) -> None:
    usage: dict[str, Any] | None = body.get("usage")
    if usage is None:
        return
    model = str(body.get("model") or execution.model or "")[:255]
    key = (execution.execution_id, int(time.timestamp()) // 900, model)
    row = rows.setdefault(
        key,
        {
            "execution_id": execution.execution_id,
            "quarter": key[1],
            "model": model,
            "session_id": execution.session_id,
            "agent_name": execution.agent_name,
            "owner": execution.owner,
            **dict.fromkeys(_COUNTED, 0),
            "cost_nanos": None,
        },
    )
    for name in _COUNTED:
        row[name] += usage.get(name) or 0
    nanos = _nanos(usage)
    if nanos is not None:
        row["cost_nanos"] = (row["cost_nanos"] or 0) + nanos


def _nanos(usage: dict[str, Any]) -> int | None:
    cost = usage.get("cost_usd")
    return None if cost is None else round(Decimal(str(cost)) * _NANOS)
