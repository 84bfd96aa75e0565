"""What leaves a program: nothing that steers a terminal, and no line that passes for another."""

import json
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stigmer_contract.untrusted_text import escape_controls, escape_json, strip_controls

ANY_TEXT = st.text(alphabet=st.characters(), max_size=60)
"""Surrogates as well: Python reads them from file names."""
HOSTILE_TEXT = st.text(alphabet="\x1b\x9b\x9d[]0;2Jm\x07\\\r\n\tx\u202e\u2028\udcff", max_size=40)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain\ttext\n", "plain\ttext\n"),
        ("\x1b[31mred\x1b[0m", "red"),
        ("\x1b]0;title\x07after", "after"),
        ("\x1b]8;;https://example.org\x1b\\link\x1b]8;;\x1b\\", "link"),
        ("\x1bP1;2q…\x1b\\after", "after"),
        ("\x9b31mred", "red"),
        ("progress 1\rprogress 2", "progress 1\nprogress 2"),
        ("windows\r\nline", "windows\nline"),
        ("a\x08b\x00c\x7fd", "abcd"),
        ("\u202etxt.exe", "txt.exe"),
        ("\x1b[2J\x1b[H", ""),
        ("größe ✓ 日本", "größe ✓ 日本"),
        ("shown\x1b]hidden\nshown", "shown\nshown"),
        ("name-\udcff", "name-\ufffd"),
        ("a\u2028b", "a\nb"),
        ("\U000e0041\U000e0042seen", "seen"),
    ],
)
def test_untrusted_text_loses_what_steers_a_terminal(text: str, shown: str) -> None:
    assert strip_controls(text) == shown


@given(st.text(alphabet=st.characters(codec="utf-8")))
def test_nothing_that_steers_a_terminal_is_left(text: str) -> None:
    left = strip_controls(text)
    assert not any(ord(character) < 32 and character not in "\t\n" for character in left)
    assert not any(0x7F <= ord(character) < 0xA0 for character in left)
    assert strip_controls(left) == left


def steers(character: str) -> bool:
    """Whether a terminal does anything else with the character than showing it, as Unicode's tables say."""
    is_control = unicodedata.category(character) in {"Cc", "Cs", "Zl", "Zp"}
    is_bidi = unicodedata.bidirectional(character) in {
        *("LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"),
    }
    return (is_control and character not in "\t\n") or is_bidi


@given(ANY_TEXT | HOSTILE_TEXT)
def test_a_terminal_and_a_log_get_only_what_can_be_shown(text: str) -> None:
    assert not any(map(steers, strip_controls(text)))
    assert not any(map(steers, escape_controls(text)))


@given(ANY_TEXT | HOSTILE_TEXT)
def test_no_text_can_pass_for_another_entry_of_a_log(text: str) -> None:
    first, *rest = escape_controls(f"entry {text}").split("\n")
    assert first.startswith("entry ")
    assert all(line.startswith("    ") for line in rest)


@given(
    st.recursive(ANY_TEXT | HOSTILE_TEXT, lambda inner: st.dictionaries(ANY_TEXT, inner) | st.lists(inner))
)
def test_json_says_the_same_when_it_is_spelled_harmlessly(value: object) -> None:
    for indent in (None, 2):
        spelled = escape_json(json.dumps(value, ensure_ascii=False, indent=indent))
        assert json.loads(spelled) == value
        assert not any(map(steers, spelled))
