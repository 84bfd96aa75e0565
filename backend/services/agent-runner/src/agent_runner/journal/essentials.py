"""What of a conversation survives a compaction by construction, whatever a summary says or leaves out.

The person's words, what the agent told the person, what was refused and why, which files were changed, and
which tools a search found are taken from the messages themselves, and carried on by each compaction. Pure.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Final, Literal, cast

from pydantic import BaseModel, JsonValue
from pydantic_ai.messages import (
    ModelMessage,
    ModelRequest,
    ModelResponse,
    TextContent,
    TextPart,
    ToolAvailabilityDeltaPart,
    ToolCallPart,
    ToolReturnPart,
    ToolSearchReturnPart,
    UserPromptPart,
)

from agent_runner.journal.context_size import text_of
from agent_runner.models import standing_note, told_in
from agent_runner.models.notes import is_message
from agent_runner.toolsets import cut_middle
from agent_runner.toolsets.ask_user import ASK_TOOL
from agent_runner.toolsets.wait import WAIT_TOOL

COMPACTED: Final = "stigmer_compacted"
"""Key in the metadata of the text that stands in the place of what was dropped."""
ASKS_PERSON: Final = ASK_TOOL
"""The tool whose results are the person's words."""
MESSAGE_CAME: Final = "A message came:"
"""How a result of the tool `wait` begins that holds the person's words."""
FILE_TOOLS: Final = frozenset({"write_file", "edit_file", "create_directory"})

MAX_AGENT_CHARACTERS: Final = 2000
"""Of one answer of the agent's to the person."""
MAX_REFUSAL_CHARACTERS: Final = 1000
MAX_FILES: Final = 300
_LEAST_CHARACTERS: Final = 200
"""So much of each of the person's words remains, however many there are."""
_CUT: Final = "the log has all of it"


class Said(BaseModel):
    """Words of the person, or of the agent to the person."""

    by: Literal["person", "agent"]
    text: str


class Essentials(BaseModel):
    """What was taken from messages that are no longer shown. A field that is added has to have a default."""

    said: list[Said] = []
    refused: list[str] = []
    files: list[str] = []
    found: list[str] = []
    """Names of tools, by the first search that found them: the model goes on with them."""
    summary: str | None = None
    told: JsonValue = None
    """What notes had told by then, as `models.notes` keeps it."""

    def extended(self, messages: Sequence[ModelMessage]) -> "Essentials":
        """These and those of further messages."""
        return _Reader(self).read(messages)

    def bounded(self, characters: int) -> "Essentials":
        """The same in at most about so many characters: the longest of the words are cut in the middle, and
        the person's last of all."""
        agent = characters // 5
        said = _fit(self.said, "agent", min(agent, sum(map(_size_of_agent, self.said))))
        refused = _newest(self.refused, characters // 8)
        files = list(reversed(_newest(list(reversed(self.files))[:MAX_FILES], characters // 8)))
        rest = characters - sum(len(each.text) for each in said if each.by == "agent")
        rest -= sum(map(len, refused)) + sum(map(len, files))
        said = _fit(said, "person", max(rest, characters // 2))
        return self.model_copy(update={"said": said, "refused": refused, "files": files})


def essentials_in(part: object) -> Essentials | None:
    """Those that a part carries; None: it is not the one that stands in the place of what was dropped."""
    if not isinstance(part, UserPromptPart) or isinstance(part.content, str):
        return None
    [first, *_] = part.content or [""]
    metadata = cast("object", first.metadata) if isinstance(first, TextContent) else None
    carried = cast("dict[str, object]", metadata).get(COMPACTED) if isinstance(metadata, dict) else None
    return None if carried is None else Essentials.model_validate(carried)


def holds_words(part: object) -> bool:
    """Whether a tool's result is what the person said."""
    if not isinstance(part, ToolReturnPart):
        return False
    came = part.tool_name == WAIT_TOOL and text_of(cast("object", part.content)).startswith(MESSAGE_CAME)
    return came or part.tool_name == ASKS_PERSON


def standing_part(text: str, essentials: Essentials, at: datetime) -> UserPromptPart:
    """The part that stands in the place of what was dropped."""
    carried = cast("dict[str, JsonValue]", essentials.model_dump(mode="json"))
    return standing_note(text, carried.pop("told") or {}, {COMPACTED: carried}, at)


def render(essentials: Essentials, problem: str | None) -> str:
    """What the model reads in the place of what was dropped.

    Args:
        problem: why there is no summary, where one was asked for.
    """
    blocks = [
        "[Note of the program that runs you, not of the person: the conversation outgrew the context window, "
        "so its beginning is no longer shown. What follows is kept of it. Results of tools are gone: read "
        "files again where you need them, and look at the present state before you repeat anything.]"
    ]
    if essentials.said:
        lines = [
            f'<{each.by} number="{number}">\n{_closed(each.text)}\n</{each.by}>'
            for number, each in enumerate(essentials.said, 1)
        ]
        blocks.append(
            "What the person said, word for word, and what you told the person, in order. What the person "
            "said holds until the person says otherwise; the last of it is the present task, unless more "
            "follows below.\n" + "\n".join(lines)
        )
    if essentials.refused:
        lines = [f"- {each}" for each in essentials.refused]
        blocks.append("Calls that were refused, and why; do not make them again:\n" + "\n".join(lines))
    if essentials.files:
        lines = [f"- {each}" for each in essentials.files]
        blocks.append("Files that you changed with the file tools so far:\n" + "\n".join(lines))
    if essentials.summary:
        blocks.append(
            "Your own summary of the work so far, which may be wrong or leave things out:\n<summary>\n"
            f"{_closed(essentials.summary)}\n</summary>"
        )
    elif problem is not None:
        blocks.append(f"There is no summary of the work so far: {problem}.")
    return "\n\n".join(blocks)


def _closed(text: str) -> str:
    """A text that cannot end the block that it stands in."""
    for name in ("person", "agent", "summary"):
        text = text.replace(f"</{name}", f"<\\/{name}")
    return text


class _Reader:
    """Takes the essentials out of messages, one after the other."""

    def __init__(self, known: Essentials) -> None:
        self._said, self._refused = list(known.said), list(known.refused)
        self._files, self._summary, self._told = dict.fromkeys(known.files), known.summary, known.told
        self._found = dict.fromkeys(known.found)
        self._calls: dict[str, ToolCallPart] = {}
        self._words: str | None = None

    def read(self, messages: Sequence[ModelMessage]) -> Essentials:
        for message in messages:
            if isinstance(message, ModelResponse):
                self._read_answer(message)
            else:
                self._read_request(message)
        self._tell_words()
        return Essentials(
            said=self._said,
            refused=list(dict.fromkeys(self._refused)),
            files=list(self._files),
            found=list(self._found),
            summary=self._summary,
            told=self._told,
        )

    def _read_answer(self, message: ModelResponse) -> None:
        text = "\n".join(part.content for part in message.parts if isinstance(part, TextPart))
        calls = [part for part in message.parts if isinstance(part, ToolCallPart)]
        self._calls = {call.tool_call_id: call for call in calls}
        for call in calls:
            if call.tool_name == ASKS_PERSON:
                self._said.append(Said(by="agent", text=_cut(call.args_as_json_str(), MAX_AGENT_CHARACTERS)))
        # An answer without a call is one to the person.
        self._words = None if calls or not text.strip() else text

    def _read_request(self, message: ModelRequest) -> None:
        has_results = any(isinstance(part, ToolReturnPart) for part in message.parts)
        for part in message.parts:
            if isinstance(part, ToolSearchReturnPart):
                self._found.update(dict.fromkeys(each["name"] for each in part.discovered_tools))
            elif isinstance(part, ToolAvailabilityDeltaPart):
                self._found.update(dict.fromkeys(part.tools_added))
            elif isinstance(part, ToolReturnPart):
                self._read_result(part)
            elif isinstance(part, UserPromptPart):
                self._read_words(part, is_beside_results=has_results)

    def _read_words(self, part: UserPromptPart, *, is_beside_results: bool) -> None:
        if (earlier := essentials_in(part)) is not None:
            self._said = [*earlier.said, *self._said]
            self._refused = [*earlier.refused, *self._refused]
            self._files = dict.fromkeys([*earlier.files, *self._files])
            self._found = dict.fromkeys([*earlier.found, *self._found])
            self._summary = earlier.summary or self._summary
        if (told := told_in(part)) is not None:
            self._told = cast("JsonValue", told) or self._told
            return
        # Beside results a list is what a tool shows, such as a picture.
        if is_beside_results and not (isinstance(part.content, str) or is_message(part)):
            return
        self._tell_words()
        self._said.append(Said(by="person", text=text_of(part.content)))

    def _tell_words(self) -> None:
        if self._words is not None:
            self._said.append(Said(by="agent", text=_cut(self._words, MAX_AGENT_CHARACTERS)))
        self._words = None

    def _read_result(self, part: ToolReturnPart) -> None:
        call = self._calls.get(part.tool_call_id)
        if holds_words(part):
            self._said.append(Said(by="person", text=text_of(part.content)))
        elif part.outcome == "denied":
            arguments = "" if call is None else _cut(call.args_as_json_str(), MAX_REFUSAL_CHARACTERS // 2)
            reason = _cut(text_of(part.content), MAX_REFUSAL_CHARACTERS)
            self._refused.append(f"{part.tool_name} {arguments}: {reason}".replace("\n", " "))
        elif call is not None and part.tool_name in FILE_TOOLS and part.outcome == "success":
            path = _arguments(call).get("path")
            if isinstance(path, str):
                # The one that was changed last stands last.
                self._files.pop(path, None)
                self._files[path] = None


def _arguments(call: ToolCallPart) -> dict[str, object]:
    try:
        return cast("dict[str, object]", call.args_as_dict())
    except ValueError:
        return {}


def _cut(text: str, characters: int) -> str:
    return cut_middle(text, max(characters, _LEAST_CHARACTERS), _CUT)


def _size_of_agent(said: Said) -> int:
    return len(said.text) if said.by == "agent" else 0


def _newest(texts: Sequence[str], characters: int) -> list[str]:
    """The last of the texts that fit, the very last in any case."""
    kept: list[str] = []
    for text in reversed(texts):
        characters -= len(text)
        if characters < 0 and kept:
            break
        kept.append(text)
    return kept[::-1]


def _fit(said: Sequence[Said], by: Literal["person", "agent"], characters: int) -> list[Said]:
    """The words, those of one side cut so that they have at most so many characters together."""
    sizes = sorted(len(each.text) for each in said if each.by == by)
    if sum(sizes) <= characters:
        return list(said)
    longest, rest = 0, characters
    for place, size in enumerate(sizes):
        share = rest // (len(sizes) - place)
        if size > share:
            longest = share
            break
        rest -= size
        longest = size
    return [
        each.model_copy(update={"text": _cut(each.text, longest)}) if each.by == by else each for each in said
    ]
