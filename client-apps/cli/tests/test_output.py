"""What reaches a terminal: nothing that steers it, and errors with their hint."""

import json

import pytest

from stigmer_cli.errors import StigmerError, UsageError
from stigmer_cli.output import print_error, print_json, print_line


def test_an_error_is_one_line_then_its_hint(capsys: pytest.CaptureFixture[str]) -> None:
    print_error(StigmerError("could not do 'x'", "do `y`"))
    print_error(UsageError("wrong \x1b[2Jflag"))
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == "error: could not do 'x'\n\nhint: do `y`\nerror: wrong flag\n"


def test_json_for_a_program_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    print_json({"name": "größe", "values": [1, None]})
    assert capsys.readouterr().out == '{"name": "größe", "values": [1, null]}\n'


def test_json_spells_out_what_would_steer_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    value = {"name\u202e": ["\x9b2J", "\x1b[2J", "\u2028", "größe"]}
    print_json(value)
    written = capsys.readouterr().out
    assert written == '{"name\\u202e": ["\\u009b2J", "\\u001b[2J", "\\u2028", "größe"]}\n'
    assert json.loads(written) == value


def test_a_line_of_data_cannot_steer_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    print_line("a\x1b[2Jb \udcff", mark="passed")
    assert capsys.readouterr().out == "passedab \ufffd\n"
