"""`search_files` and `find_files`: one table of cases, which ripgrep and our own walk must answer alike."""

import os
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_runner.toolsets import file_search
from agent_runner.toolsets.globs import InvalidGlob, compile_glob
from agent_runner.workspace import SessionWorkspace, find_ripgrep
from stigmer_isolation.launcher import CommandLauncher
from stigmer_isolation.zygote.policy import Policy
from tool_calls import call_tools

TREE = {
    "a.txt": "needle in a\n",
    "src/b.py": "def  needle(x):\n    return x\n",
    "src/deep/c.js": "let needle = 1;\nNEEDLE\n",
    "src/crlf.txt": "one\r\nneedle two\r\n",
    ".hidden/d.txt": "needle hidden\n",
    ".git/config": "needle of git\n",
    ".gitignore": "/build\n*.log\n!keep.log\n",
    "build/out.txt": "needle built\n",
    "x.log": "needle logged\n",
    "keep.log": "needle kept\n",
    "src/.ignore": "secret.*\n",
    "src/secret.txt": "needle secret\n",
    "binary.bin": "needle\0binary\n",
    "naïve café.txt": "needle à la carte\n",
    "-dash.txt": "needle dash\n",
    "two\nlines\x1b.txt": "needle forged\n",
}


@dataclass(frozen=True)
class Case:
    """A call and the lines it gives; with `failed`, words that its failure says."""

    tool: str
    arguments: dict[str, Any]
    lines: list[str] = field(default_factory=list[str])
    failed: str | None = None


SOURCES = [
    ".hidden/d.txt:1:needle hidden",
    r"two\x0alines\x1b.txt:1:needle forged",
    "-dash.txt:1:needle dash",
    "a.txt:1:needle in a",
    "keep.log:1:needle kept",
    "naïve café.txt:1:needle à la carte",
    "src/b.py:1:def  needle(x):",
    "src/crlf.txt:2:needle two",
    "src/deep/c.js:1:let needle = 1;",
]
CASES = [
    Case("search_files", {"pattern": "needle"}, SOURCES),
    Case("search_files", {"pattern": "needle", "include_glob": "*.py"}, ["src/b.py:1:def  needle(x):"]),
    Case(
        "search_files",
        {"pattern": "needle", "include_glob": "src/**/*.{js,py}"},
        ["src/b.py:1:def  needle(x):", "src/deep/c.js:1:let needle = 1;"],
    ),
    Case(
        "search_files",
        {"pattern": "needle", "path": "src", "include_glob": "deep/*"},
        ["src/deep/c.js:1:let needle = 1;"],
    ),
    Case("search_files", {"pattern": "needle", "include_glob": "*.log"}, ["keep.log:1:needle kept"]),
    Case("search_files", {"pattern": r"def\s+needle", "path": "src"}, ["src/b.py:1:def  needle(x):"]),
    Case("search_files", {"pattern": r"\w+\(\w\)", "path": "src"}, ["src/b.py:1:def  needle(x):"]),
    Case("search_files", {"pattern": r"(?i)^needle$", "path": "src/deep"}, ["src/deep/c.js:2:NEEDLE"]),
    Case("search_files", {"pattern": r"(?:in|of) a$"}, ["a.txt:1:needle in a"]),
    Case("search_files", {"pattern": r"needle .*?two$"}, ["src/crlf.txt:2:needle two"]),
    Case("search_files", {"pattern": r"^\s+return \d*x"}, ["src/b.py:2:    return x"]),
    Case("search_files", {"pattern": "needle", "path": "a.txt"}, ["a.txt:1:needle in a"]),
    Case("search_files", {"pattern": "needle", "path": "build"}, ["build/out.txt:1:needle built"]),
    Case("search_files", {"pattern": "needle", "path": ".git"}, [".git/config:1:needle of git"]),
    Case("search_files", {"pattern": "needle", "path": "link"}, [each for each in SOURCES if "src/" in each]),
    Case("search_files", {"pattern": "needle", "path": "-dash.txt"}, ["-dash.txt:1:needle dash"]),
    Case("search_files", {"pattern": "-dash"}, ["No matches found."]),
    Case("search_files", {"pattern": "nowhere"}, ["No matches found."]),
    Case("search_files", {"pattern": "logged"}, ["No matches found."]),
    Case("search_files", {"pattern": "logged", "include_ignored": True}, ["x.log:1:needle logged"]),
    Case("search_files", {"pattern": "(?=look)ahead"}, failed="look-around"),
    Case("search_files", {"pattern": r"(a)\1"}, failed="back-references"),
    Case("search_files", {"pattern": "unclosed("}, failed="the pattern cannot be used"),
    Case("search_files", {"pattern": "x", "include_glob": "{a"}, failed="opens a brace"),
    Case("search_files", {"pattern": "x", "path": "gone"}, failed="Path not found: gone"),
    Case("search_files", {"pattern": "x", "path": "outside"}, failed="outside"),
    Case("find_files", {"pattern": "**/*.{py,js}"}, ["src/b.py", "src/deep/c.js"]),
    Case("find_files", {"pattern": "*.py"}, ["src/b.py"]),
    Case("find_files", {"pattern": "src/*"}, ["src/.ignore", "src/b.py", "src/crlf.txt"]),
    Case("find_files", {"pattern": "deep/*.js", "path": "src"}, ["src/deep/c.js"]),
    Case("find_files", {"pattern": "deep/"}, ["src/deep/c.js"]),
    Case("find_files", {"pattern": "*.log"}, ["keep.log"]),
    Case("find_files", {"pattern": "*.log", "include_ignored": True}, ["keep.log", "x.log"]),
    Case("find_files", {"pattern": "d.txt"}, [".hidden/d.txt"]),
    Case("find_files", {"pattern": "caf*"}, [r"caf\xe9"]),
    Case("find_files", {"pattern": "config"}, ["No matches found."]),
    Case("find_files", {"pattern": "[ab].txt"}, ["a.txt"]),
    Case("find_files", {"pattern": "x]{"}, failed="the glob"),
]


@pytest.fixture(params=["ripgrep", "walk"])
async def workspace(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncGenerator[SessionWorkspace]:
    (tmp_path / ".gitignore").write_text("*\n", encoding="utf-8")  # outside: means nothing
    directory = tmp_path / "session"
    for name, content in TREE.items():
        place = directory / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(content, encoding="utf-8", newline="")
    (directory / "link").symlink_to("src")
    (directory / "loop").symlink_to("loop")
    (directory / "dangling").symlink_to("nowhere")
    (directory / "outside").symlink_to("/usr/bin")
    (directory / "up").symlink_to("..")
    os.close(os.open(os.fsencode(directory) + b"/caf\xe9", os.O_CREAT))
    policy = None if request.param == "ripgrep" else Policy()
    async with CommandLauncher(policy=policy) as launcher:
        made = SessionWorkspace(directory, launcher=launcher)
        assert made.holds_files_in is (request.param == "ripgrep")
        yield made


async def test_both_searches_find_what_the_table_says(workspace: SessionWorkspace) -> None:
    assert find_ripgrep() is not None
    results = await call_tools(workspace, *((case.tool, case.arguments) for case in CASES))
    found = [
        Case(case.tool, case.arguments, failed=case.failed)
        if case.failed is not None and result.outcome == "failed" and case.failed in result.content
        else Case(case.tool, case.arguments, sorted(result.content.split("\n")))
        for case, result in zip(CASES, results, strict=True)
    ]
    for case, each in zip(CASES, found, strict=True):
        assert each == replace(case, lines=sorted(case.lines))


async def test_long_lines_and_many_matches_are_cut_with_a_word(workspace: SessionWorkspace) -> None:
    directory = Path(await workspace.working_dir())
    for number in range(40):
        (directory / f"m{number:02}.js").write_text("y" * 200_000 + "needle\n", encoding="utf-8")
    (directory / "many.txt").write_text("needle\n" * 5000, encoding="utf-8")
    [long, many] = await call_tools(
        workspace,
        ("search_files", {"pattern": "needle", "include_glob": "*.js"}),
        ("search_files", {"pattern": "needle", "path": "many.txt"}),
    )
    assert len(long.content) <= 50_000
    assert (
        "m00.js:1:yyy" in long.content and "m39.js:1:yyy" in long.content and "[... line cut]" in long.content
    )
    assert len(many.content) <= 50_000
    assert many.content.endswith("[... cut after 1000 matches; narrow the pattern, the path or the glob]")


async def test_a_line_longer_than_a_mebibyte_does_not_vanish(workspace: SessionWorkspace) -> None:
    directory = Path(await workspace.working_dir())
    (directory / "one-line.json").write_text("z" * 3_000_000 + "needle" + "z" * 3_000_000, encoding="utf-8")
    [result] = await call_tools(
        workspace, ("search_files", {"pattern": "z(needle)z", "path": "one-line.json"})
    )
    assert result.content.startswith("one-line.json:1:zzz")


def device(place: Path) -> None:
    place.symlink_to("/dev/zero")


def another_link(place: Path) -> None:
    place.symlink_to("/proc/self/fd/1")


def one_without_end(place: Path) -> None:
    with place.open("wb") as file:
        file.truncate(9 << 30)


ODDITIES = {"device": device, "fifo": os.mkfifo, "link": another_link, "without end": one_without_end}


@pytest.mark.parametrize("oddity", ODDITIES)
@pytest.mark.parametrize("place", ["src/deep/.gitignore", ".ignore", "src/.rgignore"])
async def test_an_ignore_file_that_is_none_neither_holds_a_search_up_nor_eats_memory(
    place: str, oddity: str, workspace: SessionWorkspace
) -> None:
    directory = Path(await workspace.working_dir())
    ODDITIES[oddity](directory / place)
    found, listed, below = await call_tools(
        workspace,
        ("search_files", {"pattern": "needle", "include_glob": "*.js"}),
        ("find_files", {"pattern": "*.js"}),
        ("search_files", {"pattern": "needle", "path": "src/deep", "include_glob": "*.js"}),
    )
    line = "src/deep/c.js:1:let needle = 1;"
    assert (found.content, listed.content, below.content) == (line, "src/deep/c.js", line)


@pytest.mark.parametrize("name", ["-delete", "(", "!", ","])
async def test_a_directory_is_not_taken_for_an_order(workspace: SessionWorkspace, name: str) -> None:
    (workspace.directory / name).mkdir()
    (workspace.directory / name / "f.txt").write_text("needle\n")
    before = sorted(workspace.directory.rglob("*"))

    [found, listed] = await call_tools(
        workspace,
        ("search_files", {"pattern": "needle", "path": name}),
        ("find_files", {"pattern": "*", "path": name}),
    )

    assert found.content == f"{name}/f.txt:1:needle"
    assert listed.content == f"{name}/f.txt"
    assert sorted(workspace.directory.rglob("*")) == before


@pytest.mark.parametrize("closed", ["src/b.py", "src/deep"])
async def test_what_cannot_be_read_is_said_and_the_rest_is_found(
    workspace: SessionWorkspace, closed: str
) -> None:
    if os.geteuid() == 0 and not workspace.holds_files_in:
        pytest.skip("the walk reads as root, which may read everything; it is run as an ordinary user, too")
    (workspace.directory / closed).chmod(0)
    found, listed = await call_tools(
        workspace, ("search_files", {"pattern": "needle"}), ("find_files", {"pattern": "*.txt"})
    )
    (workspace.directory / closed).chmod(0o700)
    mark = "[not everything could be looked at; name a narrower path to see the rest]"
    assert "src/crlf.txt:2:needle two" in found.content
    assert closed not in found.content
    assert found.content.endswith(mark)
    assert "src/crlf.txt" in listed.content
    assert listed.content.endswith(mark) is (closed == "src/deep")


async def test_what_is_no_file_is_not_searched(workspace: SessionWorkspace) -> None:
    directory = Path(await workspace.working_dir())
    os.mkfifo(directory / "fifo")
    (directory / "zero").symlink_to("/dev/zero")
    (directory / "src" / "ripgreprc").symlink_to("/dev/zero")
    fifo, everything = await call_tools(
        workspace,
        ("search_files", {"pattern": "needle", "path": "fifo"}),
        ("search_files", {"pattern": "needle", "include_glob": "*.js"}),
    )
    assert "needle" not in fifo.content
    assert everything.content == "src/deep/c.js:1:let needle = 1;"


async def test_a_line_that_fills_the_memory_is_left_to_the_walk(
    workspace: SessionWorkspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = file_search._SCRIPT.replace(  # pyright: ignore[reportPrivateUsage]  # the bound, made small
        f"ulimit -d {file_search.MAX_PROGRAM_KILOBYTES}", "ulimit -d 40000"
    )
    monkeypatch.setattr(file_search, "_SCRIPT", script)
    directory = Path(await workspace.working_dir())
    with (directory / "line.txt").open("w", encoding="utf-8") as file:
        for _ in range(100):
            file.write("z" * 1_000_000)
        file.write("needle")
    (result,) = await call_tools(workspace, ("search_files", {"pattern": "needle", "path": "line.txt"}))
    assert result.content.startswith("line.txt:1:z")


ATOMS = st.one_of(
    st.text(alphabet="ab./-é", max_size=4),
    st.sampled_from(["*", "**", "?", "[ab]", "[!a]", "{a,b}", "/", r"\*", "{", "}", "[", "]", ",", "!"]),
)


@given(st.lists(ATOMS, max_size=8).map("".join), st.text(alphabet="ab./-é*", max_size=20))
def test_any_glob_is_read_or_refused(pattern: str, path: str) -> None:
    try:
        matches = compile_glob(pattern)
    except InvalidGlob:
        return
    assert matches(path) in (True, False)


@given(st.text(alphabet="abé.", min_size=1, max_size=10), st.text(alphabet="abé./", max_size=10))
def test_a_name_without_wildcards_matches_itself_in_any_directory(name: str, directory: str) -> None:
    if "." not in (name[0],):
        assert compile_glob(name)(name)
        assert compile_glob(name)(f"{directory}/{name}")
        assert compile_glob(f"!{name}")(name) is False
