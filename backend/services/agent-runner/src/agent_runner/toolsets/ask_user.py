"""The tool `ask_user`: an agent that needs to know something asks a person, and waits for the answer.

What waits is the leg's to arrange; here is only what the model may ask and what it is told.
"""

import functools
import json
from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import timedelta
from typing import Annotated, Any, Final, Protocol

from pydantic import Field, JsonValue
from pydantic_ai.exceptions import ToolFailed
from pydantic_ai.toolsets import AbstractToolset, FunctionToolset

from stigmer_contract.answer_schemas import check_schema
from stigmer_contract.inputs import InputOutcome, Question

ASK_TOOL: Final = "ask_user"
MAX_QUESTION_CHARACTERS: Final = 20_000
MAX_CHOICES: Final = 30
MAX_CHOICE_CHARACTERS: Final = 500
MAX_ANSWER_CHARACTERS: Final = 50_000
LONGEST_WAIT: Final = timedelta(days=365)


@dataclass(frozen=True)
class Told:
    """What became of a question."""

    outcome: InputOutcome
    answer: JsonValue
    reason: str | None


class Asker(Protocol):
    """Lets the tool call that is at work ask, or be carried out elsewhere."""

    async def ask(self, question: Question, schema: dict[str, JsonValue], seconds: float | None) -> Told:
        """Return when the question is resolved; the process may be another by then.

        Args:
            question: for the person.
            schema: that an answer has to fit.
            seconds: after how long it expires; None: never.
        """
        ...

    async def hand_over(self, tool: str, arguments: Mapping[str, JsonValue], seconds: float | None) -> Told:
        """Let whoever is connected carry the call out; the answer is its result.

        Args:
            tool: its name.
            arguments: as the tool's schema has them.
            seconds: after how long it expires; None: never.
        """
        ...


asker: ContextVar[Asker] = ContextVar("asker")
"""That of the leg whose agent calls tools."""


@functools.cache
def ask_user_toolset() -> AbstractToolset[None]:
    """The toolset; shared by all runs."""
    toolset = FunctionToolset[None](id="ask_user")
    toolset.add_function(ask_user, name=ASK_TOOL)
    return toolset


async def ask_user(
    question: str,
    choices: list[str] | None = None,
    several: bool = False,
    own_words: bool = True,
    fields: Annotated[dict[str, Any] | None, Field(description="JSON Schema of an object")] = None,
    seconds: float | None = None,
) -> str:
    """Ask a person a question, and wait for the answer, which may take days.

    Ask when you need a decision or a fact that only a person has; ask everything that you need at once.

    Args:
        question: what you want to know, with all that the person needs to answer it.
        choices: possible answers to choose from.
        several: whether more than one of the choices may be chosen.
        own_words: whether the person may also answer in other words than the choices.
        fields: for several answers at once: a JSON Schema whose properties (string, integer, number, boolean,
            enum, array) the person fills in. Not together with choices.
        seconds: after how long you go on without an answer; left out: you wait until there is one.
    """
    schema = _schema(question, choices, several, own_words, fields)
    if seconds is not None and not 0 < seconds <= LONGEST_WAIT.total_seconds():
        raise ToolFailed(f"seconds must be more than 0 and at most {LONGEST_WAIT.total_seconds():.0f}")
    asked = Question(text=question, choices=choices or [], several=several, own_words=own_words)
    told = await asker.get().ask(asked, schema, seconds)
    because = "" if told.reason is None else f" The person says: {told.reason}"
    match told.outcome:
        case InputOutcome.ANSWERED:
            answer = (
                told.answer if isinstance(told.answer, str) else json.dumps(told.answer, ensure_ascii=False)
            )
            return f"The person answered:\n{answer}{because}"
        case InputOutcome.DENIED:
            raise ToolFailed(f"The person does not want to answer this question.{because}")
        case InputOutcome.EXPIRED:
            raise ToolFailed("The question expired unanswered: nobody has seen or answered it in time.")
        case _:
            raise ToolFailed("The question was withdrawn before anybody answered it.")


def _schema(
    question: str, choices: list[str] | None, several: bool, own_words: bool, fields: dict[str, Any] | None
) -> dict[str, JsonValue]:
    """What an answer has to fit.

    Raises:
        ToolFailed: the question is none.
    """
    if not question.strip() or len(question) > MAX_QUESTION_CHARACTERS:
        raise ToolFailed(f"question must have 1 to {MAX_QUESTION_CHARACTERS} characters")
    if fields is not None:
        if choices:
            raise ToolFailed("give choices or fields, not both")
        if fields.get("type") != "object" or not fields.get("properties"):
            raise ToolFailed('fields must be a JSON Schema of "type": "object" with properties')
        try:
            return check_schema(fields)
        except ValueError as error:
            raise ToolFailed(f"fields cannot be asked for: {error}") from error
    words: dict[str, JsonValue] = {"type": "string", "minLength": 1, "maxLength": MAX_ANSWER_CHARACTERS}
    if not choices:
        if not own_words or several:
            raise ToolFailed("without choices, leave out several and own_words")
        return words
    if len(choices) > MAX_CHOICES or len(set(choices)) < len(choices):
        raise ToolFailed(f"choices must be at most {MAX_CHOICES}, each of them once")
    if any(not choice.strip() or len(choice) > MAX_CHOICE_CHARACTERS for choice in choices):
        raise ToolFailed(f"each choice must have 1 to {MAX_CHOICE_CHARACTERS} characters")
    one: dict[str, JsonValue] = words if own_words else {"type": "string", "enum": [*choices]}
    return {"type": "array", "items": one, "minItems": 1, "uniqueItems": True} if several else one
