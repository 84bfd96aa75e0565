"""Finds the input that a person means, and reads what they answer to it. Asks nobody."""

import json
from collections.abc import Sequence
from datetime import UTC
from typing import Final, Literal, cast

from pydantic import JsonValue, ValidationError

from stigmer_cli.api_client import ApiClient
from stigmer_cli.commands.references import find_execution_id, short_id
from stigmer_cli.errors import StigmerError, UsageError
from stigmer_cli.rendering.inputs import describe_client_call
from stigmer_contract.answer_schemas import Schema, find_problem
from stigmer_contract.api import InputResource, ResolveInput
from stigmer_contract.deciders import by_whom
from stigmer_contract.identifiers import INPUT_PREFIX
from stigmer_contract.inputs import MAX_REASON_CHARACTERS, ClientToolCall, InputKind, InputOutcome, Question

SEARCHED: Final = 1000
_LISTED: Final = 5
_SHOWN_CHARACTERS: Final = 100


def find_input(client: ApiClient, given: str, kinds: Sequence[InputKind], what: str) -> InputResource:
    """The input that is meant by its id, or by that of its execution, each whole or in part; with content.

    Raises:
        StigmerError: nothing of these kinds waits there.
        UsageError: several do.
    """
    part = given.lower()
    waiting = [each for each in client.list_inputs(SEARCHED) if each.kind in kinds]
    fitting = [each for each in waiting if _is_meant(each, part)]
    execution_id = None
    if not fitting and not part.startswith(f"{INPUT_PREFIX}_"):
        try:
            execution_id = find_execution_id(client, given, last=False)
        except StigmerError:
            _say_who_was_first(_resolved(client, kinds, part))
            raise
        fitting = [each for each in waiting if each.execution_id == execution_id]
    if not fitting:
        _say_who_was_first(_resolved(client, kinds, part, execution_id))
        raise StigmerError(
            f"there is no {what} of {given!r} that waits", "run `stigmer inbox` to see what does"
        )
    if len(fitting) > 1:
        listed = "; ".join(f"{short_id(each.input_id)}: {each.title}" for each in fitting[:_LISTED])
        raise UsageError(f"{len(fitting)} wait at {given!r}: {listed}", "give the id of one of them")
    return client.get_input(fitting[0].input_id)


def _is_meant(resource: InputResource, part: str) -> bool:
    starts = (part, f"{INPUT_PREFIX}_{part}")
    return bool(part) and (resource.input_id.startswith(starts) or resource.input_id.endswith(part))


def _resolved(
    client: ApiClient, kinds: Sequence[InputKind], part: str, execution_id: str | None = None
) -> list[InputResource]:
    """What was meant, or all of that execution, and waits no more."""
    found = client.list_inputs(SEARCHED, execution_id=execution_id, state="resolved")
    return [each for each in found if each.kind in kinds and (execution_id or _is_meant(each, part))]


def _say_who_was_first(resolved: Sequence[InputResource]) -> None:
    """Where there is one, say of the newest how it was resolved.

    Raises:
        StigmerError: there is one.
    """
    for each in reversed(resolved):
        if (resolution := each.resolution) is not None:
            since = f"{resolution.resolved_at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"
            who = by_whom(resolution.resolved_by)
            raise StigmerError(
                f"{each.title!r} is {resolution.outcome} already, since {since}{who}",
                f"`stigmer executions follow {each.execution_id}` shows how the execution went on",
            )


def question_of(resource: InputResource) -> Question:
    """The content of a question; of other kinds what can be said of them as one."""
    value = resource.content.value if resource.content.kind == "inline" else None
    if resource.kind in (InputKind.QUESTION, InputKind.LOGIN) and isinstance(value, dict):
        return Question.model_validate(value)
    if resource.kind is InputKind.CLIENT_TOOL and isinstance(value, dict):
        return Question(text="\n".join(describe_client_call(ClientToolCall.model_validate(value))))
    return Question(text=resource.title)


def read_answer(text: str, question: Question, schema: Schema | None) -> JsonValue:
    """What a person means who answers with a text: a choice by its number or words, a form as JSON.

    Raises:
        ValueError: that does not fit what is asked; says why.
    """
    answer = _read(text, question, schema or {})
    problem = find_problem(answer, schema or {})
    if problem is not None:
        raise ValueError(problem)
    return answer


def read_field(text: str, schema: JsonValue) -> JsonValue:
    """The value of one field of a form, from a text."""
    fields = cast("Schema", schema) if isinstance(schema, dict) else {}
    kind = fields.get("type")
    if kind == "boolean" and text.strip().lower() in ("y", "yes", "true", "n", "no", "false"):
        return text.strip().lower() in ("y", "yes", "true")
    if kind in ("integer", "number", "object", "null"):
        return read_json(text)
    if kind == "array":
        return (
            read_json(text) if text.lstrip().startswith("[") else [part.strip() for part in text.split(",")]
        )
    return text


def _read(text: str, question: Question, schema: Schema) -> JsonValue:
    if question.choices and question.several:
        return [_choice(part.strip(), question) for part in text.split(",")]
    if question.choices:
        return _choice(text.strip(), question)
    return read_json(text) if schema.get("type") == "object" else text


def _choice(text: str, question: Question) -> str:
    if text in question.choices:
        return text
    if text.isascii() and text.isdigit() and 1 <= int(text) <= len(question.choices):
        return question.choices[int(text) - 1]
    return text


def read_json(text: str) -> JsonValue:
    """A JSON value.

    Raises:
        ValueError: it is none, or is nested too deep; says why.
    """
    try:
        value: JsonValue = json.loads(text, parse_constant=_refuse_constant)
        json.dumps(value, ensure_ascii=False).encode()  # half a character cannot be sent
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{_shorten(text)!r} is not JSON: {error}") from error
    return value


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON number")


def _shorten(text: str) -> str:
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}…"


def make_decision(
    outcome: Literal[InputOutcome.APPROVED, InputOutcome.DENIED, InputOutcome.ANSWERED],
    *,
    reason: str | None = None,
    answer: JsonValue = None,
    arguments: dict[str, JsonValue] | None = None,
    grants_kind: bool = False,
) -> ResolveInput:
    """What a person decided; an empty reason is none.

    Raises:
        ValueError: it is too long or too deep; says what.
    """
    if reason is not None and len(reason) > MAX_REASON_CHARACTERS:
        raise ValueError(f"the reason has {len(reason)} characters, and may have {MAX_REASON_CHARACTERS}")
    if reason is not None:
        reason.encode()  # UnicodeEncodeError, which tells the argument, where it is no UTF-8
    try:
        return ResolveInput(
            outcome=outcome,
            answer=answer,
            arguments=arguments,
            reason=reason or None,
            grants_kind=grants_kind,
        )
    except ValidationError as error:
        [problem, *_] = error.errors(include_url=False, include_input=False)
        raise ValueError(f"the {problem['loc'][0]} cannot be sent: {problem['msg']}") from error
