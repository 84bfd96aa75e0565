"""A session as one file: what is said in it, for `stigmer sessions export` and `import`.

The file is a ZIP archive: `session.json` (an `ExportedSession`) and, for each large value that the logs name,
`blobs/SHA256`. It holds no ids that count elsewhere: whoever imports it gets a new session of their own.
"""

from typing import Final, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from stigmer_contract.events import Event

DOCUMENT_NAME: Final = "session.json"
BLOB_FOLDER: Final = "blobs/"
MAX_DOCUMENT_BYTES: Final = 32 * 1024 * 1024
MAX_EXECUTIONS: Final = 1000
MAX_EVENTS: Final = 50_000
"""Of one execution."""
MAX_BLOBS: Final = 10_000
MAX_EXPORT_BYTES: Final = 1024 * 1024 * 1024
"""Of all that is in a file."""


class _Part(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)


class ExportedEvent(_Part):
    """An event of a log, as it was written."""

    recorded_at: AwareDatetime
    attempt: int | None = Field(default=None, ge=1)
    event: Event


class ExportedExecution(_Part):
    """The whole log of an execution that has ended, ascending by sequence."""

    events: list[ExportedEvent] = Field(min_length=2, max_length=MAX_EVENTS)


class ExportedSession(_Part):
    """A session: its executions, oldest first."""

    format: Literal["stigmer session"] = "stigmer session"
    version: Literal[1] = 1
    exported_at: AwareDatetime
    executions: list[ExportedExecution] = Field(min_length=1, max_length=MAX_EXECUTIONS)


class ImportSession(BaseModel):
    """`POST /v1/sessions/import`: make a session of what was exported."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    """Of the `session.json`, which the caller has stored as a blob, with all blobs that it names."""
