"""The operations of an API as tools, as they are packed with an agent. Pure.

They were read from somebody's document; whoever uses them holds them to these models once more.
"""

from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue

OPERATIONS_FILE: Final = "operations.json"
"""The only file of the pack."""
MAX_OPERATIONS: Final = 256
"""Of one document: a model is told of each."""
MAX_OPERATIONS_BYTES: Final = 2 << 20
MAX_NAME_CHARACTERS: Final = 128

Method = Literal["GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE"]
READING_METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS"})
"""RFC 9110, section 9.2.1."""
KEPT_HEADERS: Final = frozenset(
    {
        "accept", "accept-encoding", "authorization", "connection", "content-encoding", "content-length",
        "content-type", "expect", "host", "keep-alive", "proxy-authorization", "te", "trailer",
        "transfer-encoding", "upgrade",
    }
)  # fmt: skip
"""Headers that no parameter sets: OpenAPI 3.1.1 says so of some; the others are the connection's."""

_Name = Annotated[str, Field(min_length=1, max_length=MAX_NAME_CHARACTERS)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)


class Parameter(_Part):
    """Where an argument goes (OpenAPI 3.1.1, section 4.8.12)."""

    argument: _Name
    """As the tool's schema calls it."""
    name: _Name
    """As the API calls it."""
    location: Literal["path", "query", "header", "cookie"]
    style: Literal["simple", "label", "matrix", "form", "spaceDelimited", "pipeDelimited", "deepObject"]
    explode: bool
    is_json: bool = False
    """Whether the value is written as JSON."""


class RequestBody(_Part):
    """What a request carries."""

    argument: _Name
    media_type: str = Field(pattern=r"^[!#$&^_.+a-zA-Z0-9-]{1,80}/[!#$&^_.+a-zA-Z0-9-]{1,80}$")


class Operation(_Part):
    """One operation as a tool."""

    name: str = Field(min_length=1, max_length=256)
    """Its `operationId`, or one that was made of method and path."""
    method: Method
    path: str = Field(pattern=r"^/[^\s?#]*$", max_length=2048)
    """With `{name}` where parameters stand."""
    description: str = ""
    parameters: list[Parameter] = Field(default_factory=list[Parameter], max_length=200)
    body: RequestBody | None = None
    input_schema: dict[str, JsonValue]
    """Of all arguments together."""


class Operations(_Part):
    """All operations of a document that an agent gets, in the document's order."""

    version: Literal[1] = 1
    operations: list[Operation] = Field(max_length=MAX_OPERATIONS)
    left_out: dict[str, str] = {}
    """Why an operation that was asked for is not among them, by name."""
