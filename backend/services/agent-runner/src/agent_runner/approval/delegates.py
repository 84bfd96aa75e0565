"""Programs that are handed a command for something else to run, and where in their arguments it stands. Pure.

What is found is for `unseen` to look into.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from agent_runner.approval.delegate_tables import (
    ALL_ARGUMENTS,
    COMMAND_OPTIONS,
    COMMAND_VARIABLES,
    DATABASE_PROGRAMS,
    DATABASES,
    DEBUGGER_RUNS,
    FOREIGN_INPUT,
    FOREIGN_OPTIONS,
    HARMLESS_KEYS,
    LOADING_VARIABLES,
    PLAIN_VALUE,
    REMOTE,
    RUN_BEHIND,
    RUN_FIRST,
    RUN_SECOND,
    SHELLS_OF_USERS,
    SUBSTITUTION,
    VALUELESS,
)
from agent_runner.approval.programs import SHELLS, without_version
from agent_runner.approval.words import Word


@dataclass(frozen=True)
class Code:
    """Words that a shell is going to read as a command."""

    words: tuple[Word, ...]


@dataclass(frozen=True)
class Programs:
    """Words of which the first is a program's name."""

    words: tuple[Word, ...]


@dataclass(frozen=True)
class Foreign:
    """Code that is no shell's, and that can start programs; or commands that the line does not show."""

    reason: str


Delegated = Code | Programs | Foreign


def delegated(program: str, arguments: Sequence[Word], input_texts: Sequence[str]) -> Iterator[Delegated]:
    """What a program is told to have run, as far as its arguments say where that stands."""
    program = without_version(program.removesuffix(".exe"))
    if program.startswith("ld-linux"):
        program = "ld.so"
    for value in _values(arguments, COMMAND_OPTIONS.get(program, "").split()):
        if not (program == "git" and _is_option_or_path(value)):
            yield from _as_code(value)
    if program in ALL_ARGUMENTS:
        for word in arguments:
            yield from _as_code(word)
    if program in RUN_FIRST:
        yield from _behind(arguments, 0)
    elif program in RUN_SECOND:
        yield from _behind(arguments, 1)
    elif program in REMOTE:
        yield from _remote(arguments, REMOTE[program])
    elif program in RUN_BEHIND:
        yield from _behind_subcommand(arguments, RUN_BEHIND[program])
    if program == "env":
        for word in arguments:
            name, separator, value = word.text.partition("=")
            if separator:
                yield from assigned(name, Word(value, word.is_literal, word.is_single, is_exact=False))
    if program == "git":
        yield from _git_settings(arguments)
    if program in ("make", "gmake"):
        yield from _make(arguments, input_texts)
    yield from _foreign(program, arguments, input_texts)
    yield from _shell_behind(program, arguments)


def assigned(name: str, value: Word) -> Iterator[Delegated]:
    """What a variable's value has run by whoever reads the variable."""
    if LOADING_VARIABLES.fullmatch(name):
        yield Foreign(f"a variable changes what the shell runs: {name[:60]}")
    elif COMMAND_VARIABLES.fullmatch(name):
        yield from _as_code(value)
    if value.is_literal and re.search(r"\$\(|`", value.text):
        yield Foreign(f"a text with a substitution in it is kept for later: {name[:60]}")


def _values(arguments: Sequence[Word], options: Sequence[str]) -> Iterator[Word]:
    for at, word in enumerate(arguments):
        for option in options:
            is_letter = len(option) == 2 and option != "--"
            if word.text == option or (
                is_letter and _LETTERS.fullmatch(word.text) and word.text[-1] == option[1]
            ):
                yield from arguments[at + 1 : at + 2]
            elif option.startswith("--"):
                if word.text.startswith(f"{option}="):
                    yield _behind_text(word, len(option) + 1)
            elif word.text.startswith(option) and not word.text.startswith("--"):
                yield _behind_text(word, len(option))


_LETTERS: Final = re.compile(r"-[a-zA-Z]+")


def _behind_text(word: Word, length: int) -> Word:
    return Word(word.text[length:], word.is_literal, word.is_single, is_exact=False)


def _is_option_or_path(word: Word) -> bool:
    """`git clean -x "$folder"`, `git push -u origin "$branch"`: no value, though one could stand here."""
    return word.is_literal and word.text.startswith("-")


def _as_code(word: Word) -> Iterator[Delegated]:
    """A value, and what stands in it behind a key: `exec=…`, `ProxyCommand=…`, `alias.x=!…`, `"x": …`."""
    yield Code((Word(word.text.lstrip("!|:"), word.is_literal, word.is_single, is_exact=False),))
    if word.is_literal:
        for separator in ("=", " ", ":", ","):
            _, found, behind = word.text.partition(separator)
            if found and behind.strip():
                text = behind.replace(",", " ") if separator == "," else behind
                yield Code((Word(text.lstrip("!|: '\""), is_exact=False),))


def _operands(arguments: Sequence[Word]) -> Iterator[int]:
    """Where operands stand: what is behind an option that takes values is one."""
    is_value = False
    for at, word in enumerate(arguments):
        if word.is_literal and word.text.startswith("-"):
            is_value = "=" not in word.text and not VALUELESS.fullmatch(word.text)
        elif is_value:
            is_value = False
        else:
            yield at


def _behind(arguments: Sequence[Word], skipped: int) -> Iterator[Delegated]:
    """The program behind so many operands; behind `--` at once; and what an option may not take."""
    for at, word in enumerate(arguments):
        if word.text == "--":
            yield Programs(tuple(arguments[at + 1 :]))
            return
    # What `sh -c` is told where the program says so itself: `sops exec-env FILE 'CODE'`.
    if arguments and arguments[-1].is_literal and re.search(r"\s", arguments[-1].text):
        yield from _as_code(arguments[-1])
    operands = list(_operands(arguments))
    if len(operands) > skipped:
        yield Programs(tuple(arguments[operands[skipped] :]))
    if skipped == 0:
        first = next((at for at, word in enumerate(arguments) if not word.text.startswith("-")), None)
        if first is not None and first not in operands[:1] and (arguments[first].is_literal or not operands):
            yield Programs(tuple(arguments[first:]))


def _behind_subcommand(arguments: Sequence[Word], subcommands: Mapping[str, int]) -> Iterator[Delegated]:
    for at, word in enumerate(arguments):
        if word.is_literal and word.text.lstrip("-") in subcommands:
            yield from _behind(arguments[at + 1 :], subcommands[word.text.lstrip("-")])
            return


def _remote(arguments: Sequence[Word], skipped: int) -> Iterator[Delegated]:
    operands = list(_operands(arguments))
    if len(operands) > skipped:
        yield Code(tuple(arguments[operands[skipped] :]))
    elif not any(re.fullmatch(r"-\w*[NVGQTOL]\w*", word.text) for word in arguments) and operands:
        yield Foreign("another machine's shell runs commands that are not in the line")


def _git_settings(arguments: Sequence[Word]) -> Iterator[Delegated]:
    """`-c key=value`, `clone --config key=value`, `config key value`, and URLs that are commands."""
    for at, word in enumerate(arguments):
        behind = list(arguments[at + 1 : at + 2])
        if word.text in ("-c", "--config") or word.text.startswith("--config-env"):
            for value in behind if word.text in ("-c", "--config") else [word]:
                if not value.is_literal and "=" not in value.text:
                    yield Foreign("a setting of git's is not literal")
                elif not HARMLESS_KEYS.fullmatch(value.text):
                    yield from _as_code(_behind_text(value, value.text.find("=") + 1))
        if word.text.startswith("ext::") or "::ext::" in word.text:
            yield from _as_code(_behind_text(word, 5))
    if arguments and arguments[0].text == "config":
        for key, value in pairwise(arguments[1:]):
            if "." in key.text and not HARMLESS_KEYS.fullmatch(f"{key.text}="):
                yield from _as_code(value)


def _make(arguments: Sequence[Word], input_texts: Sequence[str]) -> Iterator[Delegated]:
    if input_texts:
        yield Foreign("make reads rules that are not in its arguments")
    for value in _values(arguments, ["-f", "--file", "--makefile"]):
        if value.text == "-" or value.text.startswith(("/dev/", "/proc/", "<(")):
            yield Foreign("make reads rules that are not in the line")
    for value in _values(arguments, ["--eval"]):
        if not value.is_literal or "$" in value.text or "`" in value.text:
            yield Foreign("make is given a rule that may start programs")
        else:
            yield from _as_code(Word(value.text.replace(";", "="), is_exact=False))
    for word in arguments:
        if word.is_literal and "=" in word.text and SUBSTITUTION.search(word.text.partition("=")[2]):
            yield Foreign("make is given a variable with a substitution in it")


def _foreign(program: str, arguments: Sequence[Word], input_texts: Sequence[str]) -> Iterator[Delegated]:
    texts = [word.text for word in arguments]
    for value in _values(arguments, FOREIGN_OPTIONS.get(program, "").split()):
        if not value.is_literal or not PLAIN_VALUE.fullmatch(value.text):
            yield Foreign(f"{program} is given code that may start programs")
    if program in ("pwsh", "powershell") and any(text.lower().startswith(("-e", "-c")) for text in texts):
        yield Foreign(f"{program} is given code that may start programs")
    if program in ("deno", "bun", "crystal", "node") and texts[:1] == ["eval"]:
        yield Foreign(f"{program} is given code that may start programs")
    if program in DATABASE_PROGRAMS and any(map(DATABASES.search, (*texts, *input_texts))):
        yield Foreign(f"{program} is given code that may start programs")
    if program in ("gdb", "lldb"):
        for value in _values(arguments, ["-ex", "-iex", "--ex", "--eval-command", "-eval-command", "-o"]):
            if not value.is_literal or DEBUGGER_RUNS.search(value.text):
                yield Foreign(f"{program} is given code that may start programs")
    yield from _foreign_input(program, arguments, input_texts)


def _foreign_input(
    program: str, arguments: Sequence[Word], input_texts: Sequence[str]
) -> Iterator[Delegated]:
    texts = [word.text for word in arguments]
    operands = [word for word in arguments if not word.text.startswith("-") or word.text == "-"]
    informs = any(text in ("--version", "-V", "--help", "-h", "-l", "-r", "-d", "-f") for text in texts)
    reads = not operands or operands[0].text in ("-", "now") or operands[0].text.startswith("/dev/")
    if program in ("at", "batch"):
        reads = True
    if program in FOREIGN_INPUT and reads and not informs:
        yield Foreign(f"{program} runs commands that are not in the line")
    if program in ("ed", "ex", "vi", "vim", "m4", "expect") and (input_texts or texts[-1:] == ["-"]):
        yield Foreign(f"{program} is given code that may start programs")
    if program == "crontab" and texts[:1] in ([], ["-"]):
        yield Foreign("crontab keeps commands that are not in the line")
    if program in ("deno", "bun", "go", "uv", "tsx", "ts-node") and texts[-1:] in (["-"], ["/dev/stdin"]):
        yield Foreign(f"{program} runs code that is not in the line")
    if program in ("unshare", "nsenter", "fakeroot", "screen", "script", "nix-shell") and not operands:
        yield Foreign(f"{program} starts a shell")
    if program in SHELLS_OF_USERS and (
        (program in ("su", "login") and not any(text.startswith(("-c", "--c", "--s")) for text in texts))
        or (not operands and any(re.fullmatch(r"-[a-zA-Z]*[si]|--login|--shell", text) for text in texts))
        or (len(operands) == 1 and texts[-1:] in (["-s"], ["-i"]))
    ):
        yield Foreign(f"{program} starts a shell")
    if program == "history" and "-s" in texts:
        yield Foreign("history keeps a command for later")
    if program == "fc" and not any(re.fullmatch(r"-\w*l\w*", text) for text in texts):
        yield Foreign("fc runs an earlier command again")


def _shell_behind(program: str, arguments: Sequence[Word]) -> Iterator[Delegated]:
    """Whatever the program is, `NAME … sh -c CODE` has the code run; `NAME … sh` reads what is piped in."""
    for at, word in enumerate(arguments):
        if not word.is_literal or word.text.rpartition("/")[2] not in SHELLS:
            continue
        following = arguments[at + 1 : at + 2]
        if following and re.fullmatch(r"-[a-z]*c", following[0].text):
            yield Programs(tuple(arguments[at:]))
        elif at and arguments[at - 1].text == "--entrypoint":
            yield Foreign(f"a shell is what {program} runs")
        elif at and (program in RUN_BEHIND or program in REMOTE or program in SHELLS_OF_USERS):
            is_last = at + 1 == len(arguments)
            if is_last or re.fullmatch(r"-[a-z]*s[a-z]*|-", following[0].text):
                yield Programs(tuple(arguments[at:]))
