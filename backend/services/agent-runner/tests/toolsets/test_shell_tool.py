"""The tool of `shell`: which shell it is, what it says of how a command ended, and of long output."""

import shlex
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_runner.toolsets.command_output import cut_middle, fold_progress
from agent_runner.toolsets.terminal_programs import terminal_program
from agent_runner.workspace import SessionWorkspace
from stigmer_isolation.launcher import CommandLauncher
from tool_calls import Result, call_tools


@pytest.fixture
async def workspace(tmp_path: Path) -> AsyncGenerator[SessionWorkspace]:
    directory = tmp_path / "session"
    directory.mkdir()
    async with CommandLauncher() as launcher:
        yield SessionWorkspace(directory, launcher=launcher)


async def test_commands_are_bash(workspace: SessionWorkspace) -> None:
    results = await call_tools(
        workspace,
        ("run_command", {"command": "mkdir -p x/{a,b}; ls x"}),
        ("run_command", {"command": "[[ a == a ]] && echo yes"}),
        ("run_command", {"command": "echo 'V=1' > env.sh; source ./env.sh && echo $V"}),
        ("run_command", {"command": "set -o pipefail; false | true; echo rc=$?"}),
        ("run_command", {"command": "a=(1 2 3); echo ${#a[@]} <(true)"}),
    )
    assert [result.outcome for result in results] == ["success"] * 5
    assert [result.content for result in results[:4]] == [
        "[stdout]\na\nb\n", "[stdout]\nyes\n", "[stdout]\n1\n", "[stdout]\nrc=1\n",
    ]  # fmt: skip


async def test_a_command_that_does_not_succeed_is_a_failed_call_with_its_output(
    workspace: SessionWorkspace,
) -> None:
    results = await call_tools(
        workspace,
        ("run_command", {"command": "echo out; echo err >&2; exit 3"}),
        ("run_command", {"command": "no-such-program"}),
        ("run_command", {"command": "echo begun; sleep 1000", "timeout_seconds": 1}),
        ("run_command", {"command": "false"}),
        ("run_command", {"command": "true"}),
    )
    assert results[0] == Result("failed", "[stdout]\nout\n\n[stderr]\nerr\n\n[exit code: 3]")
    assert results[1].outcome == "failed" and results[1].content.endswith("[exit code: 127]")
    assert results[2] == Result("failed", "[stdout]\nbegun\n\n[Command timed out after 1s]")
    assert results[3] == Result("failed", "[exit code: 1]")
    assert results[4] == Result("success", "(no output)")


async def test_of_long_output_both_ends_are_shown_and_all_of_it_is_kept(
    workspace: SessionWorkspace,
) -> None:
    [long, kept, searched] = await call_tools(
        workspace,
        ("run_command", {"command": "echo first error; seq 1 20000; echo the summary"}),
        (
            "run_command",
            {"command": "grep -c . $HOME/.stigmer/outputs/*.txt; sed -n 10002p $HOME/.stigmer/outputs/*"},
        ),
        ("search_files", {"pattern": "^12345$"}),
    )
    assert len(long.content) <= 50_000
    assert long.content.startswith("[stdout]\nfirst error\n1\n") and long.content.endswith("\nthe summary\n")
    assert "characters cut; the whole output is in $HOME/.stigmer/outputs/" in long.content
    assert kept == Result("success", "[stdout]\n20003\n10000\n")
    assert searched.content == "No matches found."


async def test_a_flood_of_output_is_cut_with_both_ends(workspace: SessionWorkspace) -> None:
    [result] = await call_tools(workspace, ("run_command", {"command": "echo begin; yes"}))
    assert result.outcome == "failed"
    assert (
        result.content.startswith("[stdout]\nbegin\ny\n")
        and "redirect its output to a file" in result.content
    )
    assert len(result.content) <= 50_000


async def test_what_only_looks_interactive_runs_and_what_needs_a_terminal_is_told_so(
    workspace: SessionWorkspace,
) -> None:
    runs = [
        "top -b -n1 | head -1",
        "man-db --version; true",
        "less /dev/null",
        "vim -es -c q; true",
        "echo vi x",
    ]
    refused = ["vi x", "cd . && vim x", "true; sudo nano x", "if true; then htop; fi", "X=1 top"]
    results = await call_tools(
        workspace, *(("run_command", {"command": command}) for command in runs + refused)
    )
    assert [("needs a terminal" in result.content) for result in results] == [False] * 5 + [True] * 5
    assert [result.outcome for result in results[5:]] == ["failed"] * 5


@pytest.mark.parametrize(
    "command",
    [
        "cat <<EOF\nvi is an editor\nEOF",
        "echo 'a; vi b'",
        'git commit -m "top && nano"',
        "./vi.sh",
        "grep -r vi .",
        "emacs --batch -l x",
    ],
)
def test_a_program_s_name_alone_is_no_reason_to_refuse(command: str) -> None:
    assert terminal_program(command) is None


@given(st.text(alphabet="ab;&|'\"\\ \n(){}<$=vi", max_size=200))
def test_any_text_is_scanned(command: str) -> None:
    terminal_program(command)


@given(st.sampled_from(["vi", "nano", "top"]), st.text(alphabet="ab/._-", min_size=1, max_size=20))
def test_quoting_hides_no_program_that_needs_a_terminal(program: str, argument: str) -> None:
    if not argument.startswith("-"):
        assert terminal_program(f"cd /tmp && {program} {shlex.quote(argument)}") == program


def test_progress_is_shown_as_a_terminal_leaves_it() -> None:
    assert fold_progress("10%\r50%\r100%\ndone\r\nx\ry") == "100%\ndone\ny"


@given(st.text(alphabet="ab\n", max_size=300), st.integers(min_value=80, max_value=200))
def test_what_is_cut_fits_and_keeps_both_ends(text: str, room: int) -> None:
    shown = cut_middle(text, room, "all is elsewhere")
    assert len(shown) <= room or len(text) <= room
    if len(text) > room:
        assert text.startswith(shown.partition("\n[... ")[0])
        assert text.endswith(shown.rpartition(" ...]\n")[2])
