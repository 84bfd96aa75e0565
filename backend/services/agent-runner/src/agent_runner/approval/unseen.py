"""What in a command line runs something that the line does not show: then nobody can say what it is. Pure.

A script in a file is not looked for: what it does is not seen, here as everywhere.
"""

import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from agent_runner.approval.command_lines import Command, CommandLine, parse_line
from agent_runner.approval.delegates import Code, Delegated, Foreign, Programs, assigned, delegated
from agent_runner.approval.programs import (
    CODE_MODULES,
    CODE_OPTIONS,
    EVALUATE_TEXT,
    FINDERS,
    LONG_CODE_OPTIONS,
    NEVER_IN_THE_NEXT_WORD,
    RUN_WORDS,
    SHELLS,
    TEXT_PROGRAMS,
    VALUE_OPTIONS,
    WRAPPERS,
    without_version,
)
from agent_runner.approval.words import Word
from agent_runner.linear_patterns import compile_pattern

MAX_DEPTH: Final = 5
"""Code within code within code, such as `bash -c "bash -c …"`."""
MAX_LINES: Final = 200
MAX_TEXT_CODE_CHARACTERS: Final = 4000
"""Of awk and sed; longer code is not looked at."""

_INFORMS: Final = frozenset({"--version", "-V", "-v", "-VV", "--help", "-h", "-m"})
_STANDS_ALONE: Final = re.compile(r"[0-9.]+[smhdkKMG]?|[+-]?[0-9]+")
_SPACES: Final = r"[\s\x{0b}\x{1c}-\x{1f}\x{80}-\x{10ffff}]*"
_STARTS_PROGRAMS: Final = compile_pattern(
    r"(?i)system|popen|subprocess|spawn|exec|fork|\bpty\b|\bos\b|posix|eval|compile|__|import_module|importlib|getattr"
    r"|globals|ctypes|\bchr\b|\\x|\\u|\\[0-7]{2}|base64|b64|codecs|`|%x|\bqx|child_process|getline"
    rf"|\|{_SPACES}\"|\"{_SPACES}\||\bpack\b|syscall|ffi|kernel|decode|fromhex|runpy|atob|buffer|shell_exec"
    rf"|\bopen{_SPACES}\(?{_SPACES}[\w\x{{80}}-\x{{10ffff}}]*,?{_SPACES}[\"'][^\"']*\|"
    rf"|passthru|proc_open|require\({_SPACES}[^\"')]|fromcharcode|join"
    r"|\bpdb\b|\bbdb\b|\bcode\.|timeit|profile|\btrace\b|doctest|pickle|shelve|marshal|multiprocess|webbrowser"
    r"|dictconfig|\binput\(|constructor|function\(|worker|dlopen|\bimport\(|mainmodule|binding|\bvm\b|deno\."
    rf"|\$\w+{_SPACES}\(|\){_SPACES}\(|&{_SPACES}[$\x{{7b}}]|->\(|\bdo\b{_SPACES}[\"']|\bsend\b|\bmethod\(|instance_"
)
"""What code of a general interpreter needs in order to start another program, or to hide that it does."""
_TAKE_SEVERAL: Final = frozenset({"perl", "ruby", "php", "lua"})
_SUBSTITUTES: Final = re.compile(r"\$\(|`")
_EVALUATED_VARIABLES: Final = re.compile(
    r"^(?:PS[0-4]|PROMPT_COMMAND|BASH_ENV|ENV|SHELLOPTS|BASHOPTS|BASH_FUNC_\w+)\+?="
)


@dataclass
class Seen:
    """All that a line runs, as far as it shows it."""

    commands: list[Command] = field(default_factory=list[Command])
    """Those of the line, and of code in its arguments."""
    unseen: str | None = None
    """Why it runs something that it does not show."""


def look_into(line: CommandLine) -> Seen:
    """The commands of a line and of the code in it."""
    seen, budget = Seen(), [MAX_LINES]
    _look(line, seen, 0, budget)
    return seen


def _look(line: CommandLine, seen: Seen, depth: int, budget: list[int]) -> None:
    budget[0] -= 1
    if depth > MAX_DEPTH or budget[0] < 0:
        seen.unseen = seen.unseen or "it nests code too deep"
        return
    if line.not_understood is not None:
        seen.unseen = seen.unseen or line.not_understood
    for name, value in line.assignments:
        _look_at_delegated(assigned(name, value), seen, depth, budget)
    for command in line.commands:
        seen.commands.append(command)
        _look_at(command, seen, depth, budget)


def _look_at_delegated(found: Iterator[Delegated], seen: Seen, depth: int, budget: list[int]) -> None:
    for each in found:
        match each:
            case Foreign(reason):
                seen.unseen = seen.unseen or reason
            case Code(words):
                reason, code = _code_of(words, "another program")
                if code is None:
                    seen.unseen = seen.unseen or reason
                elif budget[0] <= 0:
                    seen.unseen = seen.unseen or "it nests code too deep"
                    return
                elif _is_worth_reading(code):
                    _look(parse_line(code), seen, depth + 1, budget)
            case Programs(words):
                for inner in _as_command(words, is_fed=False):
                    if depth >= MAX_DEPTH or budget[0] <= 0:
                        seen.unseen = seen.unseen or "it nests programs too deep"
                        return
                    budget[0] -= 1
                    seen.commands.append(inner)
                    _look_at(inner, seen, depth + 1, budget)


def _is_worth_reading(code: str) -> bool:
    """A word alone, or a few, run no more than they show; they are found as words of the line."""
    return not _ALL_PLAIN.fullmatch(code)


def _look_at(command: Command, seen: Seen, depth: int, budget: list[int]) -> None:
    for reason, code in _hidden(command):
        if code is None:
            seen.unseen = seen.unseen or reason
        else:
            _look(parse_line(code), seen, depth + 1, budget)
    if command.name.is_literal:
        found = delegated(command.program, command.arguments, command.input_texts)
        _look_at_delegated(found, seen, depth, budget)
    for inner in _inner_commands(command):
        if depth >= MAX_DEPTH or budget[0] <= 0:
            seen.unseen = seen.unseen or "it nests programs too deep"
            return
        budget[0] -= 1
        seen.commands.append(inner)
        _look_at(inner, seen, depth + 1, budget)


_ALL_PLAIN: Final = re.compile(r"[\w\s.,:/@%+=^-]*")


def _hidden(command: Command) -> Iterator[tuple[str, str | None]]:
    """What a command runs beside itself: why that is not seen, and the code where it is."""
    name, program = command.name, without_version(command.program)
    if not name.is_literal:
        yield f"the program's name is not literal: {name.text[:60]}", None
        return
    if not any(character.isalnum() for character in name.text) and name.text not in (".", "[", ":"):
        yield f"the program's name is not literal: {name.text[:60]}", None
        return
    for assignment in command.assignments:
        if _EVALUATED_VARIABLES.match(assignment):
            yield f"a variable in front changes what the shell runs: {assignment[:60]}", None
    if program in SHELLS:
        yield from _hidden_in_shell(command)
    elif program == "eval":
        yield _code_of(command.arguments, "eval")
    elif program == "trap":
        words = [word for word in command.arguments if not word.text.startswith("-")]
        yield _code_of(words[:1], "trap")
    elif program in (".", "source"):
        if any(not word.is_literal or _is_stream(word.text) for word in command.arguments[:1]):
            yield f"{program} reads commands that are not in the line", None
    elif program in CODE_OPTIONS:
        yield from _hidden_in_interpreter(command, program)
    elif program in TEXT_PROGRAMS:
        yield from _hidden_in_text_program(command, program)
    elif program in EVALUATE_TEXT and any(
        word.is_literal and _SUBSTITUTES.search(word.text) for word in command.arguments
    ):
        yield f"{program} evaluates a text with a substitution in it", None
    if program == "env" and any(
        word.text.startswith(("-S", "--split")) or _cluster(word, "S") for word in command.arguments
    ):
        yield "env splits a text into a command", None
    if program in WRAPPERS and any(
        not word.is_literal and not word.is_single and "$" in word.text for word in command.arguments
    ):
        yield f"{program} runs another program, and what is behind it is not literal", None


def _hidden_in_shell(command: Command) -> Iterator[tuple[str, str | None]]:
    arguments = list(command.arguments)
    if command.program in ("busybox", "toybox"):
        if not arguments or arguments[0].text.rpartition("/")[2] not in SHELLS:
            return
        arguments = arguments[1:]
    operand: Word | None = None
    is_code, is_value, reads_input = False, False, False
    for word in arguments:
        if is_value:
            is_value = False
            continue
        if word.text.isdigit():
            # The grammar takes the descriptor in `bash 0<file` for an argument.
            continue
        if not word.is_literal:
            operand = word
            break
        if word.text.startswith(("-", "+")) and len(word.text) > 1:
            is_code |= not word.text.startswith("--") and "c" in word.text[1:]
            is_code |= word.text in LONG_CODE_OPTIONS
            reads_input |= not word.text.startswith("--") and "s" in word.text[1:]
            is_value = word.text in ("-O", "+O", "-o", "+o", "--rcfile", "--init-file")
            if word.text in ("--version", "--help", "-n"):
                return
            continue
        operand = word
        break
    if operand is None or (reads_input and not is_code) or _is_stream(operand.text) or operand.text == "-":
        yield f"{command.program} runs commands that are not in the line", None
    elif is_code:
        # Behind options such as -o stands a value: what is code cannot be told from it, so all of it is.
        for word in arguments:
            if not word.text.startswith(("-", "+")) or not word.is_literal:
                yield _code_of([word], command.program)
    elif (not operand.is_literal and not operand.is_single) or operand.text.startswith(("<(", ">(")):
        yield f"{command.program} runs commands that are not in the line", None


def _hidden_in_interpreter(command: Command, program: str) -> Iterator[tuple[str, str | None]]:
    """Code that an option holds, or that is read from standard input since no operand names a file."""
    skipped = False
    for at, word in enumerate(command.arguments):
        text = word.text
        if skipped:
            skipped = False
            continue
        if word.is_literal and text in _INFORMS:
            if program in ("python", "pypy") and _runs_code_module(command.arguments[at:]):
                yield f"{program} is given code that may start programs", None
            return
        if word.is_literal and text.startswith("-") and len(text) > 1:
            name, separator, value = text.partition("=")
            following = command.arguments[at + 1 : at + 2]
            if name in LONG_CODE_OPTIONS:
                yield from _code_of_interpreter(program, [Word(value)] if separator else following)
                return
            kind, rest = _option_letter(program, text)
            if kind == "code":
                yield from _code_of_interpreter(program, [Word(rest)] if rest else following)
                # What stands behind `-e1` may be code as well: it is told again, as `-e` anew.
                if not rest or program not in _TAKE_SEVERAL:
                    return
            skipped = kind == "value" and not rest
            continue
        if text == "-" or _is_stream(text):
            break
        if not word.is_literal and text.startswith(("<(", ">(")):
            yield f"{program} runs code that is not in the line", None
        return
    if not command.input_texts:
        yield f"{program} runs code that is not in the line", None
    elif any(_may_start_programs(text) for text in command.input_texts):
        yield f"{program} is given code that may start programs", None


def _option_letter(program: str, text: str) -> tuple[str, str]:
    """Of letters in one word the first that takes the rest: whether as code or as a value; and the rest."""
    if text.startswith("--"):
        return "", ""
    for at, letter in enumerate(text[1:], 1):
        rest = text[at + 1 :]
        if letter in CODE_OPTIONS[program]:
            return "code", rest
        if letter in VALUE_OPTIONS.get(program, ""):
            return ("", "") if letter in NEVER_IN_THE_NEXT_WORD else ("value", rest)
    return "", ""


def _code_of_interpreter(program: str, words: Sequence[Word]) -> Iterator[tuple[str, str | None]]:
    if any(not word.is_literal or _may_start_programs(word.text) for word in words):
        yield f"{program} is given code that may start programs", None


def _runs_code_module(words: Sequence[Word]) -> bool:
    return [word.text for word in words[:1]] == ["-m"] and any(
        word.text.partition(".")[0] in CODE_MODULES for word in words[1:2]
    )


def _hidden_in_text_program(command: Command, program: str) -> Iterator[tuple[str, str | None]]:
    """Of awk and sed the code is an argument, and says plainly when it starts something."""
    pattern = _SED_RUNS if program == "sed" else _AWK_RUNS
    for at, word in enumerate(command.arguments):
        text = _TEXT_OPTION.sub("", word.text, count=1)
        if len(text) > MAX_TEXT_CODE_CHARACTERS or pattern.search(text):
            yield f"{program} is given code that may start programs", None
            return
        before = command.arguments[at - 1].text if at else ""
        if (_is_stream(text) or text.startswith("<(") or text == "-") and f"{before}{word.text}".startswith(
            ("-f", "--file", "-E")
        ):
            yield f"{program} runs code that is not in the line", None


_TEXT_OPTION: Final = re.compile(r"-[nEriszu]*e(?=.)|--(?:expression|source|file)=|-f(?=.)", re.DOTALL)
_AWK_RUNS: Final = re.compile(
    r"\bsystem\s*\(|\|\s*getline|\|&|(?<!\|)\|\s*[\"A-Za-z_(]|\"\s*\|(?!\|)|@load|@include|@\w+\s*\("
)
_SED_RUNS: Final = re.compile(
    # Possessive, and not over a line's end, where it begins anew: linear for what is blank for the most part.
    r"^\s*+(?:[0-9$,~+!]|/[^/]*+/)*+\s*+e(?:\s|$)|[;{\n][^\S\n]*+[0-9$,]*+e(?:\s|$|[;}])"
    r"|(?:^|[;{}\n/][^\S\n]*+)s(.).*\1[gpiImM0-9]*e[gpiImM0-9]*\s*(?:$|[;}w\n])|^\\\W.*\W\s*e\s*$",
    re.DOTALL,
)


def _may_start_programs(code: str) -> bool:
    try:
        # Python takes `ｏſ` for `os`.
        return any(map(_STARTS_PROGRAMS.search, (code, unicodedata.normalize("NFKC", code))))
    except UnicodeEncodeError:
        return True


def _code_of(words: Sequence[Word], program: str) -> tuple[str, str | None]:
    if not all(word.is_literal for word in words):
        return f"{program} evaluates what is not literal", None
    return "", " ".join(word.text for word in words)


def _is_stream(text: str) -> bool:
    return text.startswith(("/dev/stdin", "/dev/fd/", "/proc/", "/dev/tty"))


def _cluster(word: Word, letter: str) -> bool:
    return word.text.startswith("-") and not word.text.startswith("--") and letter in word.text


def _inner_commands(command: Command) -> Iterator[Command]:
    """The commands that a wrapper's words could be. Behind an option may stand its value, or the program."""
    program, words = command.program, command.arguments
    if not command.name.is_literal:
        return
    if program in FINDERS:
        for at, word in enumerate(words):
            if word.text in ("-exec", "-execdir", "-ok", "-okdir", "-x", "-X", "--exec", "--exec-batch"):
                yield from _as_command(words[at + 1 :], is_fed=program != "find")
        return
    if program not in RUN_WORDS:
        return
    is_fed = program in ("xargs", "parallel")
    follows_option = False
    for at, word in enumerate(words):
        if word.is_literal and word.text.startswith("-"):
            follows_option = "=" not in word.text
            continue
        if word.is_literal and (_STANDS_ALONE.fullmatch(word.text) or "=" in word.text):
            follows_option = False
            continue
        if word.text in ("-I", "{}"):
            follows_option = False
        yield from _as_command(words[at:], is_fed=is_fed)
        if not follows_option:
            return
        follows_option = False


def _as_command(words: Sequence[Word], *, is_fed: bool) -> Iterator[Command]:
    if not words:
        return
    further = (Word("", is_literal=False, is_single=False, is_exact=False),) if is_fed else ()
    name = words[0]
    if name.is_literal and name.text.rpartition("/")[2] in SHELLS and is_fed and len(words) == 1:
        further = ()
    yield Command(name, (*words[1:], *further))
