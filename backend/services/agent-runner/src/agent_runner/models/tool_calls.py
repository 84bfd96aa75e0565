"""Puts the tool calls of one answer together from their pieces, and makes of them what can be sent back.

Servers differ in what names a call (index, id, both, or neither), in whether names and arguments come once,
in pieces or again and again, and in what else stands in them.
"""

import json
import math
import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from typing import Final, cast
from uuid import uuid4

from pydantic_core import from_json

from agent_runner.models.event_stream import JsonObject, parse_json

MAX_NAME_CHARACTERS: Final = 64
UNNAMED_TOOL: Final = "unnamed"
"""What a call without any name is taken to call; the model is told that there is no such tool."""

_NAME: Final = re.compile(r"[a-zA-Z0-9_-]{1,64}")
_NOT_OF_A_NAME: Final = re.compile(r"[^a-zA-Z0-9_-]+")
_ID: Final = re.compile(r"[a-zA-Z0-9_-]{1,64}")
_SPECIAL_TOKEN: Final = re.compile(r"<[|｜].*", re.DOTALL)
_RECIPIENT: Final = re.compile(r"\bto=([\w.-]+)")
_FENCE: Final = "```"
MAX_WRAPPINGS: Final = 4
"""How often arguments are looked for in what quotes or fences them."""
_NOTHING: Final = frozenset({"", "null", "None", "undefined", "{}"})


@dataclass(frozen=True)
class Call:
    """A whole tool call."""

    call_id: str
    name: str
    arguments: str
    """JSON of an object; or, where it could not be read as one, what the model wrote."""
    extra: JsonObject | None = None
    """What the provider wants back with it, untouched: Gemini's thought signature."""
    item_id: str | None = None
    """The id of its item, in the Responses API."""


@dataclass
class CallDraft:
    """A call whose pieces are still coming."""

    index: object = None
    call_id: str = ""
    name: str = ""
    pieces: list[str] = field(default_factory=list[str])
    extra: JsonObject | None = None
    item_id: str | None = None

    @property
    def is_whole(self) -> bool:
        """Whether its arguments are a JSON object already."""
        text = "".join(self.pieces).strip()
        return text.endswith("}") and isinstance(parse_json(text), dict)


class CallDrafts:
    """The calls of one answer, in the order in which they began."""

    def __init__(self, known_names: Collection[str]) -> None:
        """`known_names` are the tools that the model was offered."""
        self._known = known_names
        self.drafts: list[CallDraft] = []

    def take(
        self, index: object, call_id: str, name: str, arguments: object, extra: JsonObject | None = None
    ) -> None:
        """A piece of a call. `arguments` is text, an object, or None."""
        text = text_of_arguments(arguments)
        draft = self._draft_for(index, call_id, name, text)
        if draft is None:
            return
        draft.call_id = draft.call_id or call_id
        draft.name = self._joined_name(draft.name, name)
        draft.extra = extra or draft.extra
        if text:
            draft.pieces.append(text)

    def _draft_for(self, index: object, call_id: str, name: str, text: str) -> CallDraft | None:
        """The call that the piece belongs to; None where it says nothing new."""
        candidates = self.drafts
        if index is not None:
            candidates = [draft for draft in candidates if draft.index == index]
        elif call_id:
            candidates = [draft for draft in candidates if draft.call_id == call_id]
        draft = candidates[-1] if candidates else None
        if draft is not None and call_id and draft.call_id and call_id != draft.call_id:
            draft = None
        if draft is not None and name and draft.name and draft.pieces and draft.is_whole:
            if not text or text.strip() == "".join(draft.pieces).strip():
                return None if name == draft.name else self._new(index)
            draft = None if isinstance(parse_json(text), dict) or name != draft.name else draft
        return draft or self._new(index)

    def _new(self, index: object) -> CallDraft:
        draft = CallDraft(index)
        self.drafts.append(draft)
        return draft

    def _joined_name(self, before: str, piece: str) -> str:
        """Most servers send a name once, some in every piece, few in pieces."""
        if not piece or piece == before:
            return before
        if not before or piece.startswith(before):
            return piece
        return before if before in self._known and before + piece not in self._known else before + piece


def finished_calls(
    drafts: Iterable[CallDraft], known_names: Collection[str], used_ids: set[str]
) -> list[Call]:
    """The calls as they are carried out and sent back. `used_ids` are those of the conversation so far, and
    are added to."""
    calls: list[Call] = []
    for draft in drafts:
        for arguments in whole_arguments(draft.pieces):
            calls.append(
                Call(
                    _unused_id(draft.call_id, used_ids),
                    tool_name(draft.name, known_names),
                    arguments,
                    draft.extra,
                    draft.item_id,
                )
            )
    return calls


def tool_name(name: str, known_names: Collection[str]) -> str:
    """The tool that is meant, or the name in letters that every provider takes back.

    Models leak their template into names: `run_command<|channel|>commentary`, `functions.run_command:0`.
    """
    if name in known_names:
        return name
    bare = _SPECIAL_TOKEN.sub("", name).strip().strip("\"'`").removesuffix("()").strip()
    recipient = _RECIPIENT.search(name)
    candidates = [bare, *([recipient.group(1)] if recipient else [])]
    candidates += [re.split(r"[.:/]", candidate)[-1] for candidate in candidates]
    candidates += [re.split(r"[.:/]", re.sub(r":\d+$", "", candidate))[-1] for candidate in candidates]
    candidates += [candidate.partition("(")[0].strip() for candidate in candidates]
    folded = {_folded(known): known for known in sorted(known_names, reverse=True)}
    for candidate in candidates:
        if candidate in known_names:
            return candidate
    for candidate in candidates:
        if (known := folded.get(_folded(candidate))) is not None:
            return known
    kept = _NOT_OF_A_NAME.sub("_", bare or name).strip("_")[:MAX_NAME_CHARACTERS]
    return kept if _NAME.fullmatch(kept) else UNNAMED_TOOL


def _folded(name: str) -> str:
    return _NOT_OF_A_NAME.sub("", name).replace("-", "").replace("_", "").lower()


def _unused_id(call_id: str, used: set[str]) -> str:
    """The provider's id where it can be; else one that no call of the conversation has."""
    wanted = call_id if _ID.fullmatch(call_id) else _NOT_OF_A_NAME.sub("_", call_id)[:56].strip("_")
    if not wanted:
        wanted = f"call_{uuid4().hex[:24]}"
    unused, number = wanted, 1
    while unused in used:
        number += 1
        unused = f"{wanted[:56]}_{number}"
    used.add(unused)
    return unused


def whole_arguments(pieces: list[str]) -> list[str]:
    """The arguments of a call as JSON, for each call that its pieces turn out to hold: nearly always one."""
    text = "".join(pieces).strip()
    if text in _NOTHING:
        return ["{}"]
    found = _objects_in(text)
    if not found and len(pieces) > 1:
        # Some servers send all of it again with each piece, or once more at the end.
        found = _objects_in(pieces[-1].strip())
    if not found:
        return [text]
    unique: list[str] = []
    for each in found:
        if each not in unique:
            unique.append(each)
    return unique


def _objects_in(text: str, wrappings: int = MAX_WRAPPINGS) -> list[str]:
    """The JSON objects that a text consists of, as JSON; none where it is something else."""
    value = parse_json(text)
    if isinstance(value, str):
        value = parse_json(value)  # encoded twice
    if isinstance(value, list) and len(value) == 1:  # pyright: ignore[reportUnknownArgumentType] - JSON
        value = cast("list[object]", value)[0]
    if isinstance(value, dict):
        return [_as_json(text, cast("JsonObject", value))]
    # Not by a pattern: what a model says may be spaces for the most part.
    if text.startswith(_FENCE) and text.endswith(_FENCE) and len(text) >= 2 * len(_FENCE) and wrappings:
        inner = text[len(_FENCE) : -len(_FENCE)].removeprefix("json").strip()
        return _objects_in(inner, wrappings - 1)
    return _objects_in_a_row(text)


def _objects_in_a_row(text: str) -> list[str]:
    """Objects one after the other, or one with a leaked token before or behind it."""
    decoder, found, place = json.JSONDecoder(strict=False), list[str](), 0
    while (start := text.find("{", place)) >= 0 and len(found) < 100:
        if text[place:start].strip() and _SPECIAL_TOKEN.match(text[place:start].strip()) is None:
            return []
        try:
            value, place = decoder.raw_decode(text, start)
        except (ValueError, RecursionError):
            return []
        found.append(_as_json("", value))
    rest = text[place:].strip()
    return found if not rest or _SPECIAL_TOKEN.match(rest) or not rest.strip("}]") else []


def _as_json(text: str, value: object) -> str:
    """The text itself where every reader of JSON takes it; else the value, written anew."""
    # Its own text keeps the conversation's bytes the same for the provider's cache.
    if text and "\\u0000" not in text and _is_strict(text):
        return text
    return json.dumps(_clean(value), ensure_ascii=False, allow_nan=False)


def _is_strict(text: str) -> bool:
    try:
        return isinstance(from_json(text, allow_inf_nan=False), dict)
    except ValueError:
        return False


def _clean(value: object) -> object:
    """The value without half surrogates, NUL, and what are no numbers in JSON."""
    if isinstance(value, str):
        return whole_text(value)
    if isinstance(value, list):
        return [_clean(item) for item in cast("list[object]", value)]
    if isinstance(value, dict):
        return {whole_text(key): _clean(item) for key, item in cast("dict[str, object]", value).items()}
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def whole_text(text: str) -> str:
    """The text with pairs of surrogates joined, half ones replaced, and no NUL, which databases refuse."""
    if text.isascii():
        return text.replace("\x00", "\ufffd") if "\x00" in text else text
    try:
        text.encode()
    except UnicodeEncodeError:
        text = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text.replace("\x00", "\ufffd") if "\x00" in text else text


def text_of_arguments(arguments: object) -> str:
    """Arguments as the text of JSON; empty where there are none."""
    if arguments is None:
        return ""
    return arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False)
