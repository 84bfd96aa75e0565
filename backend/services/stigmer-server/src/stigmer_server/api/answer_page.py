"""The page behind a link to an input: shows what is asked, and takes the answer. Needs no token.

To get the page changes nothing, whoever gets it: mail scanners open links. Only the form's POST decides. What
is shown comes from agents and models: it stands there as text, and the page runs and loads nothing.
"""

import json
from html import escape
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import parse_qs

from fastapi import APIRouter, Request, Response
from pydantic import JsonValue, ValidationError

from stigmer_contract.api import InputResource, ResolveInput
from stigmer_contract.deciders import by_whom
from stigmer_contract.inputs import MAX_REASON_CHARACTERS, Approval, InputKind, InputOutcome, Question
from stigmer_server.answer_links import AnswerLink
from stigmer_server.api.access import OPEN, GuardedRoute
from stigmer_server.api.services import Services, ServicesOf
from stigmer_server.errors import CallRefused, InputAlreadyResolved, NotFound
from stigmer_server.inputs import Answerer
from stigmer_server.owners import Caller

router = APIRouter(tags=["inputs"], route_class=GuardedRoute)

ANSWER_PATH: Final = "/answer/"
MAX_FORM_BYTES: Final = 256 * 1024
MAX_FIELDS: Final = 200
_HEADERS: Final = {
    "Content-Security-Policy": (
        "default-src 'none'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "X-Robots-Tag": "noindex",
}
_LINK_HOLDER: Final = Caller("", sees_all=True)
"""Whoever has the link may decide the one input that it is to, and nothing else."""
_DEAD: Final = "This link answers nothing: it has expired, or never was one."


def is_answer_path(path: str) -> bool:
    """Whether it is the address of such a page, which is reached without a token."""
    return path.startswith(ANSWER_PATH)


@router.get("/answer/{secret}", include_in_schema=False, openapi_extra=OPEN)
async def show_question(secret: str, services: ServicesOf) -> Response:
    """What is asked, with a form that answers it. Decides nothing."""
    link = await services.answer_links.find(secret)
    if link is None:
        return _page("Nothing to answer", f"<p>{_DEAD}</p>", HTTPStatus.NOT_FOUND)
    return await _show(services, link)


@router.post("/answer/{secret}", include_in_schema=False, max_body_size=MAX_FORM_BYTES, openapi_extra=OPEN)
async def take_answer(secret: str, request: Request, services: ServicesOf) -> Response:
    """Decide, as the form says."""
    link = await services.answer_links.find(secret)
    if link is None:
        return _page("Nothing to answer", f"<p>{_DEAD}</p>", HTTPStatus.NOT_FOUND)
    try:
        asked = await services.inputs.get(link.input_id, _LINK_HOLDER)
        decision = _read_form(await request.body(), asked)
        origin = None if request.client is None else request.client.host
        who = Answerer(_LINK_HOLDER, f"link to webhook {link.webhook}", origin)
        resolved = await services.inputs.resolve(link.input_id, decision, who, None)
    except InputAlreadyResolved:
        return await _show(services, link)
    except NotFound:
        return _page("Nothing to answer", f"<p>{_DEAD}</p>", HTTPStatus.NOT_FOUND)
    except (CallRefused, ValueError) as error:
        detail = error.detail if isinstance(error, CallRefused) else str(error)
        return await _show(services, link, problem=detail)
    return _page(resolved.title, _resolution(resolved), HTTPStatus.OK)


async def _show(services: Services, link: AnswerLink, problem: str | None = None) -> Response:
    try:
        asked = await services.inputs.get(link.input_id, _LINK_HOLDER)
    except NotFound:
        return _page("Nothing to answer", f"<p>{_DEAD}</p>", HTTPStatus.NOT_FOUND)
    if asked.resolution is not None:
        return _page(asked.title, _resolution(asked), HTTPStatus.GONE)
    told = "" if problem is None else f"<p><strong>Not taken: {escape(problem)}</strong></p>"
    status = HTTPStatus.OK if problem is None else HTTPStatus.UNPROCESSABLE_ENTITY
    return _page(asked.title, told + _facts(asked) + _form(asked), status)


# --- what is shown ----------------------------------------------------------------------------


def _facts(asked: InputResource) -> str:
    facts = [
        f"<p>The agent <strong>{escape(asked.agent_name)}</strong> of {escape(asked.owner)} asks "
        f"({escape(asked.kind)}; execution {escape(asked.execution_id)}).</p>"
    ]
    if asked.expires_at is not None:
        facts.append(f"<p>It expires at {asked.expires_at:%Y-%m-%d %H:%M:%S} UTC.</p>")
    content = _content(asked)
    if asked.kind is InputKind.APPROVAL:
        approval = Approval.model_validate(content)
        arguments = json.dumps(approval.arguments, indent=2, ensure_ascii=False)
        facts.append(f"<p>It wants to call {escape(approval.toolset)}/{escape(approval.tool)} with</p>")
        facts.append(f"<pre>{escape(arguments)}</pre>")
        for text in (approval.reason, approval.again):
            facts += [] if text is None else [f"<p>{escape(text)}</p>"]
        facts += [] if approval.diff is None else [f"<pre>{escape(approval.diff)}</pre>"]
    elif asked.kind in (InputKind.QUESTION, InputKind.LOGIN):
        facts.append(f"<pre>{escape(Question.model_validate(content).text)}</pre>")
    else:
        facts.append(f"<pre>{escape(json.dumps(content, indent=2, ensure_ascii=False))}</pre>")
    return "".join(facts)


def _form(asked: InputResource) -> str:
    reason = (
        f'<p><label>Reason: <input name="reason" maxlength="{MAX_REASON_CHARACTERS}" size="60"></label></p>'
    )
    if asked.kind is InputKind.APPROVAL:
        buttons = _button(InputOutcome.APPROVED, "Approve") + _button(InputOutcome.DENIED, "Deny")
        return f'<form method="post">{reason}<p>{buttons}</p></form>'
    fields = _fields(asked)
    buttons = _button(InputOutcome.ANSWERED, "Answer") + _button(InputOutcome.DENIED, "Do not answer")
    return f'<form method="post">{fields}{reason}<p>{buttons}</p></form>'


def _fields(asked: InputResource) -> str:
    question = _question(asked)
    if question.choices:
        kind = "checkbox" if question.several else "radio"
        fields = "".join(
            f'<p><label><input type="{kind}" name="choice" value="{place}"> {escape(choice)}</label></p>'
            for place, choice in enumerate(question.choices)
        )
        if not question.own_words:
            return fields
        return f'{fields}<p><label>Else: <input name="words" size="60"></label></p>'
    if _wants_json(asked):
        schema = json.dumps(asked.answer_schema, indent=2, ensure_ascii=False)
        return (
            f"<p>The answer is JSON that fits</p><pre>{escape(schema)}</pre>"
            '<p><textarea name="json" rows="10" cols="80"></textarea></p>'
        )
    return '<p><textarea name="words" rows="6" cols="80"></textarea></p>'


def _button(outcome: InputOutcome, text: str) -> str:
    return f'<button name="outcome" value="{outcome}">{text}</button> '


def _resolution(asked: InputResource) -> str:
    resolution = asked.resolution
    assert resolution is not None
    who = escape(by_whom(resolution.resolved_by))
    reason = "" if resolution.reason is None else f"<p>{escape(resolution.reason)}</p>"
    at = f"{resolution.resolved_at:%Y-%m-%d %H:%M:%S} UTC"
    return f"<p>It was {escape(resolution.outcome)}{who} at {at}.</p>{reason}"


def _page(title: str, body: str, status: HTTPStatus) -> Response:
    text = (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width">'
        f"<title>{escape(title)}</title></head><body><h1>{escape(title)}</h1>{body}</body></html>"
    )
    content = text.encode("utf-8", errors="replace")
    return Response(content, status, headers=_HEADERS, media_type="text/html; charset=utf-8")


# --- what is answered -------------------------------------------------------------------------


def _read_form(body: bytes, asked: InputResource) -> ResolveInput:
    """The decision.

    Raises:
        ValueError: the form says none; says why.
    """
    try:
        fields = parse_qs(
            body.decode("ascii"), keep_blank_values=True, max_num_fields=MAX_FIELDS, errors="strict"
        )
    except ValueError as error:
        raise ValueError("this is no form of this page") from error
    decision: dict[str, Any] = {"outcome": fields.get("outcome", [""])[0]}
    if reason := fields.get("reason", [""])[0].strip():
        decision["reason"] = reason
    if decision["outcome"] == InputOutcome.ANSWERED:
        decision["answer"] = _read_answer(fields, asked)
    try:
        return ResolveInput.model_validate(decision)
    except ValidationError as error:
        raise ValueError("choose one of the buttons, and give a shorter reason") from error


def _read_answer(fields: dict[str, list[str]], asked: InputResource) -> JsonValue:
    question, words = _question(asked), fields.get("words", [""])[0]
    if question.choices:
        try:
            chosen = [question.choices[int(place)] for place in fields.get("choice", ())]
        except (ValueError, IndexError):
            raise ValueError("there is no such choice") from None
        chosen += [words] if words and question.own_words else []
        if not chosen:
            raise ValueError("choose something")
        return [*chosen] if question.several else chosen[-1]
    if _wants_json(asked):
        try:
            value: JsonValue = json.loads(fields.get("json", [""])[0])
        except (ValueError, RecursionError) as error:
            raise ValueError(f"the answer is not JSON: {error}") from error
        return value
    return words


def _content(asked: InputResource) -> JsonValue:
    assert asked.content.kind == "inline"  # `Inputs.get` makes it so
    return asked.content.value


def _question(asked: InputResource) -> Question:
    if asked.kind in (InputKind.QUESTION, InputKind.LOGIN):
        return Question.model_validate(_content(asked))
    return Question(text=asked.title)


def _wants_json(asked: InputResource) -> bool:
    return asked.answer_schema is not None and asked.answer_schema.get("type") != "string"
