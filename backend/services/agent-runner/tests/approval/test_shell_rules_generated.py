"""The shell rule against commands put together by chance: however one is dressed up, it is asked about."""

import base64
import subprocess
from collections.abc import Callable
from typing import Final

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent_runner.approval.shell_rules import find_reason, is_all

_ON_A_BUSY_MACHINE: Final = [HealthCheck.too_slow]
_QUIET: Final = st.sampled_from(["ls", "pwd", "echo done", "cat 'a b'", "true", "wc -l < x", "test -f x"])
_RULES: Final = st.sampled_from(
    [
        ("git push*", ["git", "push"]),
        ("rm -rf*", ["rm", "-rf", "x"]),
        ("kubectl delete*", ["kubectl", "delete", "pod"]),
    ]
)


def _escaped(word: str, at: int) -> str:
    return word[: at % len(word)] + "\\" + word[at % len(word) :]


def _ansi(word: str, at: int) -> str:
    place = at % len(word)
    code = f"\\x{ord(word[place]):02x}" if at % 2 else f"\\{ord(word[place]):03o}"
    return f"$'{word[:place]}{code}{word[place + 1 :]}'"


_SPELLINGS: Final[dict[str, Callable[[str, int], str]]] = {
    "plain": lambda word, at: word,
    "single quotes": lambda word, at: f"'{word}'",
    "double quotes": lambda word, at: f'"{word}"',
    "half quoted": lambda word, at: f"'{word[: at % len(word)]}'\"{word[at % len(word) :]}\"",
    "empty quotes": lambda word, at: f"{word[: at % len(word)]}''{word[at % len(word) :]}",
    "escaped": _escaped,
    "line continued": lambda word, at: f"{word[: at % len(word)]}\\\n{word[at % len(word) :]}",
    "ansi": _ansi,
    "unset variable": lambda word, at: f"{word[: at % len(word)]}${{_none}}{word[at % len(word) :]}",
    "default": lambda word, at: f"${{_none:-{word}}}",
    "substitution": lambda word, at: f"$(echo {word})",
    "backticks": lambda word, at: f"`echo {word}`",
}
_WRAPPINGS: Final[list[Callable[[str], str]]] = [
    lambda line: line,
    lambda line: f"A=1 {line}",
    lambda line: f"2>&1 {line}",
    lambda line: f"({line})",
    lambda line: f"{{ {line}; }}",
    lambda line: f"! {line}",
    lambda line: f"if true; then {line}; fi",
    lambda line: f"while {line}; do break; done",
    lambda line: f"for i in 1 2; do {line}; done",
    lambda line: f"case x in *) {line};; esac",
    lambda line: f"f() {{ {line}; }}; f",
    lambda line: f"echo $({line})",
    lambda line: f'echo "$({line})"',
    lambda line: f"cat <({line})",
    lambda line: f"x=$({line})",
    lambda line: f"eval {line}",
    lambda line: f"command {line}",
    lambda line: f"env {line}",
    lambda line: f"env -i A=1 {line}",
    lambda line: f"timeout 5 {line}",
    lambda line: f"nice -n 5 {line}",
    lambda line: f"exec {line}",
    lambda line: f"coproc {line}",
    lambda line: f"time {line}",
    lambda line: f"echo a | xargs {line}",
    lambda line: f"bash -c {_quoted(line)}",
    lambda line: f"sh -ec {_quoted(line)}",
    lambda line: f"eval {_quoted(line)}",
    lambda line: f"trap {_quoted(line)} EXIT",
    lambda line: f"env -S {_quoted(line)}",
    lambda line: f"bash <<< {_quoted(line)}",
    lambda line: f"bash <<'END'\n{line}\nEND",
    lambda line: f"echo {base64.b64encode(line.encode()).decode()} | base64 -d | sh",
    lambda line: f"bash <(base64 -d <<< {base64.b64encode(line.encode()).decode()})",
    lambda line: f"python3 -c 'import os; os.system(bytes.fromhex(\"{line.encode().hex()}\").decode())'",
]
_JOINS: Final = ["; ", " && ", " || ", " | ", " & ", "\n", " # no\n", " |& "]


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"


@st.composite
def _dressed(draw: st.DrawFn) -> tuple[str, str]:
    """A rule, and a line that runs what it means."""
    rule, words = draw(_RULES)
    spellings = st.sampled_from(sorted(_SPELLINGS))
    line = " ".join(_SPELLINGS[draw(spellings)](word, draw(st.integers(0, 20))) for word in words)
    for wrap in draw(st.lists(st.sampled_from(_WRAPPINGS), max_size=3)):
        line = wrap(line)
    before = draw(st.lists(_QUIET, max_size=2))
    after = draw(st.lists(_QUIET, max_size=2))
    join = draw(st.sampled_from(_JOINS))
    return rule, join.join([*before, line, *after])


@given(_dressed())
@settings(max_examples=1000, deadline=None, suppress_health_check=_ON_A_BUSY_MACHINE)
def test_whatever_is_done_to_a_command_it_is_asked_about(dressed: tuple[str, str]) -> None:
    rule, line = dressed

    assert find_reason(rule, line) is not None, line
    assert not is_all("ls*", line)


@pytest.mark.parametrize(
    "around", ["{}", "ls && {}", "ls | {}", "! {}", "ls; {}", "ls || true && {}", "if {}; then ls; fi"]
)
@pytest.mark.parametrize("redirect", ["2>&1", ">x 2>&1", "<x", "<<< x"])
def test_the_words_behind_a_redirect_are_its_commands(around: str, redirect: str) -> None:
    for line in (f"git {redirect} push", f"eval {redirect} g${{_none}}it $'\\160ush'"):
        assert find_reason("git push*", around.format(line)) is not None, line
    assert find_reason("git push*", around.format(f"echo {redirect} done")) is None


@pytest.mark.parametrize("line", ["(ls) 2>&1 x", "export 2>&1 x=1", "[[ a ]] 2>&1 git"])
def test_words_behind_the_redirect_of_what_is_no_command_are_asked_about(line: str) -> None:
    assert find_reason("git push*", line) is not None


@given(st.text(max_size=200))
@settings(max_examples=300, deadline=None, suppress_health_check=_ON_A_BUSY_MACHINE)
def test_any_text_is_decided_about(text: str) -> None:
    find_reason("git push*", text)
    is_all("git *", text)


_PIECES: Final = [
    *["probe", "pro", "be", "'", '"', "\\", "$", "`", "(", ")", "{", "}", ";", "&", "|", "<", ">", " ", "\n"],
    *[
        "#",
        "x=",
        "$x",
        "-c ",
        "eval ",
        "sh ",
        "env ",
        "if ",
        "then ",
        "fi",
        "!",
        "[",
        "]",
        "*",
        ",",
        "EOF",
        "<<",
    ],
    *["$'\\x70'", "\\\n"],
]
_SHELL_TEXT: Final = st.lists(st.sampled_from(_PIECES), max_size=14).map("".join)


@pytest.fixture(scope="module")
def probe_folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A folder that is all of PATH, with a program that leaves a mark; nothing else can be run from it."""
    folder = tmp_path_factory.mktemp("probe")
    program = folder / "bin" / "probe"
    program.parent.mkdir()
    program.write_text('#!/bin/sh\n: > "$MARK"\n', encoding="utf-8")
    program.chmod(0o755)
    return str(folder)


@given(line=_SHELL_TEXT)
@settings(max_examples=150, deadline=None, suppress_health_check=_ON_A_BUSY_MACHINE)
def test_what_bash_runs_is_never_passed_over(probe_folder: str, line: str) -> None:
    if find_reason("probe*", line) is not None:
        return
    mark = f"{probe_folder}/mark"
    subprocess.run(
        ["/bin/bash", "-c", line],
        env={"PATH": f"{probe_folder}/bin", "MARK": mark},
        cwd=f"{probe_folder}/bin/..",
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=120,
        check=False,
    )

    with pytest.raises(FileNotFoundError):
        open(mark).close()  # noqa: PTH123 - it must not be there
