"""Command lines of the shell, parsed: which commands stand in one, and whether all was understood. Pure.

The grammar is bash's, which the shell of `run_command` is where there is one; where that is POSIX's `sh`,
what is read otherwise has fewer meanings, not others. Nothing is expanded and nothing is run.
"""

import re
import time
from dataclasses import dataclass, field
from typing import Final

import tree_sitter_bash
from tree_sitter import Language, Node, Parser

from agent_runner.approval.words import Word, read_word

MAX_LINE_BYTES: Final = 32 * 1024
"""Of a longer one nothing is known."""
MAX_BRANCHES: Final = 1000
"""Pipes, and backticks, of one line: where they come to no end, the parser takes time by their square."""
MAX_PARSE_SECONDS: Final = 1.0
"""Of processor time. Ordinary lines take some milliseconds, the worst one found 10 s (2026-11)."""
MAX_NODES: Final = 60_000
_PIECE_BYTES: Final = 4096

_LANGUAGE: Final = Language(tree_sitter_bash.language())
_SIMPLE: Final = frozenset({"program", "list", "pipeline", "command", "command_name", "comment"})
"""Of nothing else may a line consist that an `allow` rule lets through; and `redirected_statement`."""
_JOINING: Final = frozenset({"list", "pipeline", "negated_command", "redirected_statement"})
_RESERVED: Final = frozenset(
    {"{", "}", "[[", "]]", "then", "do", "done", "fi", "if", "else", "elif", "esac", "case", "for", "while"}
    | {"until", "select", "in", "function"}
)
_PLAINLY_READ: Final = _SIMPLE | {"redirected_statement"}
_EVALUATING: Final = frozenset({"declaration_command", "unset_command", "test_command"})
"""Statements that evaluate what stands in brackets of a text."""
_CONTINUED: Final = re.compile(r"(?<!\\)((?:\\\\)*)\\\n")
_COMMENT: Final = re.compile(r"(?:^|[\s;&|()'\"`])#")
_PASSED_OVER_BYTES: Final = re.compile(rb"[\s\\]*(?:- *)?")
"""What no node stands for: white space, and the dash in front of a here-document (grammar 0.25)."""
_ENDS_THE_PARSER: Final = re.compile(r"\{[0-9]*+\.{0,2}+[0-9]*+[^\x00-\xff]")
"""Here the grammar (0.25) looks a character up in a table of 256, and the whole process may end. Possessive:
linear for digits."""
_QUOTED: Final = re.compile(r"[\\'\"]")


@dataclass(frozen=True)
class Command:
    """One simple command."""

    name: Word
    arguments: tuple[Word, ...]
    assignments: tuple[str, ...] = ()
    """In front of it, as they are written."""
    input_texts: tuple[str, ...] = ()
    """Here-documents and here-strings that it reads."""

    @property
    def program(self) -> str:
        """The name without its folder."""
        return self.name.text.rpartition("/")[2]


@dataclass
class CommandLine:
    """What a line holds."""

    text: str
    """As the shell reads it: continued lines are joined."""
    commands: list[Command] = field(default_factory=list[Command])
    assignments: list[tuple[str, Word]] = field(default_factory=list[tuple[str, Word]])
    """Variables that are set anywhere in it, and to what."""
    not_understood: str | None = None
    """Why nothing can be said of a part of it; None: all of it was understood."""
    is_simple: bool = True
    """Whether there is nothing in it but commands, one after another: no redirect to a file, no assignment,
    no substitution, no function, no loop."""


def parse_line(text: str) -> CommandLine:
    """Read a line; never fails."""
    # The grammar (0.25) takes a continued line in the middle of a word for the end of the word.
    joined = _CONTINUED.sub(r"\1", text)
    line = CommandLine(joined, not_understood=_find_hindrance(text, joined))
    if line.not_understood is None:
        root = _parse(joined.encode())
        if root is None:
            line.not_understood = "it takes too long to be parsed"
        else:
            _read(line, root)
    line.is_simple = line.is_simple and line.not_understood is None
    return line


def _parse(source: bytes) -> Node | None:
    """The tree; None where that takes too long."""
    give_up_at = time.thread_time() + MAX_PARSE_SECONDS

    def read(start: int, _point: object) -> bytes:
        # No memoryview: with one, reading a node's text ends the process (tree-sitter 0.26).
        return source[start : start + _PIECE_BYTES]

    def is_over(_start: int, _has_error: bool) -> bool:
        # Each call of Python's lets other threads have their turn, too.
        return time.thread_time() > give_up_at

    try:
        # A parser keeps nothing, but is not to be used by two threads at once.
        return Parser(_LANGUAGE).parse(read, progress_callback=is_over).root_node
    except ValueError:
        return None


def _find_hindrance(text: str, joined: str) -> str | None:
    """Why a text is not even to be parsed."""
    try:
        size_bytes = len(text.encode())
    except UnicodeEncodeError:
        return "it is not valid text"
    if size_bytes > MAX_LINE_BYTES:
        return f"it is longer than {MAX_LINE_BYTES} bytes"
    if max(text.count("|"), text.count("`")) > MAX_BRANCHES:
        return f"it has more than {MAX_BRANCHES} pipes or backticks"
    if "\0" in text:
        return "it holds a null byte"
    if _ENDS_THE_PARSER.search(joined):
        return "a brace stands in front of a character that the parser does not bear"
    # A comment is not continued: to join its line with the next would hide that one.
    continued = (line for line in text.split("\n")[:-1] if line.endswith("\\"))
    return "a comment in it ends with a backslash" if any(map(_COMMENT.search, continued)) else None


def _read(line: CommandLine, root: Node) -> None:
    if root.has_error:
        line.not_understood = "it cannot be parsed"
    pending, seen = [root], 0
    here: dict[int, list[str]] = {}
    behind: dict[int, list[Node]] = {}
    read_until, text_until = root.start_byte, 0
    source = root.text or b""
    while pending:
        node = pending.pop()
        seen += 1
        if seen > MAX_NODES:
            line.not_understood = "it has too many parts"
            return
        if node.type == "heredoc_body":
            text_until = node.end_byte
        if not node.children:
            passed_over = source[read_until - root.start_byte : node.start_byte - root.start_byte]
            if node.start_byte >= text_until and _PASSED_OVER_BYTES.fullmatch(passed_over) is None:
                line.not_understood = line.not_understood or "a part of it cannot be parsed"
            read_until = max(read_until, node.end_byte)
        if node.type == "command":
            _read_command(line, node, here.pop(node.id, []), behind.pop(node.id, []))
        elif node.type == "redirected_statement":
            _read_redirects(line, node, here, behind)
        elif node.type == "variable_assignment":
            _read_assignment(line, node)
        elif node.type in _EVALUATING and _holds_substitution(node):
            line.not_understood = line.not_understood or "a text with a substitution in it may be evaluated"
        elif node.type == "expansion" and _text(node).endswith("@P}"):
            line.not_understood = line.not_understood or "a variable is expanded as a prompt is"
        elif node.type == "command_substitution" and _nests_backticks(node):
            line.not_understood = "it nests backticks"
        if node.is_named and node.type not in _PLAINLY_READ and not _is_inside_word(node):
            line.is_simple = False
        pending.extend(child for child in reversed(node.children))


def _read_assignment(line: CommandLine, node: Node) -> None:
    name, value = node.child_by_field_name("name"), node.child_by_field_name("value")
    if name is not None and value is not None:
        line.assignments.append((_text(name), read_word(value)))


def _holds_substitution(statement: Node) -> bool:
    """Whether a text that the shell leaves alone for now has a substitution in it."""
    return any(
        found in _text(child)
        for child in statement.named_children
        for each in (child, *child.named_children)
        if each.type in ("raw_string", "ansi_c_string")
        for found in ("$(", "`")
    )


def _read_command(line: CommandLine, node: Node, input_texts: list[str], behind: list[Node]) -> None:
    name = node.child_by_field_name("name")
    assignments = tuple(_text(child) for child in node.named_children if child.type == "variable_assignment")
    arguments = [*node.children_by_field_name("argument"), *behind]
    texts = [_text(child) for child in node.named_children if child.type == "herestring_redirect"]
    redirects = node.children_by_field_name("redirect")
    if assignments or redirects:
        line.is_simple = False
    if name is None or not name.children:
        line.not_understood = line.not_understood or "it cannot be parsed"
        return
    inner = name.children[0]
    word = (
        read_word(inner) if len(name.children) == 1 else Word(_text(name), is_literal=False, is_exact=False)
    )
    if word.is_literal and word.text in _RESERVED:
        line.not_understood = line.not_understood or f"{word.text!r} stands where a command is expected"
    words = tuple(read_word(argument) for argument in arguments)
    line.commands.append(Command(word, words, assignments, (*texts, *input_texts)))


def _read_redirects(
    line: CommandLine, node: Node, here: dict[int, list[str]], behind: dict[int, list[Node]]
) -> None:
    """Note what a statement reads, whether it could touch a file, and arguments that stand behind it."""
    body = node.child_by_field_name("body")
    command = None if body is None else _last_command(body)
    for redirect in node.children_by_field_name("redirect"):
        # tree-sitter-bash takes the words behind a redirect's target for more of them.
        further = redirect.children_by_field_name("destination")[1:]
        further += redirect.children_by_field_name("argument")  # of a here-document
        if command is not None:
            behind.setdefault(command.id, []).extend(further)
        elif further and body is not None:
            line.not_understood = line.not_understood or "words stand behind a redirect that may have none"
        if redirect.type == "heredoc_redirect":
            _read_here_document(line, redirect)
            if command is not None:
                here.setdefault(command.id, []).append(_text(redirect))
        if not _is_harmless(redirect):
            line.is_simple = False


def _read_here_document(line: CommandLine, redirect: Node) -> None:
    """The grammar (0.25) takes backticks in one for text."""
    start = next((child for child in redirect.children if child.type == "heredoc_start"), None)
    if "`" in _text(redirect) and (start is None or not _QUOTED.search(_text(start))):
        line.not_understood = line.not_understood or "a here-document in it has backticks"


def _last_command(body: Node) -> Node | None:
    """Whose a redirect is that the grammar gives to all of `a && b`: the last one's; None: a compound's."""
    while body.type in _JOINING:
        body = body.named_children[-1]
    return body if body.type == "command" else None


def _is_harmless(redirect: Node) -> bool:
    """Whether it only sends one stream into another, or away."""
    destination = redirect.child_by_field_name("destination")
    if redirect.type != "file_redirect" or destination is None:
        return False
    if any(child.type in (">&", "<&") for child in redirect.children):
        return destination.type == "number"
    return _text(destination) == "/dev/null"


def _nests_backticks(node: Node) -> bool:
    return (node.text or b"").startswith(b"`") and b"\\`" in (node.text or b"")


_WORDS: Final = frozenset(
    {"word", "number", "raw_string", "string", "string_content", "ansi_c_string", "concatenation"}
)
_REDIRECTS: Final = frozenset({"file_redirect", "file_descriptor"})


def _is_inside_word(node: Node) -> bool:
    """Whether it is (a part of) a literal word or of a redirect, which are looked at as wholes."""
    return node.type in _WORDS or node.type in _REDIRECTS


def _text(node: Node) -> str:
    return (node.text or b"").decode("utf-8", errors="replace")
