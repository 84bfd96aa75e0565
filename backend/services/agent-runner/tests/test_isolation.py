"""How well commands are isolated: what the self-test finds, what follows, and what commands may use up."""

import asyncio
import logging
import os
import socket
import subprocess
import sys
from collections.abc import AsyncGenerator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import get_args

import pytest
from pydantic_ai.workspaces import CommandResult, WorkspaceError, WorkspaceOutputLimitError

import agent_runner.commands
from agent_runner.commands import Commands, open_commands
from agent_runner.errors import SettingsError
from agent_runner.settings import load_settings
from agent_runner.workspace import Isolation, SessionWorkspace
from stigmer_contract import isolation_words
from stigmer_contract.isolation_words import ENOUGH, ISOLATION_LEVELS
from stigmer_isolation.bubblewrap import Bubblewrap
from stigmer_isolation.command_environment import command_environment
from stigmer_isolation.command_policy import command_policy
from stigmer_isolation.launcher import CommandLauncher
from stigmer_isolation.self_test import ENOUGH as SUFFICIENT_LEVELS
from stigmer_isolation.self_test import IsolationLevel, measure_isolation
from stigmer_isolation.web_access import WebAccess
from stigmer_isolation.zygote import policy
from stigmer_isolation.zygote.landlock import abi_version
from stigmer_isolation.zygote.own_mounts import can_be_own
from stigmer_isolation.zygote.policy import Network, Policy

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="only Linux can isolate commands"),
    pytest.mark.skipif(
        abi_version() < 6 and not os.environ.get("CI"), reason="this kernel is too old to test"
    ),
]

# Root's processes have powers that commands give up, and so cannot be looked into; a person's own can, unless
# commands are in a user namespace of their own.
WITHOUT_LANDLOCK = IsolationLevel.WEAK if os.getuid() == 0 or can_be_own() else IsolationLevel.NONE
LEVELS = {7: "full", 6: "full", 5: "good", 3: "good", 2: "partial", 1: "partial", 0: WITHOUT_LANDLOCK}


@pytest.mark.parametrize("abi", LEVELS)
async def test_the_level_follows_what_the_kernel_offers(abi: int) -> None:
    if abi > abi_version():
        pytest.skip("this kernel is too old to test that")
    policy = command_policy(os.defpath)._replace(landlock_abi=abi)
    async with CommandLauncher(policy=policy) as launcher:
        found = await measure_isolation(launcher)
    assert found.level == LEVELS[abi]
    assert found.is_enough == (abi > 0)
    assert (Isolation(found, "require").refusal is None) == (abi > 0)


async def test_an_attack_that_gets_through_lowers_the_level() -> None:
    policy = command_policy(os.defpath)
    async with CommandLauncher(policy=policy._replace(readable=(*policy.readable, "/proc"))) as launcher:
        assert (await measure_isolation(launcher)).level is IsolationLevel.FULL
        launcher.policy = launcher.policy._replace(landlock_abi=0, has_seccomp=True, network="all")
        no_landlock = await measure_isolation(launcher)
        launcher.policy = Policy()
        none = await measure_isolation(launcher)
    assert (no_landlock.level, none.level) == (WITHOUT_LANDLOCK, IsolationLevel.NONE)
    assert "a command could read another session's file" in no_landlock.findings
    # Such as a person's shell, with keys that no process of ours can shield.
    looked = "a command could read the environment of another process of the user" in no_landlock.findings
    assert looked == (WITHOUT_LANDLOCK is IsolationLevel.NONE)


MEASURE = """
import asyncio
from stigmer_isolation.bubblewrap import Bubblewrap
from stigmer_isolation.launcher import CommandLauncher
from stigmer_isolation.self_test import measure_isolation

async def main():
    async with CommandLauncher() as launcher:
        found = await measure_isolation(launcher, Bubblewrap.find())
    print(found.level, *found.findings, sep="\\n")

asyncio.run(main())
"""


@pytest.mark.skipif(os.getuid() != 0, reason="of root only")
def test_root_without_the_powers_to_mount_does_not_reach_the_best_level() -> None:
    powers = "-sys_admin,-setfcap"
    argv = ["setpriv", "--bounding-set", powers, "--inh-caps", powers, sys.executable, "-c", MEASURE]
    done = subprocess.run(argv, capture_output=True, text=True, check=True, timeout=100)
    assert done.stdout.splitlines() == [
        "good",
        "a command could change the modes of entries of /proc",
        "a command could change the modes of the machine's devices",
    ]


async def test_a_self_test_that_fails_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    async with CommandLauncher() as launcher:
        monkeypatch.setattr(sys, "executable", "/nowhere/python")
        isolation = await measure_isolation(launcher)
    assert isolation.level is IsolationLevel.NONE
    assert "/nowhere/python: command not found" in isolation.findings[0]


def policy_without_landlock(path: str, *, readable: Iterable[Path], withheld: Iterable[Path]) -> Policy:
    return command_policy(path, readable=readable, withheld=withheld)._replace(landlock_abi=0)


@asynccontextmanager
async def commands_with(root: Path, **environ: str) -> AsyncGenerator[Commands]:
    """Commands as the runner opens them, with these variables."""
    settings = load_settings({"STIGMER_TOKEN": "none", "SANDBOX_ROOT_DIR": str(root), **environ})
    async with open_commands(settings, command_environment(os.environ)) as commands:
        yield commands


@pytest.mark.parametrize("variable", ["STIGMER_ISOLATION", "STIGMER_SANDBOX"])
async def test_where_isolation_is_required_and_missing_commands_are_refused(
    variable: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(agent_runner.commands, "command_policy", policy_without_landlock)
    monkeypatch.setattr(Bubblewrap, "find", lambda: None)
    async with commands_with(tmp_path, **{variable: "require"}) as commands:
        with pytest.raises(
            WorkspaceError, match=f"isolation on this machine is `{WITHOUT_LANDLOCK}`"
        ) as caught:
            await SessionWorkspace(tmp_path, launcher=commands.launcher).run(["true"])
        assert "STIGMER_ISOLATION=warn" in str(caught.value)
    [record] = [
        record
        for record in caplog.records
        if f"isolation of commands: {WITHOUT_LANDLOCK}" in record.getMessage()
    ]
    assert record.levelno == logging.WARNING


@pytest.mark.parametrize(("open_part", "variable"), [("home", "STIGMER_HOME"), ("root", "SANDBOX_ROOT_DIR")])
async def test_a_runner_whose_own_state_is_open_to_commands_does_not_start(
    open_part: str, variable: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As where a grant could not be kept from it.
    def policy_with_a_hole(path: str, *, readable: Iterable[Path], withheld: Iterable[Path]) -> Policy:
        return command_policy(path, readable=[*readable, tmp_path / open_part])

    monkeypatch.setattr(agent_runner.commands, "command_policy", policy_with_a_hole)
    monkeypatch.setattr(Bubblewrap, "find", lambda: None)
    for part in ("home", "root"):
        (tmp_path / part).mkdir(mode=0o700)
    with pytest.raises(SettingsError) as caught:
        async with commands_with(tmp_path / "root", STIGMER_HOME=str(tmp_path / "home")):
            pass
    assert str(caught.value) == (
        f"{variable}: '{tmp_path}/{open_part}' is open to commands of agents; name a directory elsewhere"
    )


async def test_where_it_is_only_warned_of_commands_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(agent_runner.commands, "command_policy", policy_without_landlock)
    monkeypatch.setattr(Bubblewrap, "find", lambda: None)
    async with commands_with(tmp_path) as commands:
        workspace = SessionWorkspace(tmp_path, launcher=commands.launcher)
        assert (await workspace.run(["true"])).exit_code == 0
        assert workspace.warning is not None
        assert "WITHOUT sufficient isolation" in workspace.warning


async def test_turned_off_nothing_is_isolated_and_that_is_said(tmp_path: Path) -> None:
    async with commands_with(tmp_path, STIGMER_ISOLATION="off") as commands:
        workspace = SessionWorkspace(tmp_path, launcher=commands.launcher)
        assert commands.isolation.level is IsolationLevel.NONE
        assert (await workspace.run(["cat", "/proc/self/status"])).exit_code == 0
        assert workspace.warning is not None


# --- the network ------------------------------------------------------------------------------


async def reach(network: Network, port: int, tmp_path: Path, launcher: CommandLauncher) -> CommandResult:
    workspace = SessionWorkspace(tmp_path, launcher=launcher, network=network)
    return await workspace.run(["bash", "-c", f"exec 3<>/dev/tcp/127.0.0.1/{port}"])


async def test_each_network_reaches_what_it_says(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as web, socket.create_server(("127.0.0.1", 0)) as other:
        web_port, other_port = web.getsockname()[1], other.getsockname()[1]
        async with CommandLauncher(web=WebAccess((web_port,))) as launcher:
            networks: tuple[Network, ...] = ("none", "web", "all")
            reached = {
                network: [
                    (await reach(network, port, tmp_path, launcher)).exit_code == 0
                    for port in (web_port, other_port)
                ]
                for network in networks
            }
    assert reached == {"none": [False, False], "web": [True, False], "all": [True, True]}


async def test_the_web_is_refused_where_ports_cannot_be_held_in(tmp_path: Path) -> None:
    async with CommandLauncher(policy=command_policy(os.defpath)._replace(landlock_abi=3)) as launcher:
        with pytest.raises(WorkspaceError, match=r"`network: web` needs Linux 6\.7"):
            await reach("web", 443, tmp_path, launcher)


async def test_a_proxy_is_told_to_commands_with_a_network_only(tmp_path: Path) -> None:
    async with CommandLauncher(web=WebAccess((3128,), "http://proxy:3128")) as launcher:
        shown = {
            network: (
                await SessionWorkspace(tmp_path, launcher=launcher, network=network).run(["env"])
            ).stdout
            for network in ("none", "web")
        }
    assert "PROXY" not in shown["none"]
    assert "HTTPS_PROXY=http://proxy:3128\n" in shown["web"]


# --- what may be used up ----------------------------------------------------------------------


@pytest.fixture
async def small(tmp_path: Path) -> AsyncGenerator[SessionWorkspace]:
    """A session that may use 64 MiB of disk and 256 MiB of memory."""
    async with commands_with(
        tmp_path, STIGMER_ISOLATION_DISK_MB="64", STIGMER_ISOLATION_MEMORY_MB="256"
    ) as commands:
        yield SessionWorkspace(tmp_path, launcher=commands.launcher)


async def test_a_session_that_fills_the_disk_loses_its_command_only(small: SessionWorkspace) -> None:
    fill = "i=0; while true; do i=$((i+1)); head -c 8000000 /dev/zero >f$i; sleep 0.02; done"
    with pytest.raises(WorkspaceError, match=r"killed by the disk quota.*64 MiB"):
        await small.run(["sh", "-c", fill], timeout=60)
    # It may still tidy up, and then go on.
    assert (await small.run(["sh", "-c", "rm f*; sleep 1; echo tidy"])).stdout == "tidy\n"
    assert (await small.run(["sh", "-c", "head -c 8000000 /dev/zero >f; sleep 1; echo on"])).stdout == "on\n"


async def test_one_file_cannot_be_larger_than_the_quota(small: SessionWorkspace) -> None:
    attempts = {
        "fallocate": "fallocate -l 100G x",
        "dd": "dd if=/dev/zero of=x bs=1M",
        "temporary file": "dd if=/dev/zero of=$TMPDIR/x bs=1M",
        "shared memory": "dd if=/dev/zero of=/dev/shm/stigmer-test-$$ bs=1M",
        "memory file": f"""{sys.executable} -c 'import os
fd = os.memfd_create("m")
while True: os.write(fd, bytes(1 << 20))'""",
    }
    try:
        for name, attempt in attempts.items():
            try:
                result = await small.run(["sh", "-c", f"rm -f x; {attempt}"], timeout=60)
            except WorkspaceError as error:  # the session's quota was looked at just then
                assert "disk quota" in str(error), name
            else:
                assert result.exit_code != 0, name
    finally:
        for left in Path("/dev/shm").glob("stigmer-test-*"):  # noqa: ASYNC240 - a directory in memory
            left.unlink()


async def test_a_process_that_eats_memory_is_refused_more(small: SessionWorkspace) -> None:
    hog = f"{sys.executable} -c 'x = bytearray(1 << 30)'"
    results = await asyncio.gather(*(small.run(["sh", "-c", hog], timeout=60) for _ in range(4)))
    assert all("MemoryError" in result.stderr for result in results)


async def test_commands_die_before_the_runner_when_memory_runs_out(tmp_path: Path) -> None:
    async with CommandLauncher(policy=Policy()) as launcher:
        script = "cat /proc/self/oom_score_adj /proc/$PPID/oom_score_adj; nice; ulimit -n; ulimit -c"
        result = await SessionWorkspace(tmp_path, launcher=launcher).run(["sh", "-c", script])
    own = int(Path("/proc/self/oom_score_adj").read_text(encoding="ascii"))  # noqa: ASYNC240 - not a disk's
    assert result.stdout.split() == ["1000", "900", "10", "4096", "0"]
    assert own < 900


async def test_a_flood_of_output_ends_the_command_and_all_until_then_is_told(small: SessionWorkspace) -> None:
    with pytest.raises(WorkspaceOutputLimitError, match="wrote over 10 MiB") as caught:
        await small.run(["yes"])
    assert 10 << 20 < len(caught.value.stdout) < 12 << 20


def test_the_contract_has_the_words_of_the_isolation() -> None:
    assert tuple(IsolationLevel) == ISOLATION_LEVELS
    assert tuple(level.value for level in SUFFICIENT_LEVELS) == ENOUGH
    assert get_args(policy.Network) == get_args(isolation_words.Network)
