"""What waits for a person: as a list, and one in full."""

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from pydantic import JsonValue

from stigmer_cli.output import sanitize
from stigmer_cli.rendering.execution_table import SHOWN_ID_CHARACTERS
from stigmer_cli.rendering.quantities import format_age
from stigmer_cli.rendering.tables import print_owned_table, print_table
from stigmer_contract.api import GrantResource, InputResource
from stigmer_contract.inputs import Approval, ClientToolCall, InputKind, Question


def print_inputs(waiting: Sequence[InputResource]) -> None:
    """Writes the list to stdout."""
    now = datetime.now(UTC)
    print_owned_table(
        ["ID", "EXECUTION", "AGENT", "KIND", "ASKED", "EXPIRES", "WHAT"],
        [_row(each, now) for each in waiting],
        [each.owner for each in waiting],
        long="WHAT",
        optional=["EXPIRES", "ASKED", "KIND", "AGENT"],
        empty="nothing waits for you",
    )


def print_grants(granted: Sequence[GrantResource]) -> None:
    """Writes the list of kinds of calls that were approved to stdout."""
    now = datetime.now(UTC)
    print_table(
        ["GRANT", "SINCE", "REVOKED", "CALLS"],
        [
            [
                each.input_id[-SHOWN_ID_CHARACTERS:],
                format_age(each.granted_at, now),
                "" if each.revoked_at is None else format_age(each.revoked_at, now),
                describe_rule(each.rule),
            ]
            for each in granted
        ],
        long="CALLS",
        optional=["SINCE"],
        empty="no kind of call is approved once for all",
    )


def describe_rule(rule: JsonValue) -> str:
    """Which calls a rule is about."""
    if not isinstance(rule, dict):
        return in_one_line(json.dumps(rule))
    when = rule.get("when")
    return in_one_line(f"{rule.get('tool')}: {when}" if when else f"{rule.get('tool')}")


def describe_input(resource: InputResource) -> str:
    """All that a person needs to decide, in several lines."""
    value = resource.content.value if resource.content.kind == "inline" else None
    lines = [f"{resource.kind} {resource.input_id} of {resource.agent_name} ({resource.execution_id})", ""]
    match resource.kind:
        case InputKind.QUESTION | InputKind.LOGIN:
            lines += describe_question(Question.model_validate(value), resource.answer_schema)
        case InputKind.APPROVAL:
            lines += describe_approval(Approval.model_validate(value))
        case InputKind.CLIENT_TOOL:
            lines += describe_client_call(ClientToolCall.model_validate(value))
        case _:
            lines.append(resource.title)
    lines += ["", how_to_decide(resource)]
    if resource.expires_at is not None:
        lines.append(f"It expires at {resource.expires_at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC.")
    if resource.escalated_to is not None:
        lines.append(f"It was put before {resource.escalated_to}, too, who may decide.")
    return "\n".join(lines)


def describe_question(question: Question, schema: dict[str, JsonValue] | None) -> list[str]:
    """A question with its choices or fields."""
    lines = sanitize(question.text).splitlines()
    lines += [f"  {number}. {in_one_line(choice)}" for number, choice in enumerate(question.choices, start=1)]
    fields = (schema or {}).get("properties")
    if isinstance(fields, dict):
        lines += [f"  {in_one_line(name)}: {_describe_field(field)}" for name, field in fields.items()]
    return lines


def describe_client_call(call: ClientToolCall) -> list[str]:
    """A call that whoever is connected is to carry out."""
    return [f"{in_one_line(call.tool)} is yours to carry out:", *_describe_arguments(call.arguments)]


def _describe_arguments(arguments: Mapping[str, JsonValue]) -> list[str]:
    lines = list[str]()
    for name, value in arguments.items():
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        lines += [
            f"  {in_one_line(name)}: {line}" if place == 0 else f"    {line}"
            for place, line in enumerate(sanitize(text).splitlines() or [""])
        ]
    return lines


def describe_approval(approval: Approval) -> list[str]:
    """What would run, and why it is asked."""
    lines = [f"{in_one_line(approval.tool)} wants to run:", *_describe_arguments(approval.arguments)]
    if approval.diff:
        lines += ["", *sanitize(approval.diff).splitlines()]
    if approval.again:
        lines.append(f"It is asked again: {sanitize(approval.again)}")
    why = approval.reason or approval.rule
    if why:
        lines.append(f"Asked because: {sanitize(why)}")
    if approval.kind_rule:
        lines.append(f"All of this kind would be: {sanitize(approval.kind_rule)}")
    return lines


def offers_kind(resource: InputResource) -> bool:
    """Whether all calls of the kind can be approved with this one; with its content."""
    if resource.kind is not InputKind.APPROVAL or resource.content.kind != "inline":
        return False
    return Approval.model_validate(resource.content.value).kind_rule is not None


def in_one_line(text: str) -> str:
    """A name that an agent gave, which must not pass for lines of our own."""
    return " ".join(sanitize(text).split())


def how_to_decide(resource: InputResource) -> str:
    """The commands that decide it."""
    short = resource.input_id[-SHOWN_ID_CHARACTERS:]
    if resource.kind is InputKind.APPROVAL:
        return f"Decide with `stigmer executions approve {short}` or `stigmer executions deny {short}`."
    if resource.kind is InputKind.LOGIN:
        declined = f"stigmer executions answer {short} --decline"
        return f"Sign in with `stigmer mcp login {short}`, or say no with `{declined}`."
    what = "RESULT" if resource.kind is InputKind.CLIENT_TOOL else "ANSWER"
    return f"Answer with `stigmer executions answer {short} {what}`."


def _describe_field(field: JsonValue) -> str:
    if not isinstance(field, dict):
        return "anything"
    said: list[str] = []
    for key in ("title", "description"):
        if isinstance(field.get(key), str):
            said.append(sanitize(str(field[key])))
    choices = field.get("enum")
    kind = (
        " or ".join(json.dumps(each) for each in choices) if isinstance(choices, list) else field.get("type")
    )
    return " ".join([*said, f"({kind})"] if kind else said) or "anything"


def _row(resource: InputResource, now: datetime) -> list[str]:
    return [
        resource.input_id[-SHOWN_ID_CHARACTERS:],
        resource.execution_id[-SHOWN_ID_CHARACTERS:],
        resource.agent_name,
        resource.kind,
        format_age(resource.requested_at, now),
        "" if resource.expires_at is None else f"{resource.expires_at.astimezone(UTC):%Y-%m-%d %H:%M}",
        resource.title,
    ]
