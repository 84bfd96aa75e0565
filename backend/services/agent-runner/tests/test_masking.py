"""Masking: however a text is cut, the same comes out, and no secret does."""

import base64
import json
import random
import re
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent_runner import masking
from agent_runner.masking import STEPS_OF_ANY_TEXT, STEPS_PER_CHARACTER, MaskedStream, Masker

VALUE = 'ghp_a1B2/c3+d4"e5 ü😀f6'
SMALL_ALPHABET = "ab%2Fu00\\n\n\"'/+ =ü"
"""So that texts often hold beginnings and spellings of secrets."""
SECRETS = st.lists(st.text(SMALL_ALPHABET, min_size=8, max_size=14), min_size=1, max_size=3, unique=True)


def encodings(value: str) -> list[str]:
    """The value as programs print it."""
    octets = value.encode()
    return [
        value,
        json.dumps(value)[1:-1],
        json.dumps(value, ensure_ascii=False)[1:-1],
        quote(value),
        quote(value, safe=""),
        quote(value, safe="").replace("%2F", "%2f"),
        quote_plus(value),
        octets.hex(),
        octets.hex().upper(),
    ]


def feed(masker: Masker, pieces: Sequence[str]) -> str:
    """What a stream of pieces becomes."""
    stream = MaskedStream(masker)
    return "".join([*map(stream.feed, pieces), stream.finish()])


@pytest.mark.parametrize("written", encodings(VALUE))
def test_a_secret_is_masked_in_every_common_encoding(written: str) -> None:
    masker = Masker({"TOKEN": VALUE})
    assert masker.mask(f"<{written}>") == "<[secret TOKEN]>"
    assert masker.mask_json({"a": [written, 1, None], written: True}) == {
        "a": ["[secret TOKEN]", 1, None],
        "[secret TOKEN]": True,
    }


@pytest.mark.parametrize("lead", ["", "x", "xy", "xyz"])
@pytest.mark.parametrize("encode", [base64.b64encode, base64.urlsafe_b64encode, base64.encodebytes])
def test_a_secret_is_masked_in_base64_at_any_alignment_and_line_break(
    lead: str, encode: Callable[[bytes], bytes]
) -> None:
    masker = Masker({"TOKEN": VALUE * 4})
    encoded = encode(f"{lead}{VALUE * 4}\nend".encode()).decode()
    for written in (encoded, json.dumps(encoded), encoded.replace("\n", "\r\n")):
        masked = masker.mask(written)
        assert masked.count("[secret TOKEN]") == 1
        assert len(masked) - len("[secret TOKEN]") < 20


def test_what_is_no_secret_stays_and_short_values_are_left_alone() -> None:
    text = "nothing to see: /etc/passwd, 1234567, ghp_a1B2"
    assert Masker({"TOKEN": VALUE, "SHORT": "1234567"}).mask(text) == text
    assert Masker({"SHORT": "1234567"}).is_empty
    assert Masker({}).mask(text) == text
    assert feed(Masker({}), list(text)) == text


def test_lines_of_a_secret_of_several_lines_are_masked_by_themselves() -> None:
    key = "-----BEGIN KEY-----\nMIIEvQIBADANBgkq\nhkiG9w0BAQEFAASC\n-----END KEY-----"
    masker = Masker({"KEY": key})
    assert masker.mask(f"a {key} b") == "a [secret KEY] b"
    assert masker.mask("  1: hkiG9w0BAQEFAASC") == "  1: [secret KEY]"


@given(SECRETS, st.data())
def test_any_cutting_gives_the_same_text(values: list[str], data: st.DataObject) -> None:
    masker = Masker({f"S{number}": value for number, value in enumerate(values)})
    spelled = [written for value in values for written in encodings(value)]
    spelled += [
        base64.encodebytes(f"{lead}{value}".encode()).decode() for value in values for lead in ("", "x")
    ]
    parts = st.one_of(st.sampled_from(spelled), st.text(SMALL_ALPHABET, max_size=6))
    text = "".join(data.draw(st.lists(parts, max_size=6)))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=12)))
    pieces = [text[start:end] for start, end in zip([0, *cuts], [*cuts, len(text)], strict=True)]

    assert feed(masker, pieces) == masker.mask(text)
    assert feed(masker, list(text)) == masker.mask(text)


@given(SECRETS, st.data())
def test_no_secret_comes_out(values: list[str], data: st.DataObject) -> None:
    masker = Masker({f"S{number}": value for number, value in enumerate(values)})
    parts = st.one_of(st.sampled_from(values), st.text(SMALL_ALPHABET, max_size=6))
    text = "".join(data.draw(st.lists(parts, max_size=6)))
    left = re.split(r"\[secret S\d\]", masker.mask(text))
    assert not [value for value in values for part in left if value in part]


@given(st.text(min_size=8, max_size=40), st.binary(max_size=5), st.binary(max_size=5))
def test_any_value_is_found_in_base64_whatever_stands_beside_it(
    value: str, before: bytes, after: bytes
) -> None:
    if not value.isprintable():
        value = value.encode("unicode_escape").decode()
    masker = Masker({"S": value})
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        masked = masker.mask(encode(before + value.encode() + after).decode())
        assert "[secret S]" in masked
        left = masked.replace("[secret S]", "")
        assert len(left) <= len(base64.b64encode(before)) + len(base64.b64encode(after)) + 4


PIECES = st.sampled_from(["a", "ab", "abc", "A", "\\", "/", "%", "=", "+", "0", "é", "ab\n", "%2F", "\\n"])
ENCODERS: list[Callable[[str], str]] = [
    str,
    quote,
    lambda text: json.dumps(text)[1:-1],
    lambda text: base64.b64encode(text.encode()).decode(),
    lambda text: base64.encodebytes(text.encode()).decode(),
]


@settings(
    max_examples=30, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large], deadline=None
)
@given(PIECES, PIECES, st.integers(10, 2000), st.integers(0, 3), st.sampled_from(ENCODERS), st.data())
def test_the_work_for_a_text_is_bounded_by_its_length_whatever_the_secret(
    piece: str, end: str, times: int, lead: int, encode: Callable[[str], str], data: st.DataObject
) -> None:
    value = piece * times + end
    masker = Masker({"S": value})
    # Beginnings of the secret, again and again, and it itself, so that it has to be looked for.
    cut = data.draw(st.integers(1, len(value)))
    near = encode("x" * lead + value[:cut]) + "!"
    text = near * (20_000 // len(near) + 1) + encode("x" * lead + value)
    with counted_steps() as steps:
        masked = masker.mask(text)
    assert steps[0] <= STEPS_OF_ANY_TEXT + STEPS_PER_CHARACTER * len(text) + 100 * len(value)
    if len(value) >= 8:
        assert value not in masked
    with counted_steps() as steps:
        shown = feed(masker, [text[:9000], text[9000:]])
    assert steps[0] <= 2 * (STEPS_OF_ANY_TEXT + STEPS_PER_CHARACTER * len(text) + 100 * len(value))
    if len(value) >= 8:
        assert value not in shown


@contextmanager
def counted_steps() -> Generator[list[int]]:
    """How many steps are taken meanwhile."""
    steps = [0]
    spend = masking.Effort.spend

    def counting(effort: masking.Effort, number: int) -> None:
        steps[0] += number
        spend(effort, number)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(masking.Effort, "spend", counting)
        yield steps


def test_of_a_secret_of_very_many_lines_the_longest_are_looked_for() -> None:
    lines = [f"line number {number:06}" + "z" * (100 if number == 777 else 0) for number in range(3000)]
    masker = Masker({"S": "\n".join(lines)})
    assert masker.mask("\n".join(lines)) == "[secret S]"
    assert masker.mask(lines[777]) == "[secret S]"
    assert masker.size < 10_000_000


def test_many_keys_of_many_lines_are_masked_and_nothing_else_is_withheld() -> None:
    generator = random.Random(1)
    keys = {
        f"KEY{number}": f"-----BEGIN KEY {number}-----\n"
        + "\n".join(base64.b64encode(generator.randbytes(48)).decode() for _ in range(25))
        + f"\n-----END KEY {number}-----"
        for number in range(40)
    }
    masker, key = Masker(keys), keys["KEY7"]
    prose = "MII" + base64.b64encode(generator.randbytes(3000)).decode() + "\n-----BEGIN NOTHING\n"
    assert masker.mask(f"{prose * 5}{key}{prose}") == f"{prose * 5}[secret KEY7]{prose}"
    assert feed(masker, [prose, key[:100], key[100:], prose]) == f"{prose}[secret KEY7]{prose}"


def test_what_takes_too_much_is_withheld_and_what_follows_is_shown() -> None:
    masker = Masker({"S": "\\" * 5000})
    stream = MaskedStream(masker)
    shown = stream.feed(("\\" * 4999 + "x") * 3)
    assert "\\" * 20 not in shown
    assert (stream.feed("after "), stream.finish()) == ("after ", "")
