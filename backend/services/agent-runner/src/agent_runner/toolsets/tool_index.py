"""Ranks tools by the words of a search. Pure: the same tools and words give the same names, in one order."""

import functools
import math
import re
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

MAX_QUERY_CHARACTERS: Final = 1000
"""Of all queries of a search together."""
_NAME_WEIGHT: Final = 3.0
_DESCRIPTION_WEIGHT: Final = 1.0
_PARAMETER_WEIGHT: Final = 0.5
_SATURATION: Final = 1.2
"""How soon a word that is repeated counts no more (k1 of BM25)."""
_LENGTH_SHARE: Final = 0.5
"""How much a long text counts against its words (b of BM25)."""
_WORD: Final = re.compile(r"[^\W_]+")
_HUMP: Final = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
_ENDINGS: Final = (
    *("ations", "ation", "ings", "ing", "ies", "ied", "ers"),
    *("ed", "es", "er", "or", "s", "e", "y"),
)
"""Longest first where one ends with another."""
_LEAST_STEM: Final = 3


@dataclass(frozen=True)
class IndexedTool:
    """What is known of a tool."""

    name: str
    """As a model calls it."""
    own_name: str
    """As its server or document calls it."""
    description: str
    parameters: tuple[str, ...]
    """Names of its arguments."""


class ToolIndex:
    """Finds tools by words, as BM25 ranks texts: a rare word weighs more, and one in a name most."""

    def __init__(self, tools: Sequence[IndexedTool]) -> None:
        self._names = [tool.name for tool in tools]
        self._own_names = [{tool.name.casefold(), tool.own_name.casefold()} for tool in tools]
        weights = [_weights_of(tool) for tool in tools]
        lengths = [sum(each.values()) for each in weights]
        average = sum(lengths) / len(lengths) if lengths else 1.0
        self._postings = dict[str, list[tuple[int, float]]]()
        for place, (words, length) in enumerate(zip(weights, lengths, strict=True)):
            damping = _SATURATION * (1 - _LENGTH_SHARE + _LENGTH_SHARE * length / average)
            for word, weight in words.items():
                score = weight * (_SATURATION + 1) / (weight + damping)
                self._postings.setdefault(word, []).append((place, score))

    def find(self, queries: Sequence[str], most: int, *, last: Collection[str] = ()) -> list[str]:
        """Names of at most so many tools, the best one first; those of `last` stand behind the others."""
        text = " ".join(queries)[:MAX_QUERY_CHARACTERS]
        scores = defaultdict[int, float](float)
        for word in dict.fromkeys(words_of(text)):
            postings = self._postings.get(word, [])
            rarity = math.log(1 + (len(self._names) - len(postings) + 0.5) / (len(postings) + 0.5))
            for place, score in postings:
                scores[place] += score * rarity
        wanted = {each.casefold() for query in queries for each in (query, *query.split())}
        for place, names in enumerate(self._own_names):
            if names & wanted:
                scores[place] += 1000.0
        ranked = sorted(scores, key=lambda place: (self._names[place] in last, -scores[place], place))
        return [self._names[place] for place in ranked[:most]]


def words_of(text: str) -> list[str]:
    """The words of a text or of a name such as `listPullRequests`, without their endings."""
    return [_stem(word.casefold()) for word in _WORD.findall(_HUMP.sub(" ", text))]


def _weights_of(tool: IndexedTool) -> Mapping[str, float]:
    weights = defaultdict[str, float](float)
    for text, weight in (
        (tool.name, _NAME_WEIGHT),
        (tool.description, _DESCRIPTION_WEIGHT),
        (" ".join(tool.parameters), _PARAMETER_WEIGHT),
    ):
        for word in words_of(text):
            weights[word] += weight
    return weights


@functools.lru_cache(maxsize=4096)
def _stem(word: str) -> str:
    if not word.isascii():
        return word
    for ending in _ENDINGS:
        if word.endswith(ending) and len(word) - len(ending) >= _LEAST_STEM:
            return word.removesuffix(ending)
    return word
