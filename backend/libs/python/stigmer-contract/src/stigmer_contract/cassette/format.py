"""The fields of a cassette and what they mean. Reads and writes nothing."""

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, JsonValue, model_validator

from stigmer_contract.manifest_parts import ManifestPart


def check_pattern(pattern: str) -> str:
    """The pattern.

    Raises:
        ValueError: it is not a regular expression.
    """
    try:
        re.compile(pattern)
    except re.error as error:
        raise ValueError(f"{pattern!r} is not a regular expression: {error}") from error
    return pattern


Pattern = Annotated[str, AfterValidator(check_pattern)]
"""Regular expression of what Python and RE2 have in common, searched for anywhere in the text; `.` matches
line ends too. It runs in linear time: without look-around and back-references."""


class ExpectedResult(ManifestPart):
    """What one tool call returned. Without `result` and `resultMatches` any result will do."""

    tool: str = Field(min_length=1)
    """Name of the tool."""
    result: JsonValue = None
    """The result as the model saw it; line ends at the end of a text are not compared."""
    result_matches: Pattern | None = None
    """A pattern instead, for results that differ from run to run."""

    @property
    def is_exact(self) -> bool:
        """Whether `result` was given (it may be null)."""
        return "result" in self.model_fields_set

    @model_validator(mode="after")
    def _one_way_to_compare(self) -> "ExpectedResult":
        if self.is_exact and self.result_matches is not None:
            raise ValueError("give result or resultMatches, not both")
        return self


class Expectation(ManifestPart):
    """What the model was told since its last answer: a prompt, or tool results. Exactly one."""

    prompt: str | None = None
    """The person's message, exactly; line ends at its end are not compared."""
    prompt_matches: Pattern | None = None
    """A pattern for the person's message."""
    results: list[ExpectedResult] | None = None
    """One for each tool call of the turn before, in the order of the calls."""

    @property
    def begins_execution(self) -> bool:
        """Whether the turn answers a person rather than tools."""
        return self.results is None

    @model_validator(mode="after")
    def _exactly_one(self) -> "Expectation":
        given = [value for value in (self.prompt, self.prompt_matches, self.results) if value is not None]
        if len(given) != 1:
            raise ValueError("give exactly one of prompt, promptMatches and results")
        return self


class CassetteToolCall(ManifestPart):
    """One tool call of an answer."""

    id: str | None = None
    """Id of the call, unique in the cassette; left out: made from the turn and the place in it."""
    tool: str = Field(min_length=1)
    """Name of the tool."""
    arguments: dict[str, JsonValue] | str = Field(default={})
    """The arguments; a text where the model wrote something that is no JSON object."""


class CassetteUsage(ManifestPart):
    """What the answer cost."""

    input_tokens: int = Field(default=0, ge=0)
    output_tokens: int = Field(default=0, ge=0)
    cache_read_tokens: int = Field(default=0, ge=0)
    cache_write_tokens: int = Field(default=0, ge=0)


class Turn(ManifestPart):
    """One answer of the model."""

    expect: Expectation | None = None
    """What the model was told before; left out: not compared."""
    delay_seconds: float = Field(default=0, ge=0, le=3600)
    """How long the answer takes to begin, in seconds."""
    thinking: str | None = None
    """What a reasoning model thought."""
    text: str | None = None
    """The answer's text."""
    tool_calls: list[CassetteToolCall] = Field(default=[])
    """The tools that the model calls."""
    usage: CassetteUsage = CassetteUsage()
    """What the answer cost."""

    @model_validator(mode="after")
    def _says_something(self) -> "Turn":
        if self.text is None and not self.tool_calls:
            raise ValueError("a turn needs text or toolCalls")
        return self


class Judgement(ManifestPart):
    """What a judge said of a test's outcome, so that it need not be asked again."""

    asked: str = Field(pattern="^[0-9a-f]{64}$")
    """SHA-256 of all that it was told."""
    model: str | None = None
    """As the test names it; left out: the configured one."""
    passes: bool
    """Whether the rubric holds."""
    reason: str
    """Why."""


class Cassette(ManifestPart):
    """Recorded answers of a model, in order."""

    version: Literal[1]
    """Version of this format."""
    agent: str | None = None
    """Name of the agent that was recorded; for people only."""
    model: str | None = None
    """`provider:name` of the model that was recorded; for people only."""
    turns: list[Turn] = Field(min_length=1)
    """The answers."""
    judgements: list[Judgement] = Field(default=[])
    """Of `stigmer test`; the model does not play them."""
