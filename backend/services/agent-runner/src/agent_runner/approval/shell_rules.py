"""Whether a rule such as `git push*` holds for a command line. Pure.

`ask` and `deny` hold where the rule could be meant, `allow` only where nothing else can be.
"""

import functools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from agent_runner.approval.command_lines import Command, CommandLine, parse_line
from agent_runner.approval.patterns import matches
from agent_runner.approval.unseen import Seen, look_into
from agent_runner.approval.words import Word, separated_tokens, tokens

_PLAIN: Final = re.compile(r"[\w:.+@][\w:.+@-]*\*?")
"""A subcommand's name: it stands where subcommands do. Other patterns may stand anywhere."""


@dataclass(frozen=True)
class CommandRule:
    """A rule's `when`, taken apart."""

    program: str
    subcommands: tuple[str, ...]
    """Plain words, in order."""
    options: tuple[str, ...]
    others: tuple[str, ...]
    """Patterns of arguments, such as `/etc/*`."""
    words: tuple[str, ...]
    """All of it, in order."""


@functools.lru_cache(maxsize=1024)
def read_rule(when: str) -> CommandRule:
    """Take a rule's text apart."""
    program, *words = when.split()
    plain, options, others = list[str](), list[str](), list[str]()
    for word in words:
        if word.startswith("-"):
            options.append(word)
        elif _PLAIN.fullmatch(word) and not others and not options:
            plain.append(word)
        elif word != "*":
            others.append(word)
    return CommandRule(program, tuple(plain), tuple(options), tuple(others), tuple(words))


@functools.lru_cache(maxsize=64)
def read_line(text: str) -> tuple[CommandLine, Seen]:
    """A line and what it runs; several rules look at the same one."""
    line = parse_line(text)
    return line, look_into(line)


# --- ask and deny -----------------------------------------------------------------------------


def find_reason(when: str, text: str) -> str | None:
    """Why an `ask` or `deny` rule holds for a line; None: it does not."""
    rule = read_rule(when)
    line, seen = read_line(text)
    if seen.unseen is not None:
        return seen.unseen
    for command in seen.commands:
        if _could_be(rule, command):
            return f"it runs {command.program!r}"
    return _named_elsewhere(rule, line, text)


def _could_be(rule: CommandRule, command: Command) -> bool:
    program = _folded(command.program)
    if not _is_named(rule, program):
        return bool(rule.subcommands) and _is_dashed(rule, program)
    return (
        _subcommands_could_be(rule.subcommands, command)
        and all(_option_could_be(option, command.arguments) for option in rule.options)
        and all(_argument_could_be(other, command.arguments) for other in rule.others)
    )


def _is_named(rule: CommandRule, program: str) -> bool:
    return matches(_folded(rule.program.rpartition("/")[2]), program)


def _is_dashed(rule: CommandRule, program: str) -> bool:
    """`git-push` is `git push`, where git keeps its programs."""
    return matches(_folded(f"{rule.program.rpartition('/')[2]}-{rule.subcommands[0]}"), program)


def _subcommands_could_be(wanted: Sequence[str], command: Command) -> bool:
    """Whether the words stand in front of all other operands. Behind an option may stand its value."""
    states = {(0, False)}
    passed = list(command.assignments)
    for word in command.arguments:
        if any(at == len(wanted) for at, _ in states):
            return True
        if not word.is_literal and not word.is_single:
            return True
        following = set[tuple[int, bool]]()
        is_option = word.is_literal and word.text.startswith(("-", "+")) and len(word.text) > 1
        for at, after_option in states:
            if is_option:
                following.add((at, True))
                continue
            if not word.is_literal:
                following |= {(at + 1, False), (at, True)}
            elif matches(_folded(wanted[at]), _folded(word.text)):
                following.add((at + 1, False))
            if after_option:
                following.add((at, False))
        if is_option or any(after for _, after in states):
            passed.append(word.text)
        states = following
        if not states:
            break
    if any(at == len(wanted) for at, _ in states):
        return True
    # `git -c alias.p=push p`: what an option or a variable says may be what the subcommand means.
    return bool(wanted) and any(
        matches(_folded(wanted[0]), token)
        for text in passed
        for piece in re.split(r"[=\s!;'\"]+", _folded(text))
        for token in tokens(piece)
    )


def _option_could_be(option: str, arguments: Sequence[Word]) -> bool:
    """Options have several spellings: letters in any order and word, long names cut short."""
    if any(not word.is_literal for word in arguments):
        return True
    long_names = [_folded(word.text.partition("=")[0]) for word in arguments if word.text.startswith("--")]
    clusters = [
        word.text[1:] for word in arguments if word.text.startswith("-") and not word.text.startswith("--")
    ]
    letters = set(_folded("".join(clusters)))
    if option.startswith("--"):
        name = _folded(option.partition("=")[0].rstrip("*"))
        return name[2:3] in letters or any(
            name.startswith(each) or each.startswith(name) for each in long_names if len(each) > 2
        )
    wanted = set(_folded(option.rstrip("*")[1:]))
    return wanted <= letters or len(long_names) > 0


def _argument_could_be(pattern: str, arguments: Sequence[Word]) -> bool:
    return any(not word.is_literal or matches(_folded(pattern), _folded(word.text)) for word in arguments)


def _named_elsewhere(rule: CommandRule, line: CommandLine, text: str) -> str | None:
    """Whether the rule's program stands as a word anywhere but where it is a command that the rule spares."""
    pattern = _folded(rule.program.rpartition("/")[2])
    if not pattern.strip("*?"):
        return None
    commands = sum(_is_named(rule, _folded(command.program)) for command in line.commands)
    # In code of other languages a line that ends with a backslash may be another matter.
    found = max(sum(matches(pattern, _folded(token)) for token in tokens(each)) for each in {line.text, text})
    if found > commands or any(
        _holds_token(pattern, word.text) for command in line.commands for word in command.arguments
    ):
        return f"{rule.program!r} stands in it as a word"
    if rule.subcommands and any(_is_dashed(rule, _folded(token)) for token in tokens(line.text)):
        return f"{rule.program}-{rule.subcommands[0]} stands in it as a word"
    return None


def _holds_token(pattern: str, text: str) -> bool:
    return any(
        matches(pattern, _folded(token)) for find in (tokens, separated_tokens) for token in find(text)
    )


def _folded(text: str) -> str:
    """Disks that do not tell upper from lower case run `GIT`, too."""
    return text.casefold()


# --- allow ------------------------------------------------------------------------------------


def is_all(when: str, text: str) -> bool:
    """Whether an `allow` rule holds for a line: all of it is literal, and each command matches."""
    rule = read_rule(when)
    line, seen = read_line(text)
    return (
        line.is_simple
        and seen.unseen is None
        and len(line.commands) > 0
        and all(_is_certainly(rule, command) for command in line.commands)
    )


def _is_certainly(rule: CommandRule, command: Command) -> bool:
    """Word for word, in order; a last pattern that ends with `*` takes whatever follows."""
    texts = [word.text for word in command.arguments]
    if not all(word.is_exact for word in (command.name, *command.arguments)) or command.assignments:
        return False
    if not matches(rule.program, command.name.text):
        return False
    wanted = list(rule.words)
    has_rest = (wanted or [rule.program])[-1].endswith("*")
    if wanted and wanted[-1] == "*":
        wanted.pop()
    if len(texts) < len(wanted) or (len(texts) > len(wanted) and not has_rest):
        return False
    return all(matches(pattern, text) for pattern, text in zip(wanted, texts, strict=False))
