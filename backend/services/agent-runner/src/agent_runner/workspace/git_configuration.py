"""Which settings of a Git configuration run programs, and how the file is read for them. Pure."""

import re
from collections.abc import Iterator
from typing import Final

_RUN_PROGRAMS: Final = re.compile(
    r"""
    alias\..* | browser\..*\.cmd | core\.(askpass|editor|fsmonitor|gitproxy|hookspath|pager|sshcommand
        |alternaterefscommand) | credential(\..*)?\.helper | diff\.external | diff\..*\.(command|textconv)
    | (diff|merge)tool\..*\.(cmd|path) | filter\..*\.(clean|process|smudge) | gpg(\..*)?\.program
    | guitool\..*\.cmd | hook\..*\.command | include(if\..*)?\.path | init\.templatedir
    | interactive\.difffilter | man\..*\.(cmd|path) | merge\..*\.driver | pager\..* | protocol(\..*)?\.allow
    | remote\..*\.(receivepack|uploadpack|vcs) | sendemail\..*cmd | sequence\.editor
    | trailer\..*\.(cmd|command) | uploadpack\.packobjectshook | web\.browser
    """,
    re.VERBOSE,
)
"""Names as `git config --list` gives them (git-config(1), 2.47)."""
_RUN_BY_VALUE: Final = re.compile(r"(remote|submodule|url)\..*")
"""Of these a value with `::` names a program that fetches, and one with `!` a command."""
_SECTION: Final = re.compile(r'\[\s*([-.A-Za-z0-9]+)(?:\s+"((?:[^"\\]|\\.)*)")?\s*\]')
_KEY: Final = re.compile(r"([A-Za-z][-A-Za-z0-9]*)\s*(?:=\s*(.*))?", re.DOTALL)


def settings_that_run_programs(content: bytes) -> list[str]:
    """Those settings, as `name=value`, sorted; the whole text where it cannot be read as Git would."""
    text = content.decode("utf-8", errors="surrogateescape")
    try:
        found = [f"{name}={value}" for name, value in _settings(text) if _runs_programs(name, value)]
    except ValueError:
        return [text]
    return sorted(found)


def _runs_programs(name: str, value: str) -> bool:
    if _RUN_PROGRAMS.fullmatch(name.lower()):
        return True
    is_transport = "::" in name or "::" in value
    return bool(_RUN_BY_VALUE.fullmatch(name.lower())) and (is_transport or value.lstrip().startswith("!"))


def _settings(text: str) -> Iterator[tuple[str, str]]:
    section = ""
    for line in re.sub(r"\\\r?\n", "", text.removeprefix("\ufeff")).splitlines():
        rest = line.strip()
        while rest.startswith("["):
            match = _SECTION.match(rest)
            if match is None:
                raise ValueError(line)
            section = match[1] if match[2] is None else f"{match[1]}.{match[2]}"
            rest = rest[match.end() :].strip()
        if not rest or rest[0] in "#;":
            continue
        match = _KEY.fullmatch(rest)
        if match is None or not section:
            raise ValueError(line)
        yield f"{section}.{match[1]}", match[2] or "true"
