"""Attacks that take more than one command: on file tools, on who watches over commands, on their end.

Used as `command_attacks` is, in the tests' own process and as a program inside the runner's container, where
it prints what got through (`python session_attacks.py [control]`). With `control` a workspace that protects
nothing is attacked, to show what the attacks can do.
"""

import asyncio
import contextlib
import ctypes
import json
import os
import secrets
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from contextlib import asynccontextmanager
from pathlib import Path

from pydantic_ai.exceptions import ModelRetry
from pydantic_ai.workspaces import LocalWorkspaceBackend, WorkspaceError, WorkspaceTimeoutError

from agent_runner.commands import open_commands
from agent_runner.settings import load_settings
from agent_runner.workspace import SessionWorkspace
from command_attacks import KEY, SECRET, Scene, scene
from stigmer_isolation.command_environment import command_environment

Attacked = SessionWorkspace | LocalWorkspaceBackend

RACE_TRIES = 200
CONTROL_TRIES = 3000
BOUND_SECONDS = 20.0

# Swaps the directory `d` and the link `l` as fast as it can: AT_FDCWD, RENAME_EXCHANGE.
SWAP = """
import ctypes
libc = ctypes.CDLL(None)
while True:
    libc.renameat2(-100, b"d", -100, b"l", 2)
"""
_LEAVE_BEHIND = """
setsid sleep MARK & nohup sleep MARK >/dev/null 2>&1 &
"$PYTHON" -c '
import os, signal, time
for number in (1, 2, 3, 13, 15): signal.signal(number, signal.SIG_IGN)
if os.fork(): os._exit(0)
os.setsid()
if os.fork(): os._exit(0)
time.sleep(1000)' MARK
"""


class CheckingTools:
    """File tools that look where a path leads, and then use it: what a link swapped in meanwhile gets past.

    Raises, from every method:
        ModelRetry: it leads outside, or cannot be used.
    """

    async def read_file(self, path: str, *, workspace: Attacked) -> str:
        """What is in a file of the working directory."""
        with _told_to_the_model():
            return (await workspace.read_bytes(await _checked(path, workspace))).decode()

    async def write_file(self, path: str, text: str, *, workspace: Attacked) -> None:
        """Put it into a file of the working directory."""
        with _told_to_the_model():
            await workspace.write_bytes(await _checked(path, workspace), text.encode())


async def _checked(path: str, workspace: Attacked) -> str:
    root = await workspace.working_dir()
    if not Path(os.path.realpath(Path(root, path))).is_relative_to(os.path.realpath(root)):  # noqa: ASYNC240
        raise PermissionError(f"{path!r} leads outside")
    return str(Path(root, path))


@contextlib.contextmanager
def _told_to_the_model() -> Generator[None]:
    try:
        yield
    except (WorkspaceError, OSError) as error:
        raise ModelRetry(str(error)) from error


async def environment_of_a_command(here: Scene, attacked: Attacked) -> list[str]:
    """3: the key among a command's own variables."""
    done = await attacked.run(["sh", "-c", "env; cat /proc/self/environ"])
    return ["variables"] if KEY in done.stdout else []


async def killing_everyone(here: Scene, attacked: Attacked) -> list[str]:
    """9 and 10: kill all there is, and stop who watches over the command."""
    # Not isolated, this would be the end of the runner: so nothing is killed if the runner can be.
    guard = "kill -0 $RUNNER 2>/dev/null && exit 99; "
    killing = guard + "kill -9 $RUNNER; kill -9 1; sleep 1000 & echo on; kill -9 -1; wait $!; echo $?"
    done = await attacked.run(["sh", "-c", killing], env=here.variables)
    if (done.exit_code, done.stdout) != (0, "on\n137\n"):
        return [f"kill: {done.exit_code} {done.stdout}"]
    os.kill(int(here.variables["SIBLING"]), 0)
    with contextlib.suppress(WorkspaceTimeoutError):
        await attacked.run(
            ["sh", "-c", f"{guard}kill -STOP $PPID; sleep 1000"], env=here.variables, timeout=1
        )
        return ["stop"]
    return []


async def links_swapped_meanwhile(here: Scene, attacked: Attacked) -> list[str]:
    """18: let a file tool check a directory and use a link."""
    root = Path(await attacked.working_dir())
    (root / "d").mkdir()
    (root / "d/secret.txt").write_text("my own", encoding="utf-8")
    (root / "l").symlink_to(here.other)
    before = (here.other / "secret.txt").read_text(encoding="utf-8")
    tools = CheckingTools()
    tries = RACE_TRIES if isinstance(attacked, SessionWorkspace) else CONTROL_TRIES
    async with _meanwhile(here, SWAP):
        for _ in range(tries):
            with contextlib.suppress(ModelRetry):
                if SECRET in str(await tools.read_file("d/secret.txt", workspace=attacked)):
                    return ["read"]
            if isinstance(attacked, SessionWorkspace):
                with contextlib.suppress(ModelRetry):
                    await tools.write_file("d/secret.txt", "my own", workspace=attacked)
    return ["write"] if (here.other / "secret.txt").read_text(encoding="utf-8") != before else []


async def paths_that_lead_elsewhere(here: Scene, attacked: Attacked) -> list[str]:
    """19: what the file tools must refuse, and not wait for."""
    root = Path(await attacked.working_dir())
    (root / "a").mkdir()
    (root / "link").symlink_to(here.other / "secret.txt")
    os.mkfifo(root / "fifo")
    name = here.other.name
    paths = (
        f"{root}/../{name}/secret.txt",
        f"{root}/a/../../{name}/secret.txt",
        f"{here.other}/secret.txt",
        f"{root}/link",
        f"{root}/fifo",
        "/etc/passwd",
        "/proc/self/environ",
        "/dev/null",
        f"{root}/na\0me",
        f"{root}/{'x' * 5000}",
    )
    got_through = list[str]()
    for path in paths:
        with contextlib.suppress(WorkspaceError, OSError, ValueError, TimeoutError):
            async with asyncio.timeout(BOUND_SECONDS):
                await attacked.read_bytes(path)
            got_through.append(path[:100])
    return got_through


async def processes_left_behind(here: Scene, attacked: Attacked) -> list[str]:
    """20: daemons, when their command returns and when it is killed."""
    left = list[str]()
    for ending in ("exit 0", "sleep 1000"):
        mark = f"1000.{secrets.randbelow(10**12)}"
        script = f"{_LEAVE_BEHIND}\n{ending}".replace("MARK", mark)
        with contextlib.suppress(WorkspaceTimeoutError):
            await attacked.run(["sh", "-c", script], env=here.variables, timeout=2)
        left += [f"{pid} after {ending}" for pid in _pids_with(mark)]
    return left


ATTACKS_ON_SESSIONS: dict[str, Callable[[Scene, Attacked], Awaitable[list[str]]]] = {
    "3 own environment": environment_of_a_command,
    "9, 10 killing everyone": killing_everyone,
    "18 links swapped meanwhile": links_swapped_meanwhile,
    "19 paths that lead elsewhere": paths_that_lead_elsewhere,
    "20 processes left behind": processes_left_behind,
}
"""By title, which begins with numbers of the list of bad inputs."""


@asynccontextmanager
async def _meanwhile(here: Scene, program: str) -> AsyncGenerator[None]:
    """Run a program as a command of the attacking session."""
    attack = asyncio.create_task(here.attacker.run([sys.executable, "-c", program], timeout=110))
    try:
        yield
        assert not attack.done(), attack.result()
    finally:
        attack.cancel()
        await asyncio.wait({attack})


def _pids_with(mark: str) -> list[str]:
    found = list[str]()
    for directory in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if mark.encode() in (directory / "cmdline").read_bytes():
                found.append(directory.name)
    return found


async def _main() -> None:
    """Inside the container: as the runner would, with its settings, in its workspace."""
    ctypes.CDLL(None).prctl(4, 0, 0, 0, 0)  # as `protect_process`
    settings = load_settings({**os.environ, "STIGMER_TOKEN": "none"})
    async with open_commands(settings, command_environment(os.environ)) as commands:
        results: dict[str, list[str]] = {}
        for title, attack in ATTACKS_ON_SESSIONS.items():
            async with scene(commands.launcher, settings.sandbox_root_dir) as here:
                attacked: Attacked = here.attacker
                if sys.argv[1:] == ["control"]:
                    if title.startswith(("3", "9")):
                        continue  # whoever is not protected there would kill the runner
                    attacked = LocalWorkspaceBackend(Path(await here.attacker.working_dir()))
                results[title] = await attack(here, attacked)
        print(json.dumps(results))


if __name__ == "__main__":
    asyncio.run(_main())
