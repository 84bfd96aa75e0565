"""What executions can be found by: the words of prompts, messages and answers."""

from typing import Any

import sqlalchemy as sa
from alembic import op
from pydantic import TypeAdapter

from stigmer_contract.events import AnyEvent
from stigmer_server.search_index import terms_of_event

revision = "0020"
down_revision = "0019"
branch_labels = None
depends_on = None

_EXECUTIONS_AT_ONCE = 50
_EVENT: TypeAdapter[AnyEvent] = TypeAdapter(AnyEvent)
_TYPES = ("execution.started", "message.received", "model.responded", "execution.completed")
_TRIGGERS = {
    "AFTER INSERT": "INSERT INTO search_index (rowid, terms) VALUES (new.document_id, new.terms)",
    "AFTER DELETE": (
        "INSERT INTO search_index (search_index, rowid, terms) VALUES ('delete', old.document_id, old.terms)"
    ),
}


def upgrade() -> None:
    """Make the table with its index, and read the logs."""
    op.create_table(
        "search_documents",
        sa.Column("document_id", sa.Integer, nullable=False),
        sa.Column("execution_id", sa.String(64), nullable=False),
        sa.Column("session_id", sa.String(64), nullable=False),
        sa.Column("sequence", sa.Integer, nullable=False, comment="of the event that says it"),
        sa.Column("terms", sa.Text, nullable=False, comment="ASCII, each once, with a space between"),
        sa.PrimaryKeyConstraint("document_id", name="pk_search_documents"),
        sa.ForeignKeyConstraint(
            ["execution_id"], ["executions.execution_id"], name="fk_search_documents_execution_id_executions"
        ),
    )
    op.create_index("ix_search_documents_session_id", "search_documents", ["session_id"])
    op.create_index("ix_search_documents_execution_id", "search_documents", ["execution_id"])
    if op.get_bind().dialect.name == "postgresql":
        op.execute(
            "CREATE INDEX ix_search_documents_terms ON search_documents"
            " USING gin (array_to_tsvector(string_to_array(terms, ' ')))"
        )
    else:
        # The terms stand in the table, and are looked up only: without places and sizes it is half as large.
        op.execute(
            "CREATE VIRTUAL TABLE search_index USING fts5(terms, content='search_documents',"
            " content_rowid='document_id', tokenize='ascii', detail=none, columnsize=0)"
        )
        for moment, statement in _TRIGGERS.items():
            name = f"search_documents_{moment.split()[1].lower()}"
            op.execute(f"CREATE TRIGGER {name} {moment} ON search_documents BEGIN {statement}; END")
    _fill()


def downgrade() -> None:
    """Forget them; the logs still have all of it."""
    if op.get_bind().dialect.name != "postgresql":
        op.execute("DROP TABLE search_index")
    op.drop_table("search_documents")


def _fill() -> None:
    connection = op.get_bind()
    names = ("execution_id", "session_id", "sequence", "terms")
    columns: list[sa.ColumnClause[Any]] = [sa.column(name) for name in names]
    table = sa.table("search_documents", *columns)
    query = sa.text(
        "SELECT x.execution_id, x.session_id, x.input_head, e.sequence, e.body FROM events e"
        " JOIN executions x ON x.execution_id = e.execution_id"
        " WHERE e.type IN :types AND x.execution_id IN :these"
    ).bindparams(sa.bindparam("types", _TYPES, expanding=True), sa.bindparam("these", expanding=True))
    ids = list(connection.execute(sa.text("SELECT execution_id FROM executions")).scalars())
    for first in range(
        0, len(ids), _EXECUTIONS_AT_ONCE
    ):  # a cursor of PostgreSQL's would keep what follows out
        rows = list[dict[str, object]]()
        for row in connection.execute(query, {"these": ids[first : first + _EXECUTIONS_AT_ONCE]}):
            event = _EVENT.validate_json(row.body)
            terms = terms_of_event(row.execution_id, row.session_id, row.input_head, event)
            if terms:
                values = (row.execution_id, row.session_id, row.sequence, " ".join(terms))
                rows.append(dict(zip(names, values, strict=True)))
        if rows:
            connection.execute(table.insert(), rows)
