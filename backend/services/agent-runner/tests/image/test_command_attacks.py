"""The list of attacks against commands of the image, as it is locked down by default, with each engine."""

import json
from typing import Any

from attack_list import STAYS_OPEN
from command_attacks import EXHAUSTION, KEY, LIMITED, SECRET
from container_engine import LOCKED_DOWN, REPOSITORY, Engine
from session_attacks import ATTACKS_ON_SESSIONS

PYTHON = "/opt/agent-runner/bin/python"
PROGRAM = "command_attacks.py"
ATTACKS = "backend/libs/python/stigmer-isolation/tests/attacks/attack_list.py"
MOUNTED = (ATTACKS, "tests/support/command_attacks.py", "tests/support/session_attacks.py")
ENVIRONMENTS = {"docker": "Docker", "podman": "Podman"}
MIN_OPEN_WITHOUT_ISOLATION = 40
"""Of what the process-level suite tries; the container itself stops the rest."""


def attack(
    engine: Engine, image: str, *arguments: str, options: tuple[str, ...] = (), program: str = PROGRAM
) -> Any:
    """Run a program of attacks in the container of a runner; what it printed."""
    said = engine.output(
        "run",
        "--rm",
        "--network=none",
        *LOCKED_DOWN,
        *options,
        f"--env={KEY}={SECRET}",
        *(f"--volume={REPOSITORY}/{path}:/attacks/{path.rpartition('/')[2]}:ro" for path in MOUNTED),
        f"--entrypoint={PYTHON}",
        image,
        f"/attacks/{program}",
        *arguments,
    )
    assert SECRET not in said
    return json.loads(said.splitlines()[-1])


def test_what_gets_through_is_what_the_table_says(engine: Engine, image: str) -> None:
    outcome = attack(engine, image)
    got_through = {part for parts in outcome["results"].values() for part in parts}
    assert (outcome["level"], got_through) == ("full", STAYS_OPEN[ENVIRONMENTS[engine.kind]])


def test_no_attack_on_a_session_gets_through(engine: Engine, image: str) -> None:
    results = attack(engine, image, program="session_attacks.py")
    assert results == {title: [] for title in ATTACKS_ON_SESSIONS}


def test_attacks_on_a_session_do_succeed_on_a_workspace_that_protects_nothing(
    engine: Engine, image: str
) -> None:
    results = attack(engine, image, "control", program="session_attacks.py")
    assert {title.partition(" ")[0] for title, parts in results.items() if parts} == {"18", "19", "20"}


def test_the_list_does_succeed_without_isolation(engine: Engine, image: str) -> None:
    outcome = attack(engine, image, "unprotected")
    succeeded = [part for parts in outcome["results"].values() for part in parts]
    assert outcome["level"] == "none"
    assert len(succeeded) >= MIN_OPEN_WITHOUT_ISOLATION


def test_a_command_that_uses_everything_up_leaves_the_runner_at_work(engine: Engine, image: str) -> None:
    options = ("--memory=768m", "--pids-limit=512", "--env=STIGMER_ISOLATION_DISK_MB=200")
    ends = attack(engine, image, "exhaust", options=options)
    expected = dict.fromkeys(EXHAUSTION, "WorkspaceTimeoutError") | LIMITED
    # A command whose processes are killed for want of memory may also end before its time.
    assert {
        title: end.replace("returned", "WorkspaceTimeoutError") for title, end in ends.items()
    } == expected


def test_without_landlock_the_image_refuses_commands(engine: Engine, image: str) -> None:
    script = (
        "import stigmer_isolation.zygote.landlock as landlock\n"
        "landlock.abi_version = lambda: 0\n"
        "import asyncio, pathlib\n"
        "from agent_runner.commands import open_commands\n"
        "from agent_runner.settings import load_settings\n"
        "from agent_runner.workspace import SessionWorkspace\n"
        "import os\n"
        "async def main():\n"
        "    async with open_commands(load_settings({**os.environ, 'STIGMER_TOKEN': 'x'}), {}) as commands:\n"
        "        await SessionWorkspace(pathlib.Path('/tmp'), launcher=commands.launcher).run(['true'])\n"
        "asyncio.run(main())\n"
    )
    options = ("--rm", "--network=none", *LOCKED_DOWN, f"--entrypoint={PYTHON}", image, "-c", script)
    done = engine.call("run", *options, check=False)
    assert done.returncode == 1
    assert "commands are refused: STIGMER_ISOLATION is `require`" in done.stderr
