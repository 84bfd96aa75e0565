"""Nothing a command starts outlives it, whether it returns, times out, is cancelled, or loses its runner."""

import asyncio
import os
import secrets
import signal
import sys
import textwrap
from collections.abc import AsyncGenerator
from pathlib import Path

import psutil
import pytest
from pydantic_ai.workspaces import WorkspaceError, WorkspaceTimeoutError

from agent_runner.workspace import SessionWorkspace
from bubblewrap import working_bubblewrap
from stigmer_isolation.command_policy import command_policy
from stigmer_isolation.launcher import CommandLauncher
from stigmer_isolation.running_command import StreamName, command_output_listener
from stigmer_isolation.zygote.policy import Policy

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="orphans can be adopted on Linux only")

BOUND_SECONDS = 20.0

# Each shape leaves processes behind that carry TOKEN in their command line, prints "ready", and goes on as
# WAIT says. PYTHON is an interpreter.
SHAPES = {
    "plain child": "sleep 1000.TOKEN & echo ready; WAIT",
    "child in a session of its own": "setsid sleep 1000.TOKEN & echo ready; WAIT",
    "child that ignores hang-ups": "nohup sleep 1000.TOKEN >/dev/null 2>&1 & echo ready; WAIT",
    "children without streams": "(setsid sleep 1000.TOKEN <&- >&- 2>&- &) ; echo ready; WAIT",
    "daemon that ignores signals": """
        PYTHON -c '
        import os, signal, sys, time
        for number in (1, 2, 3, 13, 15): signal.signal(number, signal.SIG_IGN)
        if os.fork(): os._exit(0)
        os.setsid()
        if os.fork(): os._exit(0)
        time.sleep(1000)
        ' TOKEN; echo ready; WAIT""",
    "process that keeps changing its pid": """
        PYTHON -c '
        import os, time
        end = time.monotonic() + 60
        if os.fork(): os._exit(0)
        while time.monotonic() < end:
            if os.fork(): os._exit(0)
            os.setsid()
        ' TOKEN; echo ready; WAIT""",
    "bomb of 256 processes": """
        PYTHON -c '
        import os, time
        for _ in range(8): os.fork()
        os.setsid() if os.getpid() % 2 else None
        time.sleep(1000)
        ' TOKEN & echo ready; WAIT""",
    "adopter of its own orphans": """
        PYTHON -c '
        import ctypes, os, time
        ctypes.CDLL(None).prctl(36, 1)
        os.fork() or os.fork() or os.setsid()
        time.sleep(1000)
        ' TOKEN & echo ready; WAIT""",
    "child of a stopped supervisor": "sleep 1000.TOKEN & echo ready; kill -STOP $PPID; WAIT",
    "orphan of a killed supervisor": "setsid sleep 1000.TOKEN & echo ready; kill -9 $PPID; WAIT",
}
RETURNING = [shape for shape in SHAPES if "supervisor" not in shape]


# Without isolation, and where signals are not isolated, all processes are found by their parents.
POLICIES = {
    "isolated": None,
    "isolated, old kernel": 5,
    "not isolated": 0,
    "bubblewrap": None,
    "bubblewrap, old kernel": 5,
}


@pytest.fixture(params=POLICIES)
async def workspace(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncGenerator[SessionWorkspace]:
    abi = POLICIES[request.param]
    policy = command_policy(os.defpath)
    if abi is not None:
        policy = policy._replace(landlock_abi=abi) if abi else Policy()
    async with CommandLauncher(policy=policy) as launcher:
        if "bubblewrap" in request.param:
            launcher.bubblewrap = working_bubblewrap()
        yield SessionWorkspace(tmp_path, launcher=launcher)


@pytest.fixture
def token() -> str:
    """Digits, so that `sleep` takes them as a fraction."""
    return str(secrets.randbelow(10**12) + 10**12)


def script_of(shape: str, token: str, wait: str) -> str:
    text = textwrap.dedent(SHAPES[shape]).replace("\n" + " " * 8, "\n")
    return text.replace("TOKEN", token).replace("WAIT", wait).replace("PYTHON", sys.executable)


def left_of(token: str) -> list[str]:
    """The processes, zombies aside, that carry the token."""
    left: list[str] = []
    for process in psutil.process_iter(["cmdline", "status"]):
        if process.info["status"] != psutil.STATUS_ZOMBIE and token in " ".join(
            process.info["cmdline"] or ()
        ):
            left.append(f"{process.pid} {process.info['cmdline']}")
    return left


@pytest.mark.parametrize("shape", RETURNING)
async def test_nothing_is_left_when_a_command_returns(
    shape: str, workspace: SessionWorkspace, token: str
) -> None:
    async with asyncio.timeout(BOUND_SECONDS):
        result = await workspace.run(["sh", "-c", script_of(shape, token, "exit 3")])
    assert (result.exit_code, result.stdout) == (3, "ready\n")
    assert left_of(token) == []


@pytest.mark.parametrize("shape", SHAPES)
async def test_nothing_is_left_after_a_timeout(shape: str, workspace: SessionWorkspace, token: str) -> None:
    async with asyncio.timeout(BOUND_SECONDS):
        with pytest.raises(WorkspaceError) as caught:
            await workspace.run(["sh", "-c", script_of(shape, token, "sleep 1000")], timeout=1)
    assert isinstance(caught.value, WorkspaceTimeoutError) or "killed" in shape
    assert left_of(token) == []


@pytest.mark.parametrize("shape", SHAPES)
async def test_nothing_is_left_after_a_cancellation(
    shape: str, workspace: SessionWorkspace, token: str
) -> None:
    running = await start(workspace, script_of(shape, token, "sleep 1000"))
    async with asyncio.timeout(BOUND_SECONDS):
        running.cancel()
        await asyncio.wait({running})
    assert running.cancelled() or "killed" in shape
    assert left_of(token) == []


async def start(workspace: SessionWorkspace, script: str) -> asyncio.Task[object]:
    """Start a script and wait until it says it is ready."""
    ready = asyncio.Event()

    def note(stream: StreamName, text: str) -> None:
        ready.set()

    listening = command_output_listener.set(note)
    running: asyncio.Task[object] = asyncio.create_task(workspace.run(["sh", "-c", script]))
    command_output_listener.reset(listening)
    async with asyncio.timeout(BOUND_SECONDS):
        await ready.wait()
    return running


async def test_the_last_words_of_a_process_substitution_are_kept(workspace: SessionWorkspace) -> None:
    script = 'echo word > >(sleep 0.05; read -r line; echo "last $line")'
    if (await workspace.run(["bash", "-c", "true"])).exit_code != 0:
        pytest.skip("only bash has process substitution")
    assert (await workspace.run(["bash", "-c", script])).stdout == "last word\n"


RUNNER = """
import asyncio, os, sys
from pathlib import Path
from agent_runner.workspace import SessionWorkspace
from stigmer_isolation.bubblewrap import Bubblewrap
from stigmer_isolation.launcher import CommandLauncher
from stigmer_isolation.running_command import command_output_listener

async def main():
    async with CommandLauncher() as launcher:
        if sys.argv[2] == "bubblewrap":
            launcher.bubblewrap = Bubblewrap.find()
        workspace = SessionWorkspace(Path(sys.argv[1]), launcher=launcher)
        command_output_listener.set(lambda stream, text: print(launcher.zygote_pid, flush=True))
        commands = (workspace.run(["sh", "-c", script]) for script in sys.argv[3:])
        await asyncio.gather(*commands, return_exceptions=True)

asyncio.run(main())
"""


@pytest.mark.parametrize("kind", ["no bubblewrap", "bubblewrap"])
async def test_nothing_is_left_when_the_runner_is_killed(kind: str, tmp_path: Path, token: str) -> None:
    if kind == "bubblewrap":
        working_bubblewrap()
    scripts = [script_of(shape, token, "sleep 1000") for shape in SHAPES]
    runner = await asyncio.create_subprocess_exec(
        sys.executable, "-c", RUNNER, str(tmp_path), kind, *scripts, stdout=asyncio.subprocess.PIPE
    )
    assert runner.stdout is not None
    async with asyncio.timeout(BOUND_SECONDS):
        announced = [int(await runner.stdout.readline()) for _ in scripts]
        assert left_of(token)
        os.kill(runner.pid, signal.SIGKILL)
        await runner.wait()
        while left_of(token) or psutil.pid_exists(announced[0]):  # noqa: ASYNC110 - other processes raise no event
            await asyncio.sleep(0.05)
