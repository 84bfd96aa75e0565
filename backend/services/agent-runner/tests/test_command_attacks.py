"""What a hostile command cannot do: the list of attacks, against commands of this process."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest
from pydantic_ai.workspaces import WorkspaceTimeoutError

import attack_list
import command_attacks
from attack_list import (
    ATTACKS,
    ATTACKS_BY_MORE_THAN_A_COMMAND,
    MUST_WORK,
    MUST_WORK_WHERE_INSTALLED,
    OPEN_BEFORE_SCOPES,
    STAYS_OPEN,
)
from bubblewrap import working_bubblewrap
from command_attacks import KEY, SECRET, Scene, scene
from needed import skip_outside_ci
from other_person import other_person
from session_attacks import ATTACKS_ON_SESSIONS
from stigmer_contract.process_protection import protect_process
from stigmer_isolation.command_policy import command_policy
from stigmer_isolation.launcher import CommandLauncher
from stigmer_isolation.zygote.landlock import SCOPE_ABI, abi_version
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
    "bubblewrap": NEWEST,
    "as Linux 6.10": 5,
    "bubblewrap as Linux 6.10": 5,
    "as Linux 5.19": 2,
    "as Linux 5.13": 1,
}
ATTACKING_PROGRAM = Path(command_attacks.__file__)
LIST_FOLDER = str(Path(attack_list.__file__).parent)
COMMAND_SECONDS = 110
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
        if "bubblewrap" in request.param:
            launcher.bubblewrap = working_bubblewrap()
        async with scene(launcher, tmp_path) as here:
            yield here


@pytest.fixture
async def newest(tmp_path: Path) -> AsyncGenerator[Scene]:
    async with CommandLauncher() as launcher, scene(launcher, tmp_path) as here:
        yield here


@pytest.fixture
async def unprotected(tmp_path: Path) -> AsyncGenerator[Scene]:
    async with CommandLauncher(policy=Policy()) as launcher, scene(launcher, tmp_path) as here:
        yield here


@pytest.mark.parametrize("title", ATTACKS)
async def test_an_attack_is_refused(title: str, isolated: Scene) -> None:
    results = await isolated.results(ATTACKS[title])
    got_through = {name for name, is_open in results.items() if is_open}
    expected = STAYS_OPEN["native"]
    if isolated.launcher.bubblewrap is not None:
        expected = STAYS_OPEN["native, in bubblewrap"]
    elif isolated.launcher.policy.landlock_abi < SCOPE_ABI:
        got_through -= OPEN_BEFORE_SCOPES  # of who started later only
    assert (got_through, isolated.arrived_signals) == (expected.intersection(results), [])
    assert results


@pytest.mark.parametrize("way", ["plain", "in bubblewrap"])
def test_an_attack_by_commands_of_an_ordinary_user_is_refused(way: str, tmp_path: Path) -> None:
    if os.getuid() != 0:
        pytest.skip("the other tests are run by an ordinary user already")
    arguments = [way] if way == "plain" else []
    with other_person() as person:
        root = person.home / "sessions"
        root.mkdir(mode=0o700)
        os.chown(root, person.user_id, person.user_id)
        done = subprocess.run(
            [*person.prefix, sys.executable, str(ATTACKING_PROGRAM), *arguments],
            env=person.environment | {KEY: SECRET, "SANDBOX_ROOT_DIR": str(root), "PYTHONPATH": LIST_FOLDER},
            cwd=person.home,
            capture_output=True,
            text=True,
            timeout=COMMAND_SECONDS,
            check=False,
        )
    assert done.returncode == 0, done.stderr
    outcome = json.loads(done.stdout.splitlines()[-1])
    if way == "in bubblewrap" and not outcome["has_bubblewrap"]:
        working_bubblewrap()
    got_through = {part for parts in outcome["results"].values() for part in parts}
    environment = "native" if way == "plain" else "native, in bubblewrap"
    assert (outcome["level"], got_through) == ("full", STAYS_OPEN[environment])


async def test_the_list_does_succeed_without_isolation(unprotected: Scene) -> None:
    outcomes = [
        is_open for attack in ATTACKS.values() for is_open in (await unprotected.results(attack)).values()
    ]
    assert sum(outcomes) >= MIN_OPEN_WITHOUT_ISOLATION * len(outcomes), outcomes
    assert len(outcomes) > 60


@pytest.mark.parametrize("isolated", ["this kernel", "bubblewrap"], indirect=True)
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
@pytest.mark.parametrize("isolated", ["this kernel", "bubblewrap"], indirect=True)
async def test_an_attack_on_a_session_is_refused(title: str, isolated: Scene) -> None:
    assert await ATTACKS_ON_SESSIONS[title](isolated, isolated.attacker) == []


def test_the_table_names_every_attack_by_more_than_a_command() -> None:
    assert tuple(ATTACKS_ON_SESSIONS) == ATTACKS_BY_MORE_THAN_A_COMMAND


async def test_the_environment_holds_no_key(newest: Scene) -> None:
    result = await newest.attacker.run(["sh", "-c", "env; cat /proc/self/environ"], env={})
    assert KEY not in result.stdout
    assert "Permission denied" in result.stderr


@pytest.mark.parametrize("title", MUST_WORK)
async def test_a_program_works(title: str, isolated: Scene) -> None:
    result = await isolated.attacker.run(["bash", "-c", MUST_WORK[title]], env=isolated.variables, timeout=60)
    assert result.exit_code == 0, result.stderr


@pytest.mark.parametrize("isolated", ["this kernel", "bubblewrap"], indirect=True)
async def test_a_groups_directory_hands_its_group_on(isolated: Scene, tmp_path: Path) -> None:
    shared = next(tmp_path.glob("a-*"))  # noqa: ASYNC240 - of a test
    shared.chmod(0o2770)
    script = (
        "mkdir a && test -g a && touch a/x && cp -r a b && test -f b/x "
        "&& chmod g-s a && cp -a a c && tar cf a.tar a && tar xf a.tar -C b "
        "&& git init -q r && git -C r -c user.name=a -c user.email=a@b commit -q --allow-empty -m x "
        "&& git clone -q r s && test -g s/.git"
    )
    result = await isolated.attacker.run(["bash", "-c", script], timeout=60)
    assert result.exit_code == 0, result.stderr


@pytest.mark.parametrize("title", MUST_WORK_WHERE_INSTALLED)
@pytest.mark.parametrize("isolated", ["this kernel", "bubblewrap"], indirect=True)
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
