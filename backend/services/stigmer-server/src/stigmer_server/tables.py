"""The tables, as SQLAlchemy Core sees them. Holds no queries; how they came to be is `migrations`.

`events` is the truth. `executions` is a projection of it, written in the same transaction, so that a
list or an append need not read a whole log.
"""

from datetime import UTC, datetime

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    DateTime,
    Dialect,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    SmallInteger,
    String,
    Table,
    Text,
    TypeDecorator,
    false,
    text,
)

from stigmer_contract.api import SharedWith
from stigmer_contract.phases import ExecutionPhase

SCHEMA_REVISION = "0027"
"""The newest migration; a test holds it to the files."""


class UtcDateTime(TypeDecorator[datetime]):
    """Aware UTC datetimes, also where the database (SQLite) knows no time zones."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Refuse naive values, which would mean something else on every machine."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError(f"{value!r} has no time zone")
        return value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Give SQLite's naive values their zone back."""
        return value if value is None or value.tzinfo is not None else value.replace(tzinfo=UTC)


metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
        "pk": "pk_%(table_name)s",
    }
)

SHARED_CONDITION = f"shared_with <> '{SharedWith.NOBODY}'"
"""Names are an owner's own matter; of those that are shared, each is there once."""

agents = Table(
    "agents",
    metadata,
    Column("owner", String(63), primary_key=True),
    Column("name", String(63), primary_key=True),
    Column("shared_with", String(16), nullable=False),
    Column("version", Integer, nullable=False),
    Column("manifest", Text, nullable=False, comment="JSON, camelCase"),
    Column("created_at", UtcDateTime, nullable=False),
    Column("updated_at", UtcDateTime, nullable=False),
)
Index(
    "uq_agents_name_shared",
    agents.c.name,
    unique=True,
    sqlite_where=text(SHARED_CONDITION),
    postgresql_where=text(SHARED_CONDITION),
)

sessions = Table(
    "sessions",
    metadata,
    Column("session_id", String(64), primary_key=True),
    Column("workspace", Text),
    Column("created_at", UtcDateTime, nullable=False),
    Column("owner", String(63), nullable=False),
    Column("shared_with", String(16), nullable=False),
    Column("placement", String(255), comment="task queue of its legs; NULL: the standing runners'"),
    Column("compaction_asked_at", UtcDateTime, comment="for its next execution; NULL: nobody asked"),
)
Index("ix_sessions_owner_session_id", sessions.c.owner, sessions.c.session_id)
Index("ix_sessions_shared_with_session_id", sessions.c.shared_with, sessions.c.session_id)

executions = Table(
    "executions",
    metadata,
    Column("execution_id", String(64), primary_key=True),
    Column("session_id", String(64), ForeignKey("sessions.session_id"), nullable=False),
    Column("agent_name", String(63), nullable=False),
    Column("model", Text),
    Column("input_head", Text, comment="how the input begins, in one line; NULL: not known"),
    Column("phase", String(32), nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("last_sequence", Integer, nullable=False),
    Column("usage", Text, nullable=False, comment="JSON of Usage"),
    Column("cost_nanos", BigInteger, comment="its cost in US dollars x 10^9; NULL: not known"),
    Column("output", Text, comment="JSON of Payload"),
    Column("error", Text, comment="JSON of ExecutionError"),
    Column("cancel_requested_at", UtcDateTime),
    Column("cancel_reason", Text),
    Column("created_at", UtcDateTime, nullable=False),
    Column("started_at", UtcDateTime),
    Column("ended_at", UtcDateTime),
    Column("deadline_at", UtcDateTime, comment="created_at and limits.duration"),
    Column("place", Integer, nullable=False, server_default="1", comment="in its session, from 1"),
    Column("waiting_for", Text, comment="JSON list of WaitReason; null unless the phase is waiting"),
    Column("waiting_since", UtcDateTime),
    Column("uncounted_since", UtcDateTime, comment="limits.duration stands still; by the steady clock"),
    Column("wake_at", UtcDateTime, comment="when the next leg is due; null where none is"),
    Column("woken_sequence", Integer, nullable=False, server_default="0"),
    Column("message_sequence", Integer, nullable=False, server_default="0", comment="its newest message"),
    Column("leg_runner", String(255), comment="who has the newest leg; NULL: nobody, it is over"),
    Column("leg_task_token", Text, comment="base64; ends that leg at Temporal"),
    Column("lost_legs", Text, comment="JSON: legs lost one after the other without a step between them"),
    Column("workflow_id", String(255), comment="NULL: the execution's id"),
    Column("task_queue", String(255), comment="of the workflow; NULL: the one that the server is set to"),
    Column("owner", String(63), nullable=False),
    Column("token_id", String(64)),
    Column("leg_task_queue", String(255), comment="of its legs; NULL: where the workflow runs"),
    Column("retried_at", UtcDateTime, comment="when somebody let it go on the last time"),
    Column("limits", Text, comment="JSON of Limits since it was retried; NULL: those of its agent"),
    Column("open_inputs", Text, comment="JSON list of OpenInput; NULL: none"),
    Column("paused_at", UtcDateTime, comment="while it is paused"),
    Column(
        "is_rewind",
        Boolean,
        nullable=False,
        server_default=false(),
        comment="whether it brings its session back to a step",
    ),
)
Index(
    "ix_executions_leg_runner",
    executions.c.leg_runner,
    sqlite_where=text("leg_runner IS NOT NULL"),
    postgresql_where=text("leg_runner IS NOT NULL"),
)
Index("uq_executions_session_id_place", executions.c.session_id, executions.c.place, unique=True)
Index(
    "ix_executions_rewinds",
    executions.c.session_id,
    executions.c.place,
    sqlite_where=text("is_rewind = 1"),
    postgresql_where=text("is_rewind"),
)
Index("ix_executions_session_id_execution_id", executions.c.session_id, executions.c.execution_id)
Index("ix_executions_phase_execution_id", executions.c.phase, executions.c.execution_id)
Index("ix_executions_phase_ended_at", executions.c.phase, executions.c.ended_at)
Index("ix_executions_owner_execution_id", executions.c.owner, executions.c.execution_id)
Index(
    "ix_executions_wake_at",
    executions.c.wake_at,
    sqlite_where=executions.c.wake_at.isnot(None),
    postgresql_where=executions.c.wake_at.isnot(None),
)
Index("ix_executions_agent_name_execution_id", executions.c.agent_name, executions.c.execution_id)

_UNENDED = ", ".join(f"'{phase}'" for phase in ExecutionPhase if not phase.is_terminal)
UNENDED_CONDITION = f"phase IN ({_UNENDED})"
Index(
    "uq_executions_session_id_unended",
    executions.c.session_id,
    unique=True,
    sqlite_where=text(UNENDED_CONDITION),
    postgresql_where=text(UNENDED_CONDITION),
)

events = Table(
    "events",
    metadata,
    Column("execution_id", String(64), ForeignKey("executions.execution_id"), primary_key=True),
    Column("sequence", Integer, primary_key=True, autoincrement=False),
    Column("recorded_at", UtcDateTime, nullable=False),
    Column("attempt", Integer),
    Column("append_id", String(64)),
    Column("type", String(64), nullable=False),
    Column("body", Text, nullable=False, comment="JSON of Event"),
    Column("format", SmallInteger, comment="NULL: 1, of version 0.1.0"),
)
Index("ix_events_execution_id_append_id", events.c.execution_id, events.c.append_id)
HISTORY_TYPE = "history.stored"
_IS_HISTORY = text(f"type = '{HISTORY_TYPE}'")
Index(
    "ix_events_history",
    events.c.execution_id,
    events.c.sequence,
    sqlite_where=_IS_HISTORY,
    postgresql_where=_IS_HISTORY,
)
ENVIRONMENT_TYPE = "environment.described"
_IS_ENVIRONMENT = text(f"type = '{ENVIRONMENT_TYPE}'")
Index(
    "ix_events_environment",
    events.c.execution_id,
    events.c.sequence,
    sqlite_where=_IS_ENVIRONMENT,
    postgresql_where=_IS_ENVIRONMENT,
)

inputs = Table(
    "inputs",
    metadata,
    Column("input_id", String(64), primary_key=True),
    Column("execution_id", String(64), ForeignKey("executions.execution_id"), nullable=False),
    Column("sequence", Integer, nullable=False, comment="of the event that asks"),
    Column("expires_at", UtcDateTime),
    Column("remind_at", UtcDateTime),
    Column("resolved_sequence", Integer, comment="of the event that resolves it; NULL: it waits"),
    Column("reminded_at", UtcDateTime, comment="when people were reminded of it"),
    Column("escalated_to", String(63), comment="who else may decide since then"),
    Column("kind", String(32), comment="InputKind"),
)
"""Where in which log something is asked of a person, and whether it was resolved."""
Index("ix_inputs_execution_id", inputs.c.execution_id)
_IS_OPEN = text("resolved_sequence IS NULL")
Index("ix_inputs_open", inputs.c.input_id, sqlite_where=_IS_OPEN, postgresql_where=_IS_OPEN)
Index("ix_inputs_kind_input_id", inputs.c.kind, inputs.c.input_id)
Index("ix_inputs_expires_at", inputs.c.expires_at, sqlite_where=_IS_OPEN, postgresql_where=_IS_OPEN)

webhooks = Table(
    "webhooks",
    metadata,
    Column("name", String(63), primary_key=True),
    Column("url", Text, nullable=False),
    Column("events", Text, nullable=False, comment="JSON list of WebhookEvent"),
    Column("created_at", UtcDateTime, nullable=False),
    Column("created_by", String(63), nullable=False),
)

webhook_deliveries = Table(
    "webhook_deliveries",
    metadata,
    Column("delivery_id", String(64), primary_key=True),
    Column("webhook", String(63), nullable=False),
    Column("event", String(32), nullable=False),
    Column("input_id", String(64), nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("due_at", UtcDateTime, comment="NULL: it was taken, or given up"),
    Column("attempts", Integer, nullable=False),
    Column("problem", Text, comment="of the newest attempt; NULL: none"),
)
"""Messages to webhooks."""
Index("ix_webhook_deliveries_webhook", webhook_deliveries.c.webhook, webhook_deliveries.c.delivery_id)
Index(
    "ix_webhook_deliveries_due_at",
    webhook_deliveries.c.due_at,
    sqlite_where=text("due_at IS NOT NULL"),
    postgresql_where=text("due_at IS NOT NULL"),
)

answer_links = Table(
    "answer_links",
    metadata,
    Column("digest", String(64), primary_key=True, comment="SHA-256 of the link's secret"),
    Column("input_id", String(64), nullable=False),
    Column("webhook", String(63), nullable=False),
    Column("expires_at", UtcDateTime, nullable=False),
)
"""Links that answer one input."""
Index("ix_answer_links_expires_at", answer_links.c.expires_at)

usage_quarters = Table(
    "usage_quarters",
    metadata,
    Column("execution_id", String(64), ForeignKey("executions.execution_id"), primary_key=True),
    Column("quarter", Integer, primary_key=True, autoincrement=False, comment="of an hour, since 1970"),
    Column("model", String(255), primary_key=True),
    Column("session_id", String(64), nullable=False),
    Column("agent_name", String(63), nullable=False),
    Column("owner", String(63), nullable=False),
    Column("requests", BigInteger, nullable=False),
    Column("input_tokens", BigInteger, nullable=False),
    Column("output_tokens", BigInteger, nullable=False),
    Column("cache_read_tokens", BigInteger, nullable=False),
    Column("cache_write_tokens", BigInteger, nullable=False),
    Column("cost_nanos", BigInteger, comment="US dollars x 10^9; NULL: no price is known"),
)
"""What models were paid for, by quarters of an hour, so that the days of every time zone can be told."""
Index("ix_usage_quarters_quarter", usage_quarters.c.quarter)
Index("ix_usage_quarters_owner_quarter", usage_quarters.c.owner, usage_quarters.c.quarter)
Index("ix_usage_quarters_session_id", usage_quarters.c.session_id)

search_documents = Table(
    "search_documents",
    metadata,
    Column("document_id", Integer, primary_key=True),
    Column("execution_id", String(64), ForeignKey("executions.execution_id"), nullable=False),
    Column("session_id", String(64), nullable=False),
    Column("sequence", Integer, nullable=False, comment="of the event that says it"),
    Column("terms", Text, nullable=False, comment="ASCII, each once, with a space between"),
)
"""What executions are found by. SQLite's FTS5 table `search_index` and PostgreSQL's GIN index
`ix_search_documents_terms` over the terms are the migration's: no other database has them."""
Index("ix_search_documents_session_id", search_documents.c.session_id)
Index("ix_search_documents_execution_id", search_documents.c.execution_id)

blob_references = Table(
    "blob_references",
    metadata,
    Column("execution_id", String(64), primary_key=True),
    Column("sha256", String(64), primary_key=True),
)
"""Which blobs an execution's log names."""
Index("ix_blob_references_sha256", blob_references.c.sha256)

idempotency_keys = Table(
    "idempotency_keys",
    metadata,
    Column("owner", String(63), primary_key=True),
    Column("scope", String(64), primary_key=True),
    Column("key", String(255), primary_key=True),
    Column("request_digest", String(64), nullable=False),
    Column("status", Integer, nullable=False),
    Column("body", Text, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
)
Index("ix_idempotency_keys_created_at", idempotency_keys.c.created_at)

tokens = Table(
    "tokens",
    metadata,
    Column("token_id", String(64), primary_key=True),
    Column("name", String(63), nullable=False),
    Column("scope", String(16), nullable=False),
    Column("digest", String(64), nullable=False, comment="SHA-256 of the token"),
    Column("created_at", UtcDateTime, nullable=False),
    Column("created_by", String(63), nullable=False),
    Column("expires_at", UtcDateTime),
    Column("revoked_at", UtcDateTime),
    Column("last_used_at", UtcDateTime),
    Column("owner", String(63), nullable=False),
    Column("sees_earlier", Boolean, nullable=False),
    Column("policy", Text, comment="JSON of TokenPolicy"),
)
Index("ix_tokens_owner", tokens.c.owner)
Index("uq_tokens_digest", tokens.c.digest, unique=True)
Index(
    "uq_tokens_name_unrevoked",
    tokens.c.name,
    unique=True,
    sqlite_where=tokens.c.revoked_at.is_(None),
    postgresql_where=tokens.c.revoked_at.is_(None),
)

tool_pins = Table(
    "tool_pins",
    metadata,
    Column("owner", String(63), primary_key=True, comment="of the executions that are held to it"),
    Column("agent_name", String(63), primary_key=True),
    Column("server", String(63), primary_key=True),
    Column("server_digest", String(32), primary_key=True, comment="of how it is started or reached"),
    Column("tools", Text, nullable=False, comment="JSON of ToolList"),
    Column("found", Text, comment="JSON of ToolList: what it offered since; NULL: the same"),
    Column("updated_at", UtcDateTime, nullable=False),
)

console_secrets = Table(
    "console_secrets",
    metadata,
    Column("digest", String(64), primary_key=True, comment="SHA-256 of a link's secret, or of a cookie"),
    Column("kind", String(8), nullable=False, comment="link or session"),
    Column("token_id", String(64), nullable=False),
    Column("proof", String(64), nullable=False, comment="code of the token's digest by the page's secret"),
    Column("expires_at", UtcDateTime, nullable=False),
)
Index("ix_console_secrets_token_id_kind", console_secrets.c.token_id, console_secrets.c.kind)

runners = Table(
    "runners",
    metadata,
    Column("name", String(255), primary_key=True),
    Column("heard_at", UtcDateTime, nullable=False, comment="some seconds behind"),
)

runner_reports = Table(
    "runner_reports",
    metadata,
    Column("name", String(255), primary_key=True),
    Column("reported_at", UtcDateTime, nullable=False),
    Column("ended", Boolean, nullable=False),
    Column("report", Text, comment="JSON, as the runner told it; NULL: others told that it has ended"),
)

leg_holds = Table(
    "leg_holds",
    metadata,
    Column("execution_id", String(64), primary_key=True),
    Column("attempt", Integer, nullable=False),
    Column("holds", Integer, nullable=False, comment="how often its runner said that it works on"),
    Column("wants", Integer, nullable=False, comment="how often another one asked for it"),
)

machine_starts = Table(
    "machine_starts",
    metadata,
    Column("boot_id", String(64), primary_key=True),
    Column("began_at", UtcDateTime, nullable=False, comment="by the database's clock, at first sight"),
)

server_keys = Table(
    "server_keys",
    metadata,
    Column("name", String(63), primary_key=True),
    Column("value", String(64), nullable=False, comment="32 random bytes, hexadecimal"),
    Column("created_at", UtcDateTime, nullable=False),
)

audit_entries = Table(
    "audit_entries",
    metadata,
    Column("sequence", Integer, primary_key=True),
    Column("recorded_at", UtcDateTime, nullable=False),
    Column("actor", String(63)),
    Column("scope", String(16)),
    Column("action", String(128), nullable=False),
    Column("target", String(255)),
    Column("status", Integer, nullable=False),
    Column("peer", String(64)),
)

token_costs = Table(
    "token_costs",
    metadata,
    Column("token_id", String(64), primary_key=True),
    Column("day", String(10), primary_key=True, comment="UTC, YYYY-MM-DD"),
    Column("cost_usd", Text, nullable=False, comment="decimal"),
)

blob_grants = Table(
    "blob_grants",
    metadata,
    Column("sha256", String(64), primary_key=True),
    Column("holder", String(80), primary_key=True, comment="a session's id, or `owner:` and an owner"),
)
Index("ix_blob_grants_holder", blob_grants.c.holder)

secrets = Table(
    "secrets",
    metadata,
    Column("owner", String(63), primary_key=True),
    Column("name", String(253), primary_key=True),
    Column("shared_with", String(16), nullable=False),
    Column("key_id", String(16), nullable=False),
    Column("ciphertext", LargeBinary, nullable=False, comment="AES-256-GCM: nonce, value, tag"),
    Column("created_at", UtcDateTime, nullable=False),
    Column("updated_at", UtcDateTime, nullable=False),
)
Index(
    "uq_secrets_name_shared",
    secrets.c.name,
    unique=True,
    sqlite_where=text(SHARED_CONDITION),
    postgresql_where=text(SHARED_CONDITION),
)
