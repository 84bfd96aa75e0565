"""What servers ask while they carry out a call, as people and models are asked it. Pure.

A server is not trusted: what it asks is bounded, its form is one of those that answers can be held to, and a
page that it names is shown and never opened.
"""

import base64
import binascii
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol, cast

from pydantic import JsonValue

from agent_runner.mcp_servers.faults import AnswerRefused
from stigmer_contract.answer_schemas import check_schema
from stigmer_contract.inputs import SIGNED_IN, Login, Question
from stigmer_contract.mcp_logins import MAX_CHALLENGE_CHARACTERS, resource_of

ELICIT: Final = "elicitation/create"
SAMPLE: Final = "sampling/createMessage"
ROOTS: Final = "roots/list"
INPUT_REQUIRED: Final = "input_required"
"""`resultType` of what is no result yet (2026-07-28)."""
CALL_ANEW: Final = "callAnew"
"""Whether such a call was refused until then, so that it is to be made anew and not gone on with."""
LOG_IN: Final = "logIn"
"""How such a call was refused because its server asks who calls: nothing was done."""
MAX_LOG_INS: Final = 3
"""How often somebody is asked to sign in for one call."""
NOBODY_THERE: Final = "nobody can be asked here"
MAX_ROUNDS: Final = 20
"""How often one call may ask before it is given up."""
MAX_ASKED_AT_ONCE: Final = 20
MAX_MESSAGE_CHARACTERS: Final = 20_000
MAX_URL_CHARACTERS: Final = 4000
MAX_SAMPLED_MESSAGES: Final = 100
MAX_SAMPLED_CHARACTERS: Final = 400_000
MAX_SAMPLED_FILE_BYTES: Final = 5 << 20
MAX_SAMPLED_TOKENS: Final = 32_000
UNAUTHORIZED: Final = 401
FORBIDDEN: Final = 403
LOG_IN_SCHEMA: Final[dict[str, JsonValue]] = {"type": "string", "enum": [SIGNED_IN]}
DONE: Final = "I have done what the page asks for"
_URL: Final = re.compile(r"https?://[^\s\x00-\x20\x7f-\x9f<>\"\\]+")
_NOT_FOR_US: Final = frozenset({"$schema", "$id", "$comment", "enumNames", "pattern"})
"""Keywords of a form that hold nobody to anything here: what is filled in, the server checks itself."""


@dataclass(frozen=True)
class ServerRequest:
    """What a server asks, in the protocol's words; not looked at yet."""

    method: str
    params: Mapping[str, Any]


@dataclass(frozen=True)
class PersonAsked:
    """What a person is asked, and what an answer has to fit."""

    question: Question
    schema: dict[str, JsonValue]
    is_form: bool
    """Whether the answer is what the server wants to know; else it is told that the page was seen to."""

    def accepted(self, answer: JsonValue) -> dict[str, JsonValue]:
        """What the server is told of an answer: a field that is left out has its default (SEP-1034)."""
        if not self.is_form:
            return {"action": "accept"}
        return {"action": "accept", "content": {**defaults_of(self.schema), **_object(answer)}}


def defaults_of(schema: Mapping[str, JsonValue]) -> dict[str, JsonValue]:
    """What a form's fields are where nobody says anything else; only the fields that say it."""
    fields = {name: _object(each) for name, each in _object(schema.get("properties")).items()}
    return {name: each["default"] for name, each in fields.items() if "default" in each}


def _object(value: JsonValue) -> Mapping[str, JsonValue]:
    return value if isinstance(value, dict) else {}


class CallHost(Protocol):
    """Answers what servers ask in the middle of the call that is at work. Its context's own."""

    async def answer(self, request: ServerRequest) -> dict[str, JsonValue]:
        """What the server is told, in the protocol's words.

        Raises:
            AnswerRefused: it is told why not.
            StillOpen: nobody has answered for so long that the call is not held open any longer.
        """
        ...


class Nobody:
    """The host of a call at which nobody is there to be asked."""

    async def answer(self, request: ServerRequest) -> dict[str, JsonValue]:
        """Never.

        Raises:
            AnswerRefused: always.
        """
        raise AnswerRefused(NOBODY_THERE)


NOBODY: Final[CallHost] = Nobody()


@dataclass(frozen=True)
class TakenUp:
    """What a server is told that had put a call down."""

    answers: Mapping[str, JsonValue]
    state: str | None
    """The server's own, as it was."""


class StillOpen(Exception):
    """A person was asked, and has not answered yet."""


def log_in_asked(server: str, tool: str, url: str, asked: Mapping[str, Any]) -> Login:
    """What a person is asked where a server asks who calls it. `asked` is what was put down."""
    status, challenge = asked.get("status"), asked.get("challenge")
    more = "asks for more than you have allowed" if status == FORBIDDEN else "asks who calls it"
    return Login(
        text=f"The MCP server {server!r} {more}, before it carries out {tool!r}:\n\nSign in at {url}",
        choices=[SIGNED_IN],
        own_words=False,
        url=resource_of(url),
        status=status if isinstance(status, int) else UNAUTHORIZED,
        challenge=challenge[:MAX_CHALLENGE_CHARACTERS] if isinstance(challenge, str) else "",
        key=str(asked.get("key", "")),
    )


def person_asked(server: str, tool: str, params: Mapping[str, Any]) -> PersonAsked:
    """What a person is asked for an `elicitation/create`.

    Raises:
        AnswerRefused: that cannot be asked.
    """
    message = params.get("message")
    if not isinstance(message, str) or not message.strip() or len(message) > MAX_MESSAGE_CHARACTERS:
        raise AnswerRefused(f"message must have 1 to {MAX_MESSAGE_CHARACTERS} characters")
    said = f"The MCP server {server!r} asks, while it carries out {tool!r}:\n\n{message}"
    if params.get("mode", "form") == "url":
        url = params.get("url")
        if not isinstance(url, str) or len(url) > MAX_URL_CHARACTERS or not _URL.fullmatch(url):
            raise AnswerRefused("url must be an http or https address")
        warning = "It wants you to open this page, which nobody has opened for you. Look at whose it is:"
        text = f"{said}\n\n{warning}\n{url}"
        question = Question(text=text, choices=[DONE], own_words=False)
        return PersonAsked(question, {"type": "string", "enum": [DONE]}, is_form=False)
    schema = _form(params.get("requestedSchema"))
    return PersonAsked(Question(text=said), schema, is_form=True)


def _form(schema: Any) -> dict[str, JsonValue]:
    if not isinstance(schema, dict):
        raise AnswerRefused("requestedSchema must be an object")
    fields = cast("dict[str, Any]", schema)
    if fields.get("type") != "object" or not isinstance(fields.get("properties"), dict):
        raise AnswerRefused('requestedSchema must be of "type": "object" with properties')
    try:
        return check_schema(cast("dict[str, JsonValue]", _without_notes(fields, 0)))
    except ValueError as error:
        raise AnswerRefused(f"requestedSchema cannot be asked for: {error}") from error


def _without_notes(schema: Any, depth: int) -> Any:
    if not isinstance(schema, dict) or depth > 8:
        return cast("Any", schema)
    kept = {k: v for k, v in cast("dict[str, Any]", schema).items() if k not in _NOT_FOR_US}
    properties = kept.get("properties")
    if isinstance(properties, dict):
        inner = cast("dict[str, Any]", properties)
        kept["properties"] = {name: _without_notes(each, depth + 1) for name, each in inner.items()}
    if "items" in kept:
        kept["items"] = _without_notes(kept["items"], depth + 1)
    return kept


@dataclass(frozen=True)
class SampledPart:
    """A piece of what a server wants to say to a model: a text, or a picture or sound."""

    text: str = ""
    media_type: str | None = None
    content: bytes = b""


@dataclass(frozen=True)
class ModelAsked:
    """What a model is asked for a `sampling/createMessage`."""

    system: str | None
    messages: Sequence[tuple[bool, Sequence[SampledPart]]]
    """Whether the model said it, and what."""
    max_tokens: int
    temperature: float | None
    stop: list[str]


def model_asked(params: Mapping[str, Any]) -> ModelAsked:
    """What the model is asked.

    Raises:
        AnswerRefused: that cannot be asked.
    """
    if params.get("tools"):
        raise AnswerRefused("tools are not offered to the model that is asked for a server")
    messages, room = list[tuple[bool, Sequence[SampledPart]]](), MAX_SAMPLED_CHARACTERS
    given = params.get("messages")
    if not isinstance(given, list) or not 0 < len(cast("list[Any]", given)) <= MAX_SAMPLED_MESSAGES:
        raise AnswerRefused(f"messages must be 1 to {MAX_SAMPLED_MESSAGES}")
    for each in cast("list[Any]", given):
        fields = cast("dict[str, Any]", each) if isinstance(each, dict) else {}
        content = fields.get("content")
        blocks = cast("list[Any]", content) if isinstance(content, list) else [content]
        parts = [_sampled(block) for block in blocks]
        room -= sum(len(part.text) for part in parts)
        messages.append((fields.get("role") == "assistant", parts))
    system = params.get("systemPrompt")
    room -= len(system) if isinstance(system, str) else 0
    if room < 0:
        raise AnswerRefused(f"messages have more than {MAX_SAMPLED_CHARACTERS} characters together")
    if messages[-1][0]:
        raise AnswerRefused("the last of messages must be the user's")
    tokens, temperature, stop = (params.get(key) for key in ("maxTokens", "temperature", "stopSequences"))
    is_warm = isinstance(temperature, int | float) and 0 <= temperature <= 2
    return ModelAsked(
        system=system if isinstance(system, str) else None,
        messages=messages,
        max_tokens=min(max(tokens, 1), MAX_SAMPLED_TOKENS) if isinstance(tokens, int) else MAX_SAMPLED_TOKENS,
        temperature=float(cast("float", temperature)) if is_warm else None,
        stop=[str(each)[:100] for each in cast("list[Any]", stop)[:4]] if isinstance(stop, list) else [],
    )


def _sampled(block: Any) -> SampledPart:
    fields = cast("dict[str, Any]", block) if isinstance(block, dict) else {}
    kind, text, data = fields.get("type"), fields.get("text"), fields.get("data")
    if kind == "text" and isinstance(text, str):
        return SampledPart(text=text)
    if kind in ("image", "audio") and isinstance(data, str):
        try:
            content = base64.b64decode(data, validate=True)
        except (binascii.Error, ValueError) as error:
            raise AnswerRefused("a picture or sound is not valid base64") from error
        if len(content) <= MAX_SAMPLED_FILE_BYTES:
            return SampledPart(media_type=str(fields.get("mimeType", "")), content=content)
    raise AnswerRefused("messages hold something else than texts, pictures and sounds of at most 5 MiB")
