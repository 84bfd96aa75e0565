"""What executions can be found by: prompts, messages, answers, the agent and ids. Never what tools gave.

A text is taken apart here, into words, so that both databases find the same: FTS5 of SQLite and GIN of
PostgreSQL only look terms up. What is written without spaces, as Chinese, Japanese and Thai are, is taken
apart into single characters and pairs, so that a word of two characters is found wherever it stands. Terms
are ASCII to the letter: no database has an opinion on them.
"""

import json
import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, and_, false, literal_column, select, text

from stigmer_contract.events import (
    Event,
    ExecutionCompleted,
    ExecutionStarted,
    InlinePayload,
    MessageReceived,
    ModelResponded,
    Payload,
    UnknownEvent,
)
from stigmer_server.execution_state import ExecutionState
from stigmer_server.tables import executions, search_documents

READ_CHARACTERS: Final = 20_000
"""Of a text; what comes behind is not found."""
MOST_TERMS: Final = 4_000
MOST_WORDS: Final = 8
"""Of a search."""
MOST_WORD_CHARACTERS: Final = 64
FEW_DOCUMENTS: Final = 1000
"""PostgreSQL looks up what fewer hold, and of what more hold reads one execution after the other."""
SHOWN_ID_CHARACTERS: Final = 6
"""By so many of its last characters people know an id."""
_WORDS: Final = re.compile(r"[^\W_]+")
_UNSPACED: Final = re.compile(
    "([\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af"
    "\uf900-\ufaff\U00020000-\U0003134f]+)"
)


@dataclass(slots=True)
class SearchRows:
    """What the events of one transaction add."""

    rows: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])

    def note(self, state: ExecutionState, sequence: int, event: Event) -> None:
        """Take in an event that is being written."""
        terms = terms_of_event(state.execution_id, state.session_id, state.input_head, event)
        if terms:
            self.rows.append(
                {
                    "execution_id": state.execution_id,
                    "session_id": state.session_id,
                    "sequence": sequence,
                    "terms": " ".join(terms),
                }
            )

    def write(self, connection: Connection) -> None:
        """Write down what has been added."""
        if self.rows:
            connection.execute(search_documents.insert(), self.rows)


def terms_of_event(
    execution_id: str, session_id: str, input_head: str | None, event: Event | UnknownEvent
) -> list[str]:
    """What an event can be found by; empty: it cannot. The head stands for an input that is not at hand."""
    match event:
        case ExecutionStarted(agent_name=agent_name, input=payload):
            said = _text_of(payload) or input_head or ""
            ends = (each[-SHOWN_ID_CHARACTERS:] for each in (execution_id, session_id))
            return terms_of(" ".join((agent_name, execution_id, session_id, *ends, said)))
        case MessageReceived(message=payload):
            return terms_of(_text_of(payload))
        case ModelResponded(response=payload):
            return terms_of(_answer_of(payload))
        case ExecutionCompleted(output=InlinePayload(value=value)) if not isinstance(value, str):
            return terms_of(json.dumps(value, ensure_ascii=False))
        case _:
            return []


def terms_of(said: str) -> list[str]:
    """The terms of a text, each once, in the order in which they come first."""
    found = dict[str, None]()
    for word in _words_of(said):
        if _UNSPACED.match(word):
            found.update(dict.fromkeys(map(_encode, word)))
            found.update(dict.fromkeys(_pairs(word)))
        else:
            found[_encode(word[:MOST_WORD_CHARACTERS])] = None
        if len(found) >= MOST_TERMS:
            break
    return list(found)


def search_condition(connection: Connection, said: str) -> ColumnElement[bool]:
    """The condition on `executions` that each word of a search stands in something that was said in it.

    Words may be left unfinished: `depl` finds `deployment`.
    """
    words = list(dict.fromkeys(_words_of(said)))[:MOST_WORDS]
    if not words:
        return false()
    return and_(*(_is_found(connection, word) for word in words))


def _is_found(connection: Connection, word: str) -> ColumnElement[bool]:
    if _UNSPACED.match(word):
        terms, ending = (_pairs(word) if len(word) > 1 else [_encode(word)]), ""
    else:
        terms, ending = [_encode(word[:MOST_WORD_CHARACTERS])], "*"
    documents = search_documents.c
    # Terms are letters and digits: there is nothing in them that a query of either kind would read otherwise.
    if connection.dialect.name == "postgresql":
        query = " & ".join(f"'{term}':*" if ending else f"'{term}'" for term in terms)
        is_match = text("array_to_tsvector(string_to_array(terms, ' ')) @@ CAST(:query AS tsquery)")
        found = select(documents.execution_id).where(is_match.bindparams(query=query))
        # It cannot tell a rare beginning of a word from a frequent one, and would take every document apart.
        first = connection.execute(found.limit(FEW_DOCUMENTS)).scalars().all()
        if len(first) < FEW_DOCUMENTS:
            return executions.c.execution_id.in_(set(first))
    else:
        query = " AND ".join(f'"{term}"{ending}' for term in terms)
        rows = text("SELECT rowid FROM search_index WHERE search_index MATCH :query").bindparams(query=query)
        found = select(documents.execution_id).where(
            documents.document_id.in_(rows.columns(literal_column("rowid")).scalar_subquery())
        )
    return executions.c.execution_id.in_(found)


def _words_of(said: str) -> Iterable[str]:
    folded = unicodedata.normalize("NFKC", said[:READ_CHARACTERS]).casefold()
    for match in _WORDS.finditer(folded):
        yield from (part for part in _UNSPACED.split(match[0]) if part)


def _pairs(word: str) -> list[str]:
    return [_encode(word[place : place + 2]) for place in range(len(word) - 1)]


def _encode(word: str) -> str:
    """In ASCII, character by character, so that what begins alike still begins alike."""
    if word.isascii():
        return word
    return "".join(one if one.isascii() else f"z{ord(one):x}z" for one in word)


def _text_of(payload: Payload) -> str:
    value = payload.value if isinstance(payload, InlinePayload) else None
    return value if isinstance(value, str) else ""


def _answer_of(payload: Payload) -> str:
    answer = payload.value if isinstance(payload, InlinePayload) else None
    parts = answer.get("parts") if isinstance(answer, dict) else None
    if not isinstance(parts, list):
        return ""
    texts = (part.get("text") for part in parts if isinstance(part, dict) and part.get("kind") == "text")
    return "\n".join(said for said in texts if isinstance(said, str))
