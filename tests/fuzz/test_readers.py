"""What reads text that others wrote never fails in another way than it documents, whatever the text.

Texts are arbitrary, or begin as right ones that are then spoilt, which gets further into a reader.
"""

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Final

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from stigmer_cli.api_client.sse import SseMessage, SseParser
from stigmer_cli.containers.references import ImageReference
from stigmer_contract.cassette import dump_cassette, load_cassette
from stigmer_contract.errors import CassetteError, ManifestError
from stigmer_contract.manifest_reader import read_manifests

REPOSITORY: Final = Path(__file__).parents[2]
MANIFESTS: Final = sorted(
    path.read_text(encoding="utf-8") for path in (REPOSITORY / "examples").glob("*/agent.yaml")
)
CASSETTES: Final = sorted(
    path.read_text(encoding="utf-8") for path in (REPOSITORY / "examples").glob("*/*cassette*.yaml")
)
FRAGMENTS: Final = (
    *(
        "\n",
        "  ",
        "\t",
        ": ",
        "- ",
        "[",
        "]",
        "{",
        "}",
        "&a ",
        "*a",
        "<<: ",
        "!!int ",
        "!!python/none ",
        "? ",
    ),
    *(
        "|",
        ">-",
        "'",
        '"',
        "#",
        "%YAML 1.1\n",
        "---\n",
        "...\n",
        "null",
        "true",
        "0x",
        "1e999",
        "-.inf",
        ".nan",
    ),
    *("2001-01-01", "0o7", "1_000", "190:20:30", "=", "\0", "\ufeff", "\u2028", "\x85", "😀", "\ud800"),
)
BOUNDED: Final = settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)


def spoilt(texts: list[str]) -> st.SearchStrategy[str]:
    """One of the texts, with some pieces cut out, doubled, or put in."""
    edit = st.tuples(
        st.integers(0, 10_000),
        st.integers(0, 60),
        st.sampled_from(FRAGMENTS) | st.text(max_size=5),
        st.booleans(),
    )

    def apply(text: str, edits: list[tuple[int, int, str, bool]]) -> str:
        for place, length, inserted, is_doubled in edits:
            start = place % (len(text) + 1)
            piece = text[start : start + length]
            text = text[:start] + inserted + (piece * 2 if is_doubled else "") + text[start + length :]
        return text

    return st.builds(apply, st.sampled_from(texts), st.lists(edit, min_size=1, max_size=6))


def test_there_are_texts_to_spoil() -> None:
    assert MANIFESTS
    assert CASSETTES


@BOUNDED
@given(spoilt(MANIFESTS) | st.text() | st.binary())
@example("[" * 5000)
@example("a: &a [*a]\n")
@example("&a {<<: *a}")
@example("- " * 5000)
def test_the_manifest_reader_refuses_what_is_no_manifest_with_its_own_error(text: str | bytes) -> None:
    fails_only_with(ManifestError, lambda: read_manifests(text, "agent.yaml"))


@BOUNDED
@given(spoilt(CASSETTES) | st.text() | st.binary())
@example("[" * 5000)
@example("turns: &a [*a]\n")
@example("{" * 5000)
def test_the_cassette_reader_refuses_what_is_no_cassette_with_its_own_error(text: str | bytes) -> None:
    def read() -> None:
        cassette = load_cassette(text)
        assert load_cassette(dump_cassette(cassette)) == cassette

    fails_only_with(CassetteError, read)


SSE_PIECES: Final = st.sampled_from(
    [
        b"data: x",
        b"data:",
        b"id: 1",
        b"id: \0",
        b"event: e",
        b"retry: 1",
        b":",
        b"\r",
        b"\n",
        b"\r\n",
        b"\xff",
        b"",
    ]
)


@BOUNDED
@given(
    st.lists(SSE_PIECES | st.binary(max_size=8), max_size=40).map(b"".join),
    st.lists(st.integers(0, 300), max_size=20),
)
def test_the_stream_reader_gives_the_same_messages_however_the_bytes_are_cut(
    content: bytes, cuts: list[int]
) -> None:
    def read(chunks: list[bytes]) -> list[SseMessage]:
        parser = SseParser()
        return [message for chunk in chunks for message in parser.feed(chunk)]

    places = sorted({0, len(content), *(cut for cut in cuts if cut < len(content))})
    pieces = [content[start:end] for start, end in pairwise(places)]

    assert read(pieces) == read([content])
    assert all("\0" not in (message.id or "") for message in read(pieces))


REFERENCE_PARTS: Final = st.sampled_from(
    [
        *(
            "docker.io",
            "localhost",
            "[::1]",
            "127.0.0.1",
            "ghcr.io",
            "a",
            "library",
            "x--y",
            "x__y",
            "UPPER",
            "..",
            "",
        ),
        *(
            "/",
            "//",
            ":",
            ":5000",
            ":latest",
            "@",
            "@sha256:",
            f"@sha256:{'0' * 64}",
            " ",
            "\n",
            "\0",
            "é",
            "-",
            ".",
        ),
    ]
)


@BOUNDED
@given(st.lists(REFERENCE_PARTS, max_size=8).map("".join) | st.text(max_size=80))
@example("a" * 10_000)
@example("a-" * 5000)
@example("a.b" * 5000 + "!")
def test_the_reader_of_image_references_refuses_with_its_own_error_or_keeps_the_meaning(text: str) -> None:
    def read() -> None:
        reference = ImageReference.parse(text)
        assert ImageReference.parse(str(reference)) == reference
        assert not any(character.isspace() or not character.isascii() for character in str(reference))

    fails_only_with(ValueError, read)


def fails_only_with(documented: type[Exception], read: Callable[[], object]) -> None:
    """Run a reader that may refuse."""
    try:
        read()
    except documented as refusal:
        assert str(refusal)
