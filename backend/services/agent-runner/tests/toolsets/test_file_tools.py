"""The tools of `files` in ordinary and hostile workspaces."""

import asyncio
import os
import time
from collections.abc import AsyncGenerator, Coroutine
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_runner.toolsets.shown_names import meant_name, shown_name
from agent_runner.toolsets.text_edits import MAX_REPLACEMENTS, EditRefused, Replacement, apply_replacements
from agent_runner.workspace import SessionWorkspace
from huge_file_calls import HUGE_FILE_CALLS, MAKE_HUGE_FILES
from stigmer_isolation.launcher import CommandLauncher
from tool_calls import Result, call_tools


@pytest.fixture
async def workspace(tmp_path: Path) -> AsyncGenerator[SessionWorkspace]:
    directory = tmp_path / "session"
    directory.mkdir()
    async with CommandLauncher() as launcher:
        yield SessionWorkspace(directory, launcher=launcher)


async def test_a_listing_shows_hidden_files_and_where_links_lead(
    workspace: SessionWorkspace, tmp_path: Path
) -> None:
    directory = tmp_path / "session"
    (directory / "a.txt").write_text("four", encoding="utf-8")
    (directory / ".env").write_text("", encoding="utf-8")
    (directory / "src").mkdir()
    (directory / "lib").symlink_to("src")
    (directory / "same.txt").symlink_to("a.txt")
    (directory / "tool").symlink_to("/usr/bin/env")
    (directory / "gone").symlink_to("nowhere")
    (directory / "loop").symlink_to("loop")
    os.mkfifo(directory / "pipe")
    (directory / os.fsdecode(b"caf\xe9.txt")).write_text("x", encoding="utf-8")
    [listing, inner] = await call_tools(
        workspace, ("list_directory", {}), ("list_directory", {"path": "lib"})
    )
    assert listing == Result(
        "success",
        ".env  (0 bytes)\n"
        "a.txt  (4 bytes)\n"
        "caf\\xe9.txt  (1 bytes)\n"
        "gone -> nowhere  (leads nowhere)\n"
        "lib/ -> src\n"
        "loop -> loop  (a loop of links)\n"
        "pipe  (neither a file nor a directory)\n"
        "same.txt -> a.txt  (4 bytes)\n"
        "src/\n"
        "tool -> /usr/bin/env  (leads outside the workspace)",
    )
    assert inner == Result("success", "(empty directory)")


async def test_a_name_that_is_not_utf_8_is_opened_by_how_it_is_shown(
    workspace: SessionWorkspace, tmp_path: Path
) -> None:
    name = os.fsdecode(b"caf\xe9.txt")
    (tmp_path / "session" / name).write_text("au lait\n", encoding="utf-8")
    results = await call_tools(
        workspace,
        ("read_file", {"path": "caf\\xe9.txt"}),
        ("edit_file", {"path": "caf\\xe9.txt", "old_text": "au lait", "new_text": "noir"}),
        ("write_file", {"path": "new\\xe9.txt", "content": "literal"}),
        ("search_files", {"pattern": "noir"}),
    )
    assert [result.outcome for result in results] == ["success"] * 4
    assert (tmp_path / "session" / name).read_text(encoding="utf-8") == "noir\n"
    assert results[3].content == "caf\\xe9.txt:1:noir"


@given(st.binary(min_size=1, max_size=12).filter(lambda name: b"\0" not in name and b"/" not in name))
def test_every_name_is_valid_text_and_leads_back(name: bytes) -> None:
    shown = shown_name(os.fsdecode(name))
    shown.encode("utf-8")
    assert shown.splitlines() in ([shown], [])
    if b"\\x" not in name:
        meant = meant_name(shown)
        assert os.fsencode(shown if meant is None else meant) == name


async def test_a_written_file_brings_its_directories(workspace: SessionWorkspace, tmp_path: Path) -> None:
    [result] = await call_tools(workspace, ("write_file", {"path": "deep/er/x.txt", "content": "a\nb"}))
    assert result.outcome == "success" and result.content.startswith(
        "Wrote 3 chars (2 lines) to deep/er/x.txt."
    )
    assert (tmp_path / "session/deep/er/x.txt").read_text(encoding="utf-8") == "a\nb"


async def test_what_is_not_a_file_is_told_as_what_it_is(workspace: SessionWorkspace, tmp_path: Path) -> None:
    (tmp_path / "session/src").mkdir()
    (tmp_path / "session/a.txt").write_text("", encoding="utf-8")
    results = await call_tools(
        workspace,
        ("read_file", {"path": "src"}),
        ("read_file", {"path": "missing.txt"}),
        ("list_directory", {"path": "a.txt"}),
        ("write_file", {"path": "src", "content": "x"}),
        ("read_file", {"path": "a.txt", "offset": 5}),
    )
    assert [result.outcome for result in results] == ["failed", "failed", "failed", "failed", "success"]
    assert results[0].content == "src is a directory; list_directory shows what is in it"
    assert results[1].content == "Path not found: missing.txt"
    assert results[2].content.startswith("Not a directory: a.txt")


async def test_a_huge_file_costs_a_failed_call_and_no_memory(
    workspace: SessionWorkspace, tmp_path: Path
) -> None:
    [made, *results] = await call_tools(
        workspace,
        ("run_command", {"command": MAKE_HUGE_FILES}),
        *((tool, arguments) for tool, arguments, _ in HUGE_FILE_CALLS),
    )
    assert made.outcome == "success"
    expected = ["success" if succeeds else "failed" for _, _, succeeds in HUGE_FILE_CALLS]
    assert [result.outcome for result in results] == expected
    assert (tmp_path / "session/huge").stat().st_size == 5


LOOP_BOUND_SECONDS = 0.1
MAX_TRIES = 20


def lay_out_nothing(directory: Path) -> None:
    """For calls that need no file."""


def lay_out_long(directory: Path) -> None:
    (directory / "long.txt").write_text("x" * 60_000_000, encoding="utf-8")


def lay_out_lines(directory: Path) -> None:
    (directory / "lines.txt").write_text("line\n" * 5_000_000, encoding="utf-8")


def lay_out_edited(directory: Path) -> None:
    (directory / "edited.txt").write_text("aab\r\n" * 3_000_000 + "end", encoding="utf-8")


def lay_out_bytes(directory: Path) -> None:
    (directory / "bytes.txt").write_bytes(b"caf\xe9\n" * 3_000_000)


def lay_out_picture(directory: Path) -> None:
    (directory / "picture.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(4_900_000))


def lay_out_many(directory: Path) -> None:
    (directory / "many").mkdir()
    for number in range(4_000):
        (directory / "many" / f"{number:020}.txt").symlink_to(f"{number}")


def lay_out_links(directory: Path) -> None:
    (directory / "link0").mkdir()
    for number in range(1, 40):
        (directory / f"link{number}").symlink_to(f"link{number - 1}/" + "./" * 1000)


EDITS = [{"old_text": f"aab\nen{number}", "new_text": ""} for number in range(50)]
HOLDING = {
    "a long line": (lay_out_long, ("read_file", {"path": "long.txt"})),
    "many lines": (lay_out_lines, ("read_file", {"path": "lines.txt", "offset": 4_999_000})),
    "what a long line is": (lay_out_long, ("file_info", {"path": "long.txt"})),
    "no valid text": (lay_out_bytes, ("read_file", {"path": "bytes.txt", "offset": 2_999_000})),
    "a picture": (lay_out_picture, ("read_file", {"path": "picture.png"})),
    "much to write": (lay_out_nothing, ("write_file", {"path": "new.txt", "content": "y\n" * 2_500_000})),
    "what is there first": (
        lay_out_long,
        ("write_file", {"path": "long.txt", "content": "y", "expected_hash": "0"}),
    ),
    "one edit in much": (
        lay_out_edited,
        ("edit_file", {"path": "edited.txt", "old_text": "b\nend", "new_text": "c\nend"}),
    ),
    "an edit that fits nearly everywhere": (
        lay_out_edited,
        ("edit_file", {"path": "edited.txt", "old_text": "aab\n" * 5_000 + "x", "new_text": "c"}),
    ),
    "many edits": (
        lay_out_edited,
        ("edit_file", {"path": "edited.txt", "replacements": EDITS}),
    ),
    "many entries": (lay_out_many, ("list_directory", {"path": "many"})),
    "names": (lay_out_many, ("find_files", {"pattern": "**/*[0-9]*1.txt"})),
    "a glob with many alternatives": (lay_out_many, ("find_files", {"pattern": "{a,b,*}" * 12})),
    "much found": (lay_out_lines, ("search_files", {"pattern": "l?i?n?e?"})),
    "a long line found": (lay_out_long, ("search_files", {"pattern": "(x+x+)+y|x"})),
    "links to links": (lay_out_links, ("read_file", {"path": "link39/a.txt"})),
    "a long path": (lay_out_nothing, ("create_directory", {"path": "d/" * 150})),
    "a path that goes up and down": (lay_out_nothing, ("read_file", {"path": "d/../" * 400_000 + "a"})),
}  # fmt: skip
"""What is laid out, and the call that meets it."""


@pytest.mark.parametrize("kind", HOLDING)
async def test_no_file_tool_holds_the_event_loop(
    kind: str, workspace: SessionWorkspace, tmp_path: Path
) -> None:
    """Neither by work of its own nor by a thread that keeps the interpreter to itself.

    Counted is what all threads of this process use of a processor in one turn of the loop: the longest turn.
    Where the machine lets the loop wait while a thread works, that counts as well; so the best try of some is
    told.
    """
    lay_out, call = HOLDING[kind]
    lay_out(tmp_path / "session")
    await call_tools(workspace, ("list_directory", {}))  # what is loaded with the first call
    longest: list[float] = []
    while not longest or (min(longest) >= LOOP_BOUND_SECONDS and len(longest) < MAX_TRIES):
        longest.append(await longest_turn(call_tools(workspace, call)))
    assert min(longest) < LOOP_BOUND_SECONDS


async def longest_turn(work: Coroutine[None, None, object]) -> float:
    """Do the work, while the loop turns all the time; seconds of processor that its longest turn took."""
    task, longest, before = asyncio.ensure_future(work), 0.0, time.process_time()
    while not task.done():
        await asyncio.sleep(0)
        now = time.process_time()
        longest, before = max(longest, now - before), now
    await task
    return longest


async def test_an_edit_that_fits_nearly_everywhere_is_found_not_to_fit_at_once(
    workspace: SessionWorkspace, tmp_path: Path
) -> None:
    """It took hours, in which no other session went on."""
    lay_out_edited(tmp_path / "session")
    edits = [{"old_text": "x", "new_text": "y"}] * (MAX_REPLACEMENTS + 1)
    one, many = await call_tools(
        workspace,
        ("edit_file", {"path": "edited.txt", "old_text": "aab\n" * 5_000 + "x", "new_text": "c"}),
        ("edit_file", {"path": "edited.txt", "replacements": edits}),
    )
    assert one == Result("failed", "old_text not found in edited.txt. No changes were written.")
    assert many == Result("failed", "at most 500 replacements can be made in one call")


async def test_parallel_edits_of_one_file_all_hold(workspace: SessionWorkspace, tmp_path: Path) -> None:
    place = tmp_path / "session" / "f.txt"
    place.write_text("".join(f"line {number}.\n" for number in range(8)), encoding="utf-8")
    await asyncio.gather(
        *(
            call_tools(
                workspace,
                (
                    "edit_file",
                    {"path": "f.txt", "old_text": f"line {number}.", "new_text": f"edited {number}."},
                ),
            )
            for number in range(8)
        )
    )
    assert place.read_text(encoding="utf-8") == "".join(f"edited {number}.\n" for number in range(8))


async def test_git_s_own_files_are_not_written_through_a_link(
    workspace: SessionWorkspace, tmp_path: Path
) -> None:
    (tmp_path / "session/.git/hooks").mkdir(parents=True)
    (tmp_path / "session/innocent").symlink_to(".git/hooks")
    (tmp_path / "session/config").symlink_to(".git/config")
    results = await call_tools(
        workspace,
        ("write_file", {"path": "innocent/pre-commit", "content": "#!/bin/sh\n"}),
        ("write_file", {"path": "config", "content": "[core]\n"}),
        ("create_directory", {"path": ".git/x"}),
    )
    assert [result.outcome for result in results] == ["failed"] * 3
    assert list((tmp_path / "session/.git").rglob("*")) == [tmp_path / "session/.git/hooks"]


async def test_what_git_would_take_for_a_repository_is_neither_written_nor_completed(
    workspace: SessionWorkspace, tmp_path: Path
) -> None:
    session = tmp_path / "session"
    for folder in (
        "bare/objects",
        "bare/refs",
        "bare/hooks",
        "no-head/objects",
        "no-head/refs",
        "no-refs/objects",
    ):
        (session / folder).mkdir(parents=True)
    for name in ("bare/HEAD", "bare/config", "no-refs/HEAD", "tree/HEAD"):
        (session / name).parent.mkdir(exist_ok=True)
        (session / name).write_text("ref: refs/heads/main\n", encoding="utf-8")
    (session / "hooks").symlink_to("bare/hooks")
    (session / "head").symlink_to("no-head/HEAD")
    (session / "odd-\udcff").symlink_to("bare")
    before = sorted(session.rglob("*"))

    results = await call_tools(
        workspace,
        ("write_file", {"path": "bare/config", "content": "[core]\n"}),
        ("edit_file", {"path": "bare/config", "old_text": "ref", "new_text": "[core]"}),
        ("write_file", {"path": "bare/any/thing", "content": ""}),
        ("write_file", {"path": "hooks/pre-push", "content": ""}),
        ("write_file", {"path": "odd-\\xff/config", "content": ""}),
        ("write_file", {"path": "no-head/HEAD", "content": ""}),
        ("write_file", {"path": "head", "content": ""}),
        ("create_directory", {"path": "no-refs/refs"}),
        ("write_file", {"path": "no-refs/refs/heads/main", "content": ""}),
        ("write_file", {"path": "tree/commondir", "content": "../no-head\n"}),
        ("create_directory", {"path": "project/.Git"}),
    )

    assert [result.outcome for result in results] == ["failed"] * 11
    assert all("git" in str(result.content) for result in results)
    assert sorted(session.rglob("*")) == before


async def test_ordinary_files_that_are_called_as_git_s_are_written(
    workspace: SessionWorkspace, tmp_path: Path
) -> None:
    (tmp_path / "session/no-head/objects").mkdir(parents=True)
    results = await call_tools(
        workspace,
        ("write_file", {"path": "HEAD", "content": ""}),
        ("write_file", {"path": "refs/notes.md", "content": ""}),
        ("create_directory", {"path": "no-head/refs"}),
        ("write_file", {"path": "no-head/config", "content": ""}),
        ("write_file", {"path": ".github/config", "content": ""}),
    )
    assert [result.outcome for result in results] == ["success"] * 5


@pytest.mark.parametrize(
    ("text", "old", "new", "edited"),
    [
        ("one\r\ntwo\r\nthree\r\n", "one\ntwo\n", "eins\nzwei\n", "eins\r\nzwei\r\nthree\r\n"),
        ("one\r\nthree\r\n", "three", "drei\nvier", "one\r\ndrei\r\nvier\r\n"),
        ("a\nb\n", "a\r\nb", "c\r\nd", "c\r\nd\n"),
        ("a\nb\r\nc\n", "b\nc", "x\ny", "a\nx\r\ny\n"),
        ("a\nb\n", "a\nb", "x\ny", "x\ny\n"),
        ("\ufeffa\r\n", "a", "b\nc", "\ufeffb\r\nc\r\n"),
        ("a\r\nb\r\n", "\nb", "\nc\nd", "a\r\nc\r\nd\r\n"),
        ("a\r\nb\r\n", "\nb", "c", "ac\r\n"),
        ("\r\nb", "\r\nb", "\r\nc", "\r\nc"),
        ("\nb\r\n", "\nb", "\nc", "\nc\r\n"),
    ],
)
def test_line_ends_of_the_file_stay(text: str, old: str, new: str, edited: str) -> None:
    assert apply_replacements(text, [Replacement(old, new)], "f") == edited


LINES = st.lists(st.text(alphabet="abc ", max_size=4), min_size=1, max_size=6)


@given(before=LINES, line_end=st.sampled_from(["\n", "\r\n"]), new=LINES)
def test_an_edit_never_mixes_line_ends(before: list[str], line_end: str, new: list[str]) -> None:
    text = line_end.join([*before, "unique", "lines", *before, ""])
    edited = apply_replacements(text, [Replacement("unique\nlines", "\n".join(new))], "f")
    assert edited == line_end.join([*before, *new, *before, ""])


@pytest.mark.parametrize(
    ("text", "old", "why"), [("aa", "a", "found 2 times"), ("b", "a", "not found"), ("a", "", "is empty")]
)
def test_an_edit_that_does_not_fit_changes_nothing(text: str, old: str, why: str) -> None:
    with pytest.raises(EditRefused, match=why):
        apply_replacements(text, [Replacement(old, "x")], "f")


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
async def test_utf_16_is_read_and_stays_utf_16_when_it_is_edited(
    workspace: SessionWorkspace, tmp_path: Path, encoding: str
) -> None:
    place = tmp_path / "session" / "wide.txt"
    mark = "\ufeff".encode(encoding)
    place.write_bytes(mark + "eins\r\nzwei \U0001f600\r\n".encode(encoding))
    [shown, edited, found] = await call_tools(
        workspace,
        ("read_file", {"path": "wide.txt"}),
        ("edit_file", {"path": "wide.txt", "old_text": "eins\nzwei", "new_text": "one\ntwo"}),
        ("search_files", {"pattern": "^two"}),
    )
    assert "     1\teins\r\n     2\tzwei \U0001f600\r\n" in shown.content
    assert edited.outcome == "success"
    assert place.read_bytes() == mark + "one\r\ntwo \U0001f600\r\n".encode(encoding)
    assert found.content.splitlines() == ["wide.txt:2:two \U0001f600"]


async def test_half_a_character_of_utf_16_is_shown_and_not_edited(
    workspace: SessionWorkspace, tmp_path: Path
) -> None:
    content = b"\xff\xfea\0b"
    (tmp_path / "session" / "odd.txt").write_bytes(content)
    [shown, edited] = await call_tools(
        workspace,
        ("read_file", {"path": "odd.txt"}),
        ("edit_file", {"path": "odd.txt", "old_text": "a", "new_text": "b"}),
    )
    assert "     1\ta" in shown.content
    assert edited.outcome == "failed"
    assert (tmp_path / "session" / "odd.txt").read_bytes() == content


async def test_a_byte_order_mark_is_not_shown_and_stays(workspace: SessionWorkspace, tmp_path: Path) -> None:
    place = tmp_path / "session" / "marked.txt"
    place.write_bytes(b"\xef\xbb\xbfone\n")
    [shown, edited] = await call_tools(
        workspace,
        ("read_file", {"path": "marked.txt"}),
        ("edit_file", {"path": "marked.txt", "old_text": "one", "new_text": "two"}),
    )
    assert "     1\tone" in shown.content
    assert edited.outcome == "success"
    assert place.read_bytes() == b"\xef\xbb\xbftwo\n"


async def test_a_glob_may_name_the_workspace_by_its_whole_path(
    workspace: SessionWorkspace, tmp_path: Path
) -> None:
    directory = tmp_path / "session"
    for name in ("top.py", "src/inner.py"):
        (directory / name).parent.mkdir(exist_ok=True)
        (directory / name).write_text("needle", encoding="utf-8")
    [top, inner, found] = await call_tools(
        workspace,
        ("find_files", {"pattern": f"{directory}/*.py"}),
        ("find_files", {"pattern": f"{directory}/**/inner.*"}),
        ("search_files", {"pattern": "needle", "include_glob": f"{directory}/src/*.py"}),
    )
    assert top.content.splitlines() == ["top.py"]
    assert inner.content.splitlines() == ["src/inner.py"]
    assert found.content.splitlines() == ["src/inner.py:1:needle"]
