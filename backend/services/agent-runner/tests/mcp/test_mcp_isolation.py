"""What a server's process is held to: as commands are, with variables that nobody else sees."""

import os
import shlex
import shutil
import sys
import textwrap
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest
from pydantic import SecretStr

from agent_runner.legs import ActivityAttempt
from agent_runner.mcp_servers.contents import parts_of
from agent_runner.mcp_servers.servers import McpServers
from attack_list import ATTACKS, PRELUDE, STAYS_OPEN
from command_attacks import KEY, SECRET, Scene, scene
from leg_server import SESSION, Server, leg_runner
from mcp_legs import STAND_INS, calls, plain, refuse_none, results
from stigmer_contract.events import EVENT_ADAPTER
from stigmer_contract.manifest import AgentSpec
from stigmer_isolation.launcher import CommandLauncher
from stigmer_isolation.zygote.landlock import SCOPE_ABI, abi_version

TRY = ActivityAttempt("try-1", b"token")
PASSED_ON = "known-to-one-server-only-77"
OWN_INPUT = frozenset(
    f"keep_{what} of a device, by {way}"
    for what in ("mode", "times", "owner")
    for way in ("descriptor", "link")
)
"""What a server has as its standard input is a pipe that nobody else has, and no device."""
SEARCH = f"""
import glob, os
found = []
for file in glob.glob('/proc/[0-9]*/environ') + glob.glob('/proc/[0-9]*/cmdline'):
    try:
        text = open(file, 'rb').read()
    except OSError:
        continue
    if {PASSED_ON[:10]!r}.encode() + {PASSED_ON[10:]!r}.encode() in text and str(os.getpid()) not in file:
        found.append(file)
said = (found, os.environ.get('TOKEN'), os.environ['HOME'] == os.environ['TMPDIR'])
"""


async def test_what_one_server_knows_is_nowhere_else(tmp_path: Path) -> None:
    workspace = tmp_path / SESSION
    workspace.mkdir(mode=0o700)
    shutil.copy(STAND_INS / "plain_server.py", workspace / "server.py")
    server = Server(
        tools=["shell"],
        mcpServers=[plain("one", env={"TOKEN": PASSED_ON}), plain("two")],
    )
    command = shlex.join([sys.executable, "-c", SEARCH + "print(said)"])
    answer = calls(
        ("one__run", {"script": "import os; said = len(os.environ['TOKEN'])"}),
        ("two__run", {"script": SEARCH}),
        ("run_command", {"command": command}),
    )
    async with CommandLauncher() as launcher:
        await leg_runner(server, answer, launcher, tmp_path).run("exe_1", TRY)
    own, other, commands = results(server)
    assert own.text == str(len(PASSED_ON))
    assert other.text == "([], None, True)"
    assert commands.text == "[stdout]\n([], None, False)\n"
    # The manifest itself is all that names it: here a text, where a person would name a secret.
    assert not [event for event in server.events if PASSED_ON.encode() in EVENT_ADAPTER.dump_json(event)]


@pytest.mark.skipif(
    sys.platform != "linux" or (abi_version() < SCOPE_ABI and not os.environ.get("CI")),
    reason="this kernel cannot isolate as the newest does",
)
@pytest.mark.parametrize("attack", ATTACKS)
async def test_the_attacks_of_commands_fail_from_inside_a_server(
    attack: str, attacked: tuple[Scene, McpServers]
) -> None:
    here, servers = attacked
    script = f"""
import contextlib, io, os
os.environ.update({dict(here.variables)!r})
told = io.StringIO()
with contextlib.redirect_stdout(told):
    exec({PRELUDE + textwrap.dedent(ATTACKS[attack])!r}, {{'__name__': '__main__'}})
said = told.getvalue()
"""
    result, _ = await servers.call(
        "plain", "run", {"script": script}, may_repeat=False, progress=lambda _: None
    )
    text = "\n".join(str(part) for part in parts_of(result))
    assert SECRET not in text
    got_through = {line.partition(" |")[0] for line in text.splitlines() if line.startswith("OPEN ")}
    got_through = {name.removeprefix("OPEN ") for name in got_through}
    assert got_through <= STAYS_OPEN["native"] | OWN_INPUT, text
    assert text


@pytest.fixture
async def attacked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncGenerator[tuple[Scene, McpServers]]:
    monkeypatch.setenv(KEY, SECRET)
    async with CommandLauncher() as launcher, scene(launcher, tmp_path) as here:
        directory = Path(await here.attacker.working_dir())
        shutil.copy(STAND_INS / "plain_server.py", directory / "server.py")
        spec = AgentSpec.model_validate({"instructions": "x", "mcpServers": [plain()]})
        servers = McpServers(spec.mcp_servers, {"unused": SecretStr("x")}, here.attacker, 60.0, refuse_none)
        try:
            yield here, servers
        finally:
            await servers.close()
