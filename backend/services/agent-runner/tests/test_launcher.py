"""Commands of a session: what they get, what comes back, and when."""

import asyncio
import errno
import os
import signal
import sys
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest
from pydantic_ai.workspaces import (
    CommandResult,
    WorkspaceError,
    WorkspaceOutputLimitError,
    WorkspaceTimeoutError,
)

from agent_runner.workspace import SessionWorkspace
from stigmer_contract.workspace_directories import judge, surroundings_here
from stigmer_contract.workspace_rules import Kind
from stigmer_isolation import running_command
from stigmer_isolation.command_environment import command_environment
from stigmer_isolation.launcher import CommandLauncher
from stigmer_isolation.running_command import StreamName, command_output_listener
from stigmer_isolation.zygote.policy import Policy

BOUND_SECONDS = 20.0


@pytest.fixture
async def launcher(tmp_path: Path) -> AsyncGenerator[CommandLauncher]:
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    async with CommandLauncher(temporary_root=temporary) as launcher:
        yield launcher


@pytest.fixture
def workspace(tmp_path: Path, launcher: CommandLauncher) -> SessionWorkspace:
    directory = tmp_path / "session"
    directory.mkdir()
    return SessionWorkspace(directory, launcher=launcher)


async def shell(
    workspace: SessionWorkspace, script: str, timeout_seconds: float | None = None
) -> CommandResult:
    """Run a shell script in the workspace."""
    return await workspace.run(["sh", "-c", script], timeout=timeout_seconds)


async def started(workspace: SessionWorkspace, script: str) -> asyncio.Task[CommandResult]:
    """A running script that has printed something."""
    printed = asyncio.Event()

    def note(stream: StreamName, text: str) -> None:
        printed.set()

    token = command_output_listener.set(note)
    running = asyncio.create_task(shell(workspace, script))
    command_output_listener.reset(token)
    async with asyncio.timeout(BOUND_SECONDS):
        await printed.wait()
    return running


async def test_a_command_sees_nothing_of_the_runners_environment(
    workspace: SessionWorkspace, launcher: CommandLauncher, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CANARY_API_KEY", "canary-in-a-coal-mine")
    async with CommandLauncher() as later:
        everything = await shell(
            SessionWorkspace(Path(await workspace.working_dir()), launcher=later),
            f"env; cat /proc/self/environ /proc/$PPID/environ /proc/{later.zygote_pid}/environ",
        )
    assert "canary" not in everything.stdout
    result = await workspace.run(["env"], env={"EXTRA": "1"})
    names = sorted(line.partition("=")[0] for line in result.stdout.splitlines())
    expected = [
        "EXTRA",
        "GIT_EDITOR",
        "GIT_TERMINAL_PROMPT",
        "HOME",
        "LANG",
        "PAGER",
        "PATH",
        "PWD",
        "TERM",
        "TMPDIR",
    ]
    assert names == expected


def test_only_harmless_variables_are_passed_on() -> None:
    environ = {"PATH": "/opt/bin", "LANG": "", "TZ": "Europe/Berlin", "OPENAI_API_KEY": "sk", "HOME": "/root"}
    assert command_environment(environ) == {"PATH": "/opt/bin", "LANG": "C.UTF-8", "TZ": "Europe/Berlin"}


async def test_a_command_works_in_the_directory_with_a_temporary_one_beside(
    workspace: SessionWorkspace, tmp_path: Path
) -> None:
    result = await shell(workspace, 'pwd; echo "$HOME"; umask; mktemp -d; ls -A; ulimit -c')
    directory, home, umask, temporary, core = result.stdout.splitlines()
    assert directory == home == await workspace.working_dir()
    assert (umask, core) == ("0022", "0")
    assert temporary.startswith(f"{tmp_path}/temporary/")
    assert not Path(temporary).exists()  # noqa: ASYNC240 - one look in a test


async def test_only_the_standard_streams_are_open(workspace: SessionWorkspace) -> None:
    lines = "import os", "for fd in range(4096):", " try: os.fstat(fd); print(fd)", " except OSError: pass"
    result = await workspace.run([sys.executable, "-c", "\n".join(lines)])
    assert result.stdout.split() == ["0", "1", "2"]


async def test_signals_work_as_in_a_fresh_process(workspace: SessionWorkspace) -> None:
    # The supervisor ignores SIGPIPE and SIGTERM; its commands must not.
    assert (await shell(workspace, "yes | head -n 1")).stdout == "y\n"
    assert (await shell(workspace, "kill -TERM $$")).exit_code == 128 + signal.SIGTERM


async def test_programs_that_cannot_be_executed_give_the_shells_codes(workspace: SessionWorkspace) -> None:
    root = await workspace.working_dir()
    await workspace.write_bytes(f"{root}/data", b"no program")
    results = [await workspace.run([name]) for name in ("no-such-program", f"{root}/data", root, "./data/x")]
    assert [(result.exit_code, result.stderr) for result in results] == [
        (127, "no-such-program: command not found\n"),
        (126, f"{root}/data: Permission denied\n"),
        (126, f"{root}: Permission denied\n"),
        (127, "./data/x: command not found\n"),
    ]


async def test_arguments_no_process_can_be_given_are_refused(workspace: SessionWorkspace) -> None:
    with pytest.raises(ValueError, match="null byte"):
        await workspace.run(["echo", "a\0b"])
    with pytest.raises(ValueError, match="no name"):
        await workspace.run(["true"], env={"A=B": "1"})
    with pytest.raises(ValueError, match="positive"):
        await workspace.run(["true"], timeout=0)
    with pytest.raises(OSError, match="too long") as caught:
        await workspace.run(["true", "x" * (1 << 20)])
    assert caught.value.errno == errno.E2BIG


async def test_a_timeout_keeps_the_output_so_far(workspace: SessionWorkspace) -> None:
    with pytest.raises(WorkspaceTimeoutError, match="timed out after 2s") as caught:
        await shell(workspace, "echo out; echo err >&2; sleep 1000", 2)
    assert (caught.value.stdout, caught.value.stderr) == ("out\n", "err\n")


async def test_a_flood_of_output_is_cut(workspace: SessionWorkspace) -> None:
    with pytest.raises(WorkspaceOutputLimitError) as caught:
        await workspace.run(["yes"])
    assert caught.value.stdout.startswith("y\ny\n")


async def test_output_is_shown_as_it_comes_and_decoded_across_pieces(workspace: SessionWorkspace) -> None:
    shown: list[tuple[str, str]] = []
    both_shown = asyncio.Event()

    def show(stream: StreamName, text: str) -> None:
        shown.append((stream, text))
        if {("stdout", "caf"), ("stderr", "first\n")} <= set(shown):
            both_shown.set()

    token = command_output_listener.set(show)
    try:
        # The two bytes of an é are written apart, and the command ends only once the first part was shown.
        script = r"printf 'caf\303'; echo first >&2; until [ -e go ]; do sleep 0.02; done; printf '\251\377'"
        running = asyncio.create_task(shell(workspace, script))
        async with asyncio.timeout(BOUND_SECONDS):
            await both_shown.wait()
        assert not running.done()
        await workspace.write_bytes(f"{await workspace.working_dir()}/go", b"")
        result = await running
    finally:
        command_output_listener.reset(token)
    assert "".join(text for stream, text in shown if stream == "stdout") == result.stdout == "café�"


async def test_a_listener_that_fails_kills_the_command_and_is_heard(workspace: SessionWorkspace) -> None:
    def refuse(_: str, text: str) -> None:
        raise LookupError(text)

    token = command_output_listener.set(refuse)
    try:
        async with asyncio.timeout(BOUND_SECONDS):
            with pytest.raises(LookupError, match="out"):
                await shell(workspace, "echo out; sleep 1000")
    finally:
        command_output_listener.reset(token)


async def test_many_commands_run_at_once(workspace: SessionWorkspace) -> None:
    results = await asyncio.gather(*(workspace.run(["echo", str(number)]) for number in range(100)))
    assert [result.stdout for result in results] == [f"{number}\n" for number in range(100)]
    assert len(os.listdir("/dev/fd")) < 50  # noqa: PTH208 - one look in a test


async def test_a_killed_zygote_is_replaced_and_running_commands_go_on(
    workspace: SessionWorkspace, launcher: CommandLauncher
) -> None:
    first = launcher.zygote_pid
    assert first is not None
    running = await started(workspace, "echo ready; until [ -e go ]; do sleep 0.02; done")
    os.kill(first, signal.SIGKILL)
    assert (await workspace.run(["echo", "again"])).stdout == "again\n"
    assert launcher.zygote_pid != first
    await workspace.write_bytes(f"{await workspace.working_dir()}/go", b"")
    assert (await running).exit_code == 0


async def test_a_stopped_zygote_is_replaced(
    workspace: SessionWorkspace, launcher: CommandLauncher, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(running_command, "START_SECONDS", 3.0)
    assert launcher.zygote_pid is not None
    os.kill(launcher.zygote_pid, signal.SIGSTOP)
    async with asyncio.timeout(BOUND_SECONDS):
        assert (await workspace.run(["echo", "again"])).stdout == "again\n"


async def test_a_command_that_kills_its_supervisor_is_reported(tmp_path: Path) -> None:
    async with CommandLauncher(policy=Policy()) as launcher, asyncio.timeout(BOUND_SECONDS):
        workspace = SessionWorkspace(tmp_path, launcher=launcher)
        with pytest.raises(WorkspaceError, match="watched over the command was killed"):
            await shell(workspace, "kill -9 $PPID; sleep 1000")
        assert (await workspace.run(["echo", "again"])).stdout == "again\n"


async def test_closing_the_launcher_kills_what_runs_and_refuses_more(
    workspace: SessionWorkspace, launcher: CommandLauncher
) -> None:
    running = await started(workspace, "echo ready; sleep 1000")
    async with asyncio.timeout(BOUND_SECONDS):
        await launcher.close()
        with pytest.raises(WorkspaceError, match="the runner is stopping"):
            await running
    with pytest.raises(WorkspaceError, match="the runner is stopping"):
        await workspace.run(["true"])


async def test_no_session_is_given_the_temporary_directory_of_a_running_command(tmp_path: Path) -> None:
    directory = tmp_path / "session"
    directory.mkdir()
    around = surroundings_here(state=[], sessions=[])
    async with CommandLauncher() as launcher:  # where the product has them
        workspace = SessionWorkspace(directory, launcher=launcher)
        printed = asyncio.get_running_loop().create_future()

        def note(stream: StreamName, text: str) -> None:
            if not printed.done():
                printed.set_result(os.path.realpath(text.strip()))

        token = command_output_listener.set(note)
        running = asyncio.create_task(shell(workspace, 'echo "$TMPDIR"; sleep 60'))
        command_output_listener.reset(token)
        temporary = Path(await asyncio.wait_for(printed, BOUND_SECONDS))
        (temporary / "deep").mkdir()
        for path in (temporary.parent, temporary, temporary / "deep"):
            assert getattr(judge(str(path), around), "kind", None) is Kind.COMMAND, path
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
