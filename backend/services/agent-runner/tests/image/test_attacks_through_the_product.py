"""What one session of a runner's container does to get out, or to take the runner down, played by its tools.

Each attack leaves another session's command at work, and the runner the same process in the same container.
Numbers are those of the trial in which it got through natively.
"""

import hashlib
import json
import shlex
import sys
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import httpx
import pytest

from container_engine import LOCKED_DOWN, REPOSITORY, Container, Engine, wait_until
from containers_user import CONTAINERS_USER, give_to_containers
from disk_attacks import FILLING, KEEPING, WRITE
from executions import Execution, agent_manifest, inline, tool_results
from huge_file_calls import HUGE_FILE_CALLS, MAKE_HUGE_FILES
from running_stack import RunningStack
from stigmer_contract.conversation import ToolOutcome
from stigmer_contract.error_codes import ErrorCode
from stigmer_contract.events import LegLost, ToolFinished
from temporal_server import free_port

PYTHON = "/opt/agent-runner/bin/python"
PATH = "/usr/local/bin:/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin"
SESSIONS = "/opt/sessions"
TOKEN = "/usr/local/share/stigmer/token"
"""Own state, among the system's programs, all of which commands may read."""
CANARY = uuid4().hex
DISK_MB = 80
"""More than the container's /tmp has, so that temporary files are beside the sessions."""
MEMORY = "--memory=768m"
"""A runner that holds a huge file dies of it."""
WAIT_SECONDS = 120.0
EXECUTED = "it was executed"

PLANT = f"""
mkdir -p .venv/bin && cd .venv && touch pyvenv.cfg
for program in bwrap git rg env; do
  printf '#!/bin/sh\\necho "{EXECUTED}" | tee -a "%s"\\n' "$PWD/executed" >bin/$program
  chmod +x bin/$program
done
ln -s {TOKEN} bin/token; ln -s {SESSIONS}/VICTIM bin/victim; ln -s {SESSIONS}/VICTIM lib; ln -s /proc/1 share
for code in /opt/agent-runner/lib/python3.*/site-packages /usr/local/lib/python3.* /tmp/.local/lib; do
  mkdir -p $code; echo import os >$code/planted.pth && echo "{EXECUTED} at each start of $code"
done
echo planted
"""
"""A virtual environment as a person has it on PATH, for when the runner is started again."""
WORK = """
until test -e go; do
  if test -e ask; then mv ask answered; fi
  sleep 0.1
done
echo went on to the end
"""
TEMPORARY = f"find /tmp {SESSIONS} -maxdepth 3 -path '*/stigmer-temporary-*/*' -prune 2>/dev/null || true"

Call = tuple[str, Mapping[str, str]]


@dataclass(frozen=True)
class Scene:
    """A runner in a container, with a session's command at work, and a session that has planted something."""

    stack: RunningStack
    container: Container
    sessions: Path
    planter: str
    """Id of its session."""
    bystander: Execution
    life: tuple[object, ...]
    """What tells the container's first process from any other."""

    def has_bystander_at_work(self) -> bool:
        """Ask its command for a sign, until there is one."""
        folder = self.sessions / self.bystander.session_id
        (folder / "ask").touch()
        wait_until((folder / "answered").exists, WAIT_SECONDS, self.container.logs)
        (folder / "answered").unlink()
        return True

    def is_unharmed(self) -> bool:
        """Whether the other session's command goes on, and the runner is ready, and the one that it was."""
        self.container.wait_until_ready(WAIT_SECONDS)
        starts = self.container.logs().count("polling task queue")
        return self.has_bystander_at_work() and (starts, life_of(self.container)) == (1, self.life)

    def spelled(self, script: str, **more: str) -> str:
        """What a session's script says, without errors; spelled on its way, so that no secret is masked."""
        spelling = f"{{ {script}\necho to the end; }} 2>/dev/null | head -c 12000 | sed 's/./&_/g'"
        execution = play(self.stack, command(spelling), **more)
        execution.wait_until_completed()
        [said] = results(execution)
        text = told(said).replace("_", "")
        assert "to the end" in text
        return text


def command(script: str) -> Call:
    """A call that runs it."""
    return "run_command", {"command": script}


def play(stack: RunningStack, *calls: Call, **more: str) -> Execution:
    """Start an execution that makes the calls, one after the other."""
    turns = [{"toolCalls": [{"tool": tool, "arguments": dict(arguments)}]} for tool, arguments in calls]
    return play_turns(stack, [*turns, {"text": "Done."}], "Go.", **more)


def play_turns(
    stack: RunningStack, turns: Sequence[Mapping[str, object]], prompt: str, **more: str
) -> Execution:
    """Start an execution whose model is a cassette."""
    cassette = json.dumps({"version": 1, "turns": turns}).encode()
    digest = hashlib.sha256(cassette).hexdigest()
    stack.client.put(f"/v1/blobs/{digest}", content=cassette).raise_for_status()
    return Execution.start(stack, agent_manifest(model=f"replay:sha256:{digest}"), prompt, **more)


def results(execution: Execution) -> list[ToolFinished]:
    """Of all its calls."""
    return tool_results(execution.events)


def told(result: ToolFinished) -> str:
    """What the model was told of a call."""
    return str(inline(result.result))


def life_of(container: Container) -> tuple[object, ...]:
    """Changes where the container is started anew."""
    inspected = container.inspect()
    state = inspected["State"]
    return inspected["Id"], inspected["RestartCount"], state["Pid"], state["StartedAt"]


@contextmanager
def runner(
    engine: Engine, image: str, stack: RunningStack, sessions: Path, token: Path, **variables: str
) -> Generator[Container]:
    """A runner whose sessions and token lie where commands may read all the rest."""
    own = {
        "TEMPORAL_SERVICE_ADDRESS": stack.temporal.address,
        "STIGMER_BACKEND_ENDPOINT": stack.endpoint,
        "STIGMER_TOKEN_FILE": TOKEN,
        "STIGMER_HEALTH_PORT": str(free_port()),
        "SANDBOX_ROOT_DIR": SESSIONS,
    }
    options = (
        *LOCKED_DOWN,
        MEMORY,
        "--network=host",
        f"--user={CONTAINERS_USER}:{CONTAINERS_USER}",
        f"--volume={sessions}:{SESSIONS}",
        f"--volume={token}:{TOKEN}:ro",
    )
    # Values of `environment` are the engine's own, too; it shall find its programs.
    options += tuple(f"--env={name}={value}" for name, value in variables.items())
    with engine.container(image, *options, environment=own) as container:
        container.wait_until_ready(WAIT_SECONDS)
        yield container


@pytest.fixture(scope="module")
def scene(
    engine: Engine, image: str, stack: RunningStack, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Scene]:
    """The runner is a second one, on what a session of the first has planted and put on its PATH."""
    sessions, own = tmp_path_factory.mktemp("sessions"), tmp_path_factory.mktemp("own")
    token = own / "token"
    token.write_text(stack.runner_token, encoding="ascii")
    token.chmod(0o600)
    for directory in (sessions, own):
        give_to_containers(directory)
    with runner(engine, image, stack, sessions, token):
        victim = play(stack, command(f"echo {CANARY} >secret.txt"))
        victim.wait_until_completed()
        planting = command(PLANT.replace("VICTIM", victim.session_id))
        planter = play(stack, planting, command(MAKE_HUGE_FILES))
        planter.wait_until_completed()
    planted, made = results(planter)
    assert "planted" in told(planted)
    assert (EXECUTED in told(planted), made.outcome) == (False, ToolOutcome.SUCCEEDED)
    on_path = {"PATH": f"{SESSIONS}/{planter.session_id}/.venv/bin:{PATH}"}
    with runner(
        engine, image, stack, sessions, token, **on_path, STIGMER_ISOLATION_DISK_MB=str(DISK_MB)
    ) as container:
        bystander = play(stack, command(WORK), session_id=victim.session_id)
        there = Scene(stack, container, sessions, planter.session_id, bystander, life_of(container))
        assert there.has_bystander_at_work()
        yield there


def test_3_what_is_planted_on_path_is_neither_executed_nor_followed(scene: Scene) -> None:
    planted = f"{SESSIONS}/{scene.planter}/.venv"
    text = scene.spelled(f"""
        for program in bwrap git rg env; do $program --version; {planted}/bin/$program; done
        cat {planted}/bin/token {planted}/bin/victim/secret.txt {planted}/lib/secret.txt
        for file in share/environ pyvenv.cfg bin/git; do cat {planted}/$file && echo was read; done
    """)
    executed = scene.sessions / scene.planter / ".venv" / "executed"
    assert (EXECUTED in text, "was read" in text, executed.exists()) == (False,) * 3
    assert (CANARY in text, scene.stack.runner_token in text) == (False, False)
    # They do work: in the session that has them, held in as its other commands.
    text = scene.spelled(f"{planted}/bin/git; cat {planted}/bin/token", session_id=scene.planter)
    assert (EXECUTED in text, executed.exists(), scene.stack.runner_token in text) == (True, True, False)
    executed.unlink()
    assert scene.is_unharmed()


@pytest.mark.parametrize("place", [sys.prefix, str(REPOSITORY)], ids=["installation", "around it"])
def test_3_a_workspace_that_holds_the_installation_is_refused(scene: Scene, place: str) -> None:
    order = {"manifest": agent_manifest(), "input": "Go.", "workspace": place}
    refused = scene.stack.client.post("/v1/executions", json=order)
    assert refused.status_code == httpx.codes.UNPROCESSABLE_ENTITY, refused.text
    assert scene.is_unharmed()


def test_4_own_state_and_other_sessions_are_not_read_where_everything_beside_them_is(scene: Scene) -> None:
    secret = f"{SESSIONS}/{scene.bystander.session_id}/secret.txt"
    text = scene.spelled(f"""
        cat {TOKEN} {secret} /proc/1/root{TOKEN} /proc/1/root{secret}
        for process in /proc/[0-9]*; do
          cat $process/cwd/secret.txt
          tr '\\0' '\\n' <$process/environ | grep -a SANDBOX
        done
        for place in {SESSIONS} {Path(secret).parent}; do ls -A $place && echo was listed; done
        grep -rs '' {Path(TOKEN).parent} {SESSIONS} /run/secrets
        cp {TOKEN} token; ln {secret} linked; cat token linked
        head -c 2 /opt/agent-runner/bin/agent-runner >/dev/null && echo all beside them is read
    """)
    assert "all beside them is read" in text
    assert ("SANDBOX" in text, "was listed" in text) == (False, False)
    assert (CANARY in text, scene.stack.runner_token in text) == (False, False)
    # Both are there for who is no command of an agent.
    assert scene.container.output("/bin/cat", TOKEN, secret) == f"{scene.stack.runner_token}{CANARY}"
    assert scene.is_unharmed()


def test_5_a_huge_file_costs_a_failed_call_and_no_memory(scene: Scene) -> None:
    calls = [(tool, arguments) for tool, arguments, _ in HUGE_FILE_CALLS]
    execution = play(scene.stack, *calls, session_id=scene.planter)
    execution.wait_until_completed()
    succeeded = [result.outcome is ToolOutcome.SUCCEEDED for result in results(execution)]
    assert succeeded == [succeeds for _, _, succeeds in HUGE_FILE_CALLS]
    assert (scene.sessions / scene.planter / "huge").stat().st_size == 5
    assert scene.is_unharmed()


def test_7_a_pattern_of_a_cassette_does_not_hold_the_runner_up(scene: Scene) -> None:
    turns = [{"expect": {"promptMatches": "^(a+)+$"}, "text": "Hello."}]
    ended = play_turns(scene.stack, turns, "a" * 40 + "!").wait_until_ended()
    assert ended.error is not None and ended.error.code == ErrorCode.REPLAY_MISMATCH
    assert scene.is_unharmed()


def test_11_temporary_files_go_with_their_command_and_empty_ones_count(scene: Scene) -> None:
    keeping = [f"PYTHON={PYTHON}; cd $TMPDIR\n{way}\necho done" for way in KEEPING.values()]
    fill = f"{WRITE}os.chdir(os.environ['TMPDIR'])\n{FILLING['empty files']}"
    filling = f"{PYTHON} -c {shlex.quote(fill)}"
    execution = play(scene.stack, *map(command, [*keeping, filling]))
    execution.wait_until_completed()
    *kept, filled = results(execution)
    assert [
        told(one) for one in kept if (one.outcome, "done" in told(one)) != (ToolOutcome.SUCCEEDED, True)
    ] == []
    assert (filled.outcome, "disk quota" in told(filled)) == (ToolOutcome.FAILED, True)

    def left() -> list[str]:
        return scene.container.output("/bin/bash", "-c", f"PATH={PATH}; {TEMPORARY}").splitlines()

    # That of the command which is at work, and no other.
    wait_until(lambda: len(left()) == 1, WAIT_SECONDS, lambda: str(left()))
    assert scene.is_unharmed()


def test_a_command_that_closes_its_directory_shuts_no_later_one_out(scene: Scene) -> None:
    calls = (command("chmod 0 ."), command("echo in again"), ("write_file", {"path": "f", "content": "new"}))
    execution = play(scene.stack, *calls)
    execution.wait_until_completed()
    assert [one.outcome for one in results(execution)] == [ToolOutcome.SUCCEEDED] * 3
    assert scene.is_unharmed()


def test_the_bystander_s_command_ends_well_on_the_runner_that_began_it(scene: Scene) -> None:
    assert scene.is_unharmed()
    (scene.sessions / scene.bystander.session_id / "go").touch()
    scene.bystander.wait_until_completed()
    [went_on] = [result for result in results(scene.bystander) if result.outcome is ToolOutcome.SUCCEEDED]
    assert "went on to the end" in told(went_on)
    assert not [event for event in scene.bystander.events if isinstance(event, LegLost)]
    assert life_of(scene.container) == scene.life
