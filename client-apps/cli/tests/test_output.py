"""What reaches a terminal: nothing that steers it, and errors with their hint."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stigmer_cli.errors import StigmerError, UsageError
from stigmer_cli.output import print_error, print_json, sanitize


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
    ],
)
def test_untrusted_text_loses_what_steers_a_terminal(text: str, shown: str) -> None:
    assert sanitize(text) == shown


@given(st.text(alphabet=st.characters(codec="utf-8")))
def test_nothing_that_steers_a_terminal_is_left(text: str) -> None:
    left = sanitize(text)
    assert not any(ord(character) < 32 and character not in "\t\n" for character in left)
    assert not any(0x7F <= ord(character) < 0xA0 for character in left)
    assert sanitize(left) == left


def test_an_error_is_one_line_then_its_hint(capsys: pytest.CaptureFixture[str]) -> None:
    print_error(StigmerError("could not do 'x'", "do `y`"))
    print_error(UsageError("wrong \x1b[2Jflag"))
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == "error: could not do 'x'\n\nhint: do `y`\nerror: wrong flag\n"


def test_json_for_a_program_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    print_json({"name": "größe", "values": [1, None]})
    assert capsys.readouterr().out == '{"name": "größe", "values": [1, null]}\n'
