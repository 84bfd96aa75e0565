"""Runs commands in a container of the runner's image as an agent's are run: isolated."""

from container_engine import LOCKED_DOWN, Engine

_PYTHON = "/opt/agent-runner/bin/python"
_PROGRAM = """
import asyncio, os, pathlib, sys
from agent_runner.commands import open_commands
from agent_runner.settings import load_settings
from agent_runner.workspace import SessionWorkspace
from stigmer_isolation.command_environment import command_environment

async def main():
    directory = pathlib.Path(sys.argv[1])
    directory.mkdir(exist_ok=True)
    settings = load_settings({**os.environ, "STIGMER_TOKEN": "none"})
    async with open_commands(settings, command_environment(os.environ)) as commands:
        workspace = SessionWorkspace(directory, launcher=commands.launcher)
        done = await workspace.run(["bash", "-c", sys.argv[2]], timeout=120)
    print(done.stdout, end="")
    print(done.stderr, end="", file=sys.stderr)
    sys.exit(done.exit_code)

asyncio.run(main())
"""


def run_as_agent(
    engine: Engine, image: str, script: str, *options: str, directory: str = "/workspace/session"
) -> str:
    """What a command says that a session runs in that directory of the container; locked down, no network."""
    return engine.output(
        "run",
        "--rm",
        "--network=none",
        *LOCKED_DOWN,
        *options,
        f"--entrypoint={_PYTHON}",
        image,
        "-c",
        _PROGRAM,
        directory,
        script,
    )
