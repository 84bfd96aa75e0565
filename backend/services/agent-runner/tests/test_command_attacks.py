"""What a hostile command cannot do: the list of attacks, against commands of this process."""

import os
import shutil
import sys
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest
from pydantic_ai.workspaces import WorkspaceTimeoutError

from bubblewrap import working_bubblewrap
from command_attacks import ATTACKS, GAPS, KEY, MUST_WORK, MUST_WORK_WHERE_INSTALLED, SECRET, Scene, scene
from needed import skip_outside_ci
from session_attacks import ATTACKS_ON_SESSIONS
from stigmer_contract.process_protection import protect_process
from stigmer_isolation.command_policy import command_policy
from stigmer_isolation.launcher import CommandLauncher
from stigmer_isolation.zygote.landlock import abi_version
from stigmer_isolation.zygote.policy import Policy

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="only Linux can isolate commands"),
    pytest.mark.skipif(
        abi_version() < 1 and not os.environ.get("CI"), reason="this kernel has no Landlock to test"
    ),
]

NEWEST = abi_version()
FORCED = {
    "this kernel": NEWEST,
    "enclosed": NEWEST,
    "as Linux 6.10": 5,
    "enclosed as Linux 6.10": 5,
    "as Linux 5.19": 2,
    "as Linux 5.13": 1,
}
# Where Landlock does not confine signals, those of sessions among themselves are not either.
OPEN_BEFORE_SCOPES = {"signal a sibling"}
MIN_OPEN_WITHOUT_ISOLATION = 0.7


@pytest.fixture(autouse=True)
def canary(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KEY, SECRET)


@pytest.fixture(params=FORCED)
async def isolated(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncGenerator[Scene]:
    policy = command_policy(os.environ["PATH"])
    if FORCED[request.param] > NEWEST:
        pytest.skip("a newer kernel is needed")
    policy = policy._replace(landlock_abi=FORCED[request.param])
    async with CommandLauncher(policy=policy) as launcher:
        if "enclosed" in request.param:
            launcher.bubblewrap = working_bubblewrap()
        async with scene(launcher, tmp_path) as here:
            yield here


@pytest.fixture
async def newest(tmp_path: Path) -> AsyncGenerator[Scene]:
    async with CommandLauncher() as launcher, scene(launcher, tmp_path) as here:
        yield here


@pytest.fixture
async def enclosed(tmp_path: Path) -> AsyncGenerator[Scene]:
    async with CommandLauncher() as launcher:
        launcher.bubblewrap = working_bubblewrap()
        async with scene(launcher, tmp_path) as here:
            yield here


@pytest.fixture
async def unprotected(tmp_path: Path) -> AsyncGenerator[Scene]:
    async with CommandLauncher(policy=Policy()) as launcher, scene(launcher, tmp_path) as here:
        yield here


@pytest.mark.parametrize("title", ATTACKS)
async def test_an_attack_is_refused(title: str, isolated: Scene) -> None:
    results = await isolated.results(ATTACKS[title])
    got_through = {name for name, is_open in results.items() if is_open}
    if isolated.launcher.policy.landlock_abi < 6 and isolated.launcher.bubblewrap is None:
        got_through -= OPEN_BEFORE_SCOPES
    assert (got_through, isolated.arrived_signals) == (set(), [])
    assert results


@pytest.mark.parametrize("title", GAPS)
@pytest.mark.xfail(reason="known gap: Landlock does not confine metadata", strict=True)
async def test_a_known_gap_is_closed(title: str, newest: Scene) -> None:
    assert not any((await newest.results(GAPS[title])).values())


@pytest.mark.parametrize("title", GAPS)
async def test_a_known_gap_is_closed_in_an_enclosure(title: str, enclosed: Scene) -> None:
    results = await enclosed.results(GAPS[title])
    assert results
    assert not any(results.values())


async def test_the_list_does_succeed_without_isolation(unprotected: Scene) -> None:
    outcomes = [
        is_open for attack in ATTACKS.values() for is_open in (await unprotected.results(attack)).values()
    ]
    assert sum(outcomes) >= MIN_OPEN_WITHOUT_ISOLATION * len(outcomes), outcomes
    assert len(outcomes) > 60


@pytest.mark.parametrize("isolated", ["this kernel", "enclosed"], indirect=True)
async def test_killing_everyone_kills_the_command_only(isolated: Scene) -> None:
    # Not isolated, this would be the end of the machine: so nothing is killed if the runner can be.
    guarded = "kill -0 $RUNNER 2>/dev/null && exit 99; kill -9 $RUNNER; kill -9 1; kill -STOP $PPID; "
    script = guarded + "sleep 1000 & echo on; kill -9 -1; wait $!; echo $?"
    result = await isolated.attacker.run(["sh", "-c", script], env=isolated.variables)
    assert (result.exit_code, result.stdout) == (0, "on\n137\n")
    os.kill(int(isolated.variables["SIBLING"]), 0)
    with pytest.raises(WorkspaceTimeoutError):
        await isolated.attacker.run(["sh", "-c", "kill -STOP $PPID; sleep 1000"], timeout=1)


@pytest.mark.parametrize("title", ATTACKS_ON_SESSIONS)
@pytest.mark.parametrize("isolated", ["this kernel", "enclosed"], indirect=True)
async def test_an_attack_on_a_session_is_refused(title: str, isolated: Scene) -> None:
    assert await ATTACKS_ON_SESSIONS[title](isolated, isolated.attacker) == []


async def test_the_environment_holds_no_key(newest: Scene) -> None:
    result = await newest.attacker.run(["sh", "-c", "env; cat /proc/self/environ"], env={})
    assert KEY not in result.stdout
    assert "Permission denied" in result.stderr


@pytest.mark.parametrize("title", MUST_WORK)
async def test_a_program_works(title: str, isolated: Scene) -> None:
    result = await isolated.attacker.run(["bash", "-c", MUST_WORK[title]], env=isolated.variables, timeout=60)
    assert result.exit_code == 0, result.stderr


@pytest.mark.parametrize("title", MUST_WORK_WHERE_INSTALLED)
@pytest.mark.parametrize("isolated", ["this kernel", "enclosed"], indirect=True)
async def test_a_developers_program_works(title: str, isolated: Scene) -> None:
    program, script = MUST_WORK_WHERE_INSTALLED[title]
    if shutil.which(program) is None:
        skip_outside_ci(f"{program} is not installed")
    result = await isolated.attacker.run(["bash", "-c", script], timeout=100)
    assert result.exit_code == 0, result.stderr


def test_the_runner_protects_itself() -> None:
    # In a process of its own: it cannot be undone, and debuggers of tests would be shut out.
    pid = os.fork()
    if pid == 0:
        os._exit(0 if protect_process() and os.path.exists("/proc/self/environ") else 1)  # noqa: PTH110
    assert os.waitpid(pid, 0)[1] == 0
