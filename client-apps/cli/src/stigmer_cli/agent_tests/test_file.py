"""The format of `*.test.yaml`, and reading it: what is wrong is said with file, line and field."""

from decimal import Decimal
from pathlib import Path, PurePosixPath
from typing import Annotated, Final, Literal

from pydantic import AfterValidator, Field, JsonValue, ValidationError, model_validator

from stigmer_cli.errors import UsageError
from stigmer_contract.answer_schemas import check_schema
from stigmer_contract.cassette.format import check_pattern
from stigmer_contract.manifest_parts import Duration, ManifestPart
from stigmer_contract.manifest_reader import format_field_path
from stigmer_contract.yaml_document import YamlDocument, decode_text, read_documents
from stigmer_contract.yaml_problems import FieldPath, Position, YamlProblem

ENDING: Final = ".test.yaml"
MAX_RUNS: Final = 100


def _check_path(path: str) -> str:
    parts = PurePosixPath(path).parts
    if not parts or path.startswith("/") or ".." in parts or "\0" in path:
        raise ValueError(f"{path!r} is not a path in the workspace")
    return path


def _check_schema(schema: dict[str, JsonValue]) -> dict[str, JsonValue]:
    check_schema(schema)
    return schema


Pattern = Annotated[str, AfterValidator(check_pattern)]
"""Regular expression, searched for anywhere in the text; `.` matches line ends too."""
WorkspacePath = Annotated[str, AfterValidator(_check_path)]


class AnswerExpected(ManifestPart):
    """What the final answer has to be. All that is given must hold."""

    equals: JsonValue = None
    """Exactly this; line ends at the end of a text do not count."""
    contains: list[str] | str = Field(default=[])
    """These texts, somewhere in it."""
    matches: Pattern | None = None
    """A pattern that is found in it."""
    schema_: Annotated[dict[str, JsonValue], AfterValidator(_check_schema)] | None = Field(
        default=None, alias="schema"
    )
    """JSON Schema of an answer that is an object."""


class FileExpected(ManifestPart):
    """What a file of the workspace has to be at the end."""

    path: WorkspacePath
    exists: bool = True
    equals: str | None = None
    contains: list[str] | str = Field(default=[])
    matches: Pattern | None = None


class CallExpected(ManifestPart):
    """A tool call."""

    tool: str = Field(min_length=1)
    arguments: Pattern | None = None
    """A pattern that is found in the arguments as JSON."""


class PathExpected(ManifestPart):
    """The way to the answer."""

    calls: list[CallExpected | str] = Field(default=[])
    """Calls that must be made, in whatever order."""
    never_calls: list[CallExpected | str] = Field(default=[])
    """Calls that must not be made."""
    order: list[CallExpected | str] = Field(default=[])
    """Calls that must come in this order; others may come between."""


class LimitsExpected(ManifestPart):
    """What the execution may use at most."""

    turns: int | None = Field(default=None, ge=1)
    tokens: int | None = Field(default=None, ge=1)
    cost_usd: Decimal | None = Field(default=None, gt=0)
    duration: Duration | None = None


class JudgeExpected(ManifestPart):
    """What a model has to find of the outcome. It is asked where all else holds."""

    rubric: str = Field(min_length=1)
    """What has to hold, in words."""
    model: str | None = None
    """`provider:name` or `replay:FILE`, relative to this file; left out: the configured one."""
    files: list[WorkspacePath] = Field(default=[])
    """Files of the workspace that it is shown beside the answer."""


class Expected(ManifestPart):
    """What has to hold when the execution has ended. It must have completed, unless `phase` says other."""

    phase: Literal["completed", "failed", "cancelled"] = "completed"
    answer: AnswerExpected = AnswerExpected()
    files: list[FileExpected] = Field(default=[])
    commands: list[str] = Field(default=[])
    """Commands of a shell that must end with 0, in the workspace at the end, held in like an agent's and
    without a network."""
    path: PathExpected = PathExpected()
    limits: LimitsExpected = LimitsExpected()
    judge: JudgeExpected | None = None


class AgentTest(ManifestPart):
    """One test."""

    name: str | None = None
    """What reports call it; left out: the file's name."""
    agent: str = "."
    """A manifest, a folder with an agent.yaml, relative to this file, or the name of an applied agent."""
    input: str = Field(min_length=1)
    """The person's message."""
    files: str | dict[str, str] | None = None
    """What is in the workspace at the start: a folder, relative to this file, or contents by path."""
    model: str | None = None
    """`provider:name` or `replay:FILE`, relative to this file; left out: the agent's."""
    runs: int = Field(default=1, ge=1, le=MAX_RUNS)
    """How often it is run."""
    pass_rate: float = Field(default=1.0, gt=0, le=1)
    """Share of the runs that must pass."""
    timeout: Duration | None = None
    """Longest time of one run; left out: 10m."""
    expect: Expected = Expected()

    @model_validator(mode="after")
    def _paths_are_in_the_workspace(self) -> "AgentTest":
        if isinstance(self.files, dict):
            for path in self.files:
                _check_path(path)
        return self


def read_test(path: Path) -> AgentTest:
    """The test of a file.

    Raises:
        UsageError: it cannot be read, or is none; the message has the line and the field.
    """
    try:
        documents = list(read_documents(decode_text(path.read_bytes())))
    except OSError as error:
        raise UsageError(f"could not read the test {str(path)!r}: {error.strerror}") from error
    except YamlProblem as problem:
        raise _refusal(path, problem.position, problem.path, problem.message) from problem
    if len(documents) != 1:
        raise UsageError(f"{path}: a test is one YAML document; this file has {len(documents)}")
    [document] = documents
    if document.problems:
        first = document.problems[0]
        raise _refusal(path, first.position, first.path, first.message)
    try:
        return AgentTest.model_validate(document.value, by_alias=True, by_name=False)
    except ValidationError as error:
        first_error = error.errors(include_url=False)[0]
        message = first_error["msg"].removeprefix("Value error, ")
        if first_error["type"] == "extra_forbidden":
            message = "there is no such field here"
        field = tuple(part for part in first_error["loc"] if _stands_at(part, document))
        raise _refusal(path, _place(field, document), field, message) from error


def _stands_at(part: int | str, document: YamlDocument) -> bool:
    """Whether it is a part of a path as a person writes it, and no branch of a union."""
    return isinstance(part, int) or any(part in keys for keys in document.keys) or "[" not in part


def _place(field: FieldPath, document: YamlDocument) -> Position:
    while field:
        if field in document.keys:
            return document.keys[field]
        if field in document.values:
            return document.values[field]
        field = field[:-1]
    return document.start


def _refusal(path: Path, position: Position, field: FieldPath, message: str) -> UsageError:
    named = f"{format_field_path(field)}: " if field else ""
    return UsageError(f"{path}:{position.line}:{position.column}: {named}{message}")
