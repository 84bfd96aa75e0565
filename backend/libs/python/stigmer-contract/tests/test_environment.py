"""One reader of the environment for all programs: what is set, where a secret stands, what a value may be."""

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from stigmer_contract.environment import (
    Environment,
    VariableWrong,
    choice_of,
    integer_between,
    number_between,
    parse_address,
    parse_address_or_url,
    parse_boolean,
    parse_existing_file,
    parse_path,
    parse_paths,
    parse_url,
    under_present_names,
)
from stigmer_contract.isolation_words import FORMER_VARIABLES

PARSERS: list[Callable[[str], object]] = [
    choice_of(("debug", "info")),
    integer_between(0, 65535),
    integer_between(-5),
    number_between(0.1, 86_400),
    parse_address,
    parse_address_or_url,
    parse_boolean,
    parse_existing_file,
    parse_path,
    parse_paths,
    parse_url,
]


@pytest.mark.parametrize("parse", PARSERS)
@given(text=st.text())
@example(text="a" * 300)
def test_any_text_is_read_or_refused_in_one_line(parse: Callable[[str], object], text: str) -> None:
    try:
        parse(text)
    except ValueError as error:
        assert type(error) is ValueError
        assert len(str(error).splitlines()) == 1


@pytest.mark.parametrize("text", ["INFO", "info", "Info"])
def test_a_word_is_taken_in_any_case(text: str) -> None:
    assert choice_of(("debug", "info"))(text) == "info"


@pytest.mark.parametrize(
    ("text", "value"), [("true", True), ("True", True), ("1", True), ("FALSE", False), ("0", False)]
)
def test_truth_is_written_in_four_ways(text: str, value: bool) -> None:
    assert parse_boolean(text) is value


@pytest.mark.parametrize("text", ["٣", "1_000", " 1", "+1", "", "-", "9" * 5000])
def test_a_whole_number_is_ascii_digits(text: str) -> None:
    with pytest.raises(ValueError, match="is not a whole number from 0 up"):
        integer_between(0)(text)


def test_an_empty_variable_counts_as_unset() -> None:
    environment = Environment({"NAME": "  ", "KEY_FILE": ""})

    assert environment.text("NAME") is None
    assert environment.secret_text("KEY") is None
    assert environment.read("NAME", "7", integer_between(0)) == 7
    assert environment.optional("NAME", integer_between(0)) is None


def test_a_secret_stands_in_its_variable_or_in_a_file(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text("from-file\n")

    assert Environment({"KEY": "direct"}).secret_text("KEY") == "direct"
    assert Environment({"KEY_FILE": str(file)}).secret_text("KEY") == "from-file"
    assert Environment({"KEY_FILE": str(file)}).source_of_secret("KEY") == "KEY_FILE"


@pytest.mark.parametrize(
    ("content", "problem"),
    [(None, "could not read"), (b"", "is empty"), (b" \n", "is empty"), (b"\xff", "is not UTF-8 text")],
)
def test_a_file_without_a_secret_is_told(tmp_path: Path, content: bytes | None, problem: str) -> None:
    file = tmp_path / "key"
    if content is not None:
        file.write_bytes(content)

    with pytest.raises(VariableWrong, match=problem) as caught:
        Environment({"KEY_FILE": str(file)}).secret_text("KEY")

    assert caught.value.variable == "KEY_FILE"


def test_a_secret_in_both_places_is_refused_and_not_shown(tmp_path: Path) -> None:
    with pytest.raises(VariableWrong, match="is set beside KEY; keep one of them") as caught:
        Environment({"KEY": "s3cret", "KEY_FILE": str(tmp_path)}).secret_text("KEY")

    assert "s3cret" not in str(caught.value)


def test_a_wrong_value_names_its_variable() -> None:
    with pytest.raises(VariableWrong, match="PORT: 'x' is not a whole number from 1 to 65535"):
        Environment({"PORT": "x"}).read("PORT", "1", integer_between(1, 65535))


@pytest.mark.parametrize(("old", "present"), FORMER_VARIABLES.items())
def test_a_former_name_is_read_and_never_loosens_what_the_present_one_says(old: str, present: str) -> None:
    assert under_present_names({old: "require", "HOME": "/"}, FORMER_VARIABLES) == {
        present: "require",
        "HOME": "/",
    }
    both = {old: "require", present: "require"}
    assert under_present_names(both, FORMER_VARIABLES) == {present: "require"}
    assert under_present_names({old: " ", present: "warn"}, FORMER_VARIABLES) == {present: "warn"}
    with pytest.raises(VariableWrong, match=rf"^{old}: is called {present} now"):
        under_present_names({old: "off", present: "require"}, FORMER_VARIABLES)
