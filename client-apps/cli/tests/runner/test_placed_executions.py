"""Each workspace directory has a container of its own, which the supervisor starts and ends; on both engines.

Executions are made through the API: nothing here depends on a command that stays.
"""

import json
import os
import secrets
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from containers_user import CONTAINERS_USER, give_to_containers
from engine_socket import EngineSocket
from executions import agent_manifest
from model_server import VALID_KEY, ModelServer, ScriptedCall, ScriptedModel, ScriptedTurn
from stack_home import StackHome, wait_until
from stigmer_cli.containers import BindMount, Container, ContainerSpec, Engine
from stigmer_cli.runner.inspection import find_own_containers
from stigmer_cli.runner.placement import MOUNTS_VARIABLE
from stigmer_cli.runner.plan import HOME_LABEL, PLACEMENT_LABEL, STANDING, home_mark
from stigmer_contract.placements import placement_id_of
from stigmer_contract.workspace_directories import opened

pytestmark = pytest.mark.timeout(400)

WORK_SECONDS = 120.0
"""Longest time that something may take here on a loaded machine; it is waited for, never slept."""
WRITE = "Do it. [conversation write]"
DONE = ScriptedTurn(text="Done.")
GIT = """
touch .git/hooks/post-commit; mv .git moved; mv .git/hooks moved
git add . && git commit --quiet --message mine && git checkout --quiet -b other
git remote add origin ../elsewhere
"""
SCRIPTS = {
    "write": [[ScriptedCall("run_command", {"command": "ls -d . && echo written >> {conversation}.txt"})]],
    "message": [[ScriptedCall("wait", {"message": True})]],
    "time": [[ScriptedCall("wait", {"seconds": 3})]],
    "git": [[ScriptedCall("run_command", {"command": GIT})]],
    "held": [
        [
            ScriptedCall(
                "run_command", {"command": "touch begun; until test -e go; do sleep 0.1; done; echo ok"}
            )
        ]
    ],
}


@pytest.fixture
def model() -> Iterator[ModelServer]:
    """A model whose conversations are named after what they shall do."""
    scripts = {
        name: [*(ScriptedTurn(text="So far.", calls=calls) for calls in turns), DONE]
        for name, turns in SCRIPTS.items()
    }
    with ModelServer(ScriptedModel([DONE], conversations=scripts)) as server:
        yield server


@pytest.fixture
def home(contained_home: StackHome, model: ModelServer) -> StackHome:
    """A home whose containers go as soon as they have nothing to do."""
    contained_home.environment |= {
        "OPENAI_BASE_URL": f"http://127.0.0.1:{model.port}/v1",
        "OPENAI_API_KEY": VALID_KEY,
        "STIGMER_RUNNER_IDLE_AFTER": "1s",
    }
    return contained_home


class Api:
    """The server's API, as any program uses it."""

    def __init__(self, home: StackHome) -> None:
        token = (home.path / "run" / "token").read_text(encoding="ascii").strip()
        url = f"http://127.0.0.1:{home.environment['STIGMER_PORT']}"
        headers = {"Authorization": f"Bearer {token}"}
        self.http = httpx.Client(base_url=url, headers=headers, trust_env=False, timeout=60)

    def create(self, script: str, **more: Any) -> dict[str, Any]:
        """Makes an execution that follows a script."""
        body = {
            "manifest": agent_manifest(tools=("shell", "files", "wait")),
            "input": f"Do it. [conversation {script}]",
            **more,
        }
        response = self.http.post("/v1/executions", json=body)
        assert response.status_code == 201, response.text
        created: dict[str, Any] = response.json()
        return created

    def get(self, execution: dict[str, Any]) -> dict[str, Any]:
        """How it stands now."""
        found: dict[str, Any] = self.http.get(f"/v1/executions/{execution['execution_id']}").json()
        return found

    def wait_for(self, execution: dict[str, Any], *phases: str) -> dict[str, Any]:
        """Waits for the first of the phases."""
        _wait(lambda: self.get(execution)["phase"] in phases, f"{execution['execution_id']} is {phases}")
        return self.get(execution)

    def events(self, execution: dict[str, Any], kind: str) -> list[dict[str, Any]]:
        """Those of a type; the log of an execution here is short."""
        page = self.http.get(f"/v1/executions/{execution['execution_id']}/events", params={"limit": 200})
        found: list[dict[str, Any]] = page.json()["items"]
        return [one["event"] for one in found if one["event"]["type"] == kind]

    def complete(self, execution: dict[str, Any]) -> None:
        """Waits for its end, which is to be a good one."""
        ended = self.wait_for(execution, "completed", "failed", "cancelled")
        assert ended["phase"] == "completed", ended["error"]


OpenApi = Callable[[StackHome], Api]


@pytest.fixture
def open_api() -> Iterator[OpenApi]:
    """Clients of servers, closed at the end."""
    with ExitStack() as ends:

        def make(home: StackHome) -> Api:
            api = Api(home)
            ends.enter_context(api.http)
            return api

        yield make


def _wait(condition: Callable[[], bool], what: str) -> None:
    wait_until(condition, what, seconds=WORK_SECONDS)


def _made(*directories: Path) -> list[str]:
    for directory in directories:
        directory.mkdir(parents=True)
        give_to_containers(directory)
    return [str(directory) for directory in directories]


def _agent(folder: Path) -> str:
    path = folder / "agent.yaml"
    path.write_text(yaml.safe_dump(agent_manifest(tools=("shell", "files", "wait"))), encoding="utf-8")
    return str(path)


def _placed(engine: Engine, home: StackHome, workspace: str | None = None) -> list[Container]:
    """The containers of placements, or of one directory's."""
    of_home = {HOME_LABEL: home_mark(str(home.path))}
    if workspace is not None:
        return engine.find_containers({**of_home, PLACEMENT_LABEL: placement_id_of(workspace)})
    standing = {each.container_id for each in engine.find_containers({**of_home, PLACEMENT_LABEL: STANDING})}
    return [each for each in engine.find_containers(of_home) if each.container_id not in standing]


def _mounts(engine: Engine, container: Container) -> set[tuple[str, str, bool]]:
    """What of this machine it sees: where, what, and whether it can be written."""
    inspected: Any = engine.api.call("inspect", "GET", f"/containers/{container.container_id}/json")
    return {
        (str(mount["Destination"]), str(mount["Source"]), bool(mount["RW"]))
        for mount in inspected["Mounts"]
        if mount["Type"] == "bind"
    }


def test_a_directory_gets_a_container_that_shows_it_and_nobody_elses_and_ends_when_idle(
    home: StackHome, open_api: OpenApi, engine: Engine, tmp_path: Path
) -> None:
    one, other = _made(tmp_path / "Berichte für 日本", tmp_path / "other")
    home.start()
    standing = [each.container_id for each in find_own_containers(engine, str(home.path))]
    api = open_api(home)
    held = api.create("held", workspace=one)
    _wait((Path(one) / "begun").exists, "the first is at work")
    (first,) = _placed(engine, home, one)

    also_held = api.create("held", workspace=other)
    _wait((Path(other) / "begun").exists, "the other is at work beside it")

    assert [each.container_id for each in _placed(engine, home, one)] == [first.container_id]
    assert first.inspect().is_running
    for workspace, execution in ((one, held), (other, also_held)):
        folder = home.path / "data" / "placements" / placement_id_of(workspace)
        assert _mounts(engine, _placed(engine, home, workspace)[0]) == {
            ("/workspace", str(folder), True),
            ("/run/secrets", str(home.path / "run" / "runner-secrets"), False),
            (workspace, workspace, True),
        }
        assert (folder / execution["session_id"]).is_dir()
    assert list((home.path / "data" / "workspace").glob("ses_*")) == []
    (Path(other) / "go").touch()
    api.complete(also_held)
    (Path(one) / "go").touch()
    api.complete(held)
    _wait(lambda: not _placed(engine, home), "the idle containers have ended")
    assert [each.container_id for each in find_own_containers(engine, str(home.path))] == standing
    _wait(lambda: home.status()["placements"] == (), "status has none of them")


def test_an_execution_a_message_a_time_and_a_cancel_each_in_a_session_whose_container_has_ended(
    home: StackHome, open_api: OpenApi, engine: Engine, tmp_path: Path
) -> None:
    workspaces = _made(*(tmp_path / name for name in ("again", "message", "time", "cancel")))
    home.start()
    api = open_api(home)
    first = api.create("write", workspace=workspaces[0])
    message, timed, cancelled = (
        api.create(script, workspace=workspace)
        for script, workspace in zip(("message", "time", "message"), workspaces[1:], strict=True)
    )
    api.complete(first)
    for each in (message, cancelled):
        api.wait_for(each, "waiting")
    _wait(
        lambda: not any(_placed(engine, home, each) for each in (*workspaces[:2], workspaces[3])), "all ended"
    )

    again = api.create("write", session_id=first["session_id"])
    sent = api.http.post(f"/v1/executions/{message['execution_id']}/messages", json={"text": "go on"})
    asked = api.http.post(f"/v1/executions/{cancelled['execution_id']}/cancel", json={})

    assert (sent.is_success, asked.is_success) == (True, True)
    for each in (again, message, timed):
        api.complete(each)
    assert api.wait_for(cancelled, "cancelled")["phase"] == "cancelled"
    assert (Path(workspaces[0]) / "write.txt").read_text(encoding="utf-8") == "written\n" * 2


def test_a_directory_that_is_gone_fails_its_execution_only_and_is_taken_when_it_is_back(
    home: StackHome, open_api: OpenApi, tmp_path: Path
) -> None:
    gone, there = _made(tmp_path / "gone", tmp_path / "there")
    home.start()
    api = open_api(home)
    session = api.create("write", workspace=gone)
    api.complete(session)
    shutil.rmtree(gone)

    failing = api.create("write", workspace=None, session_id=session["session_id"])
    working = api.create("write", workspace=there)

    error = api.wait_for(failing, "failed")["error"]
    assert (error["code"], gone in error["message"], bool(error["hint"])) == (
        "workspace_unavailable",
        True,
        True,
    )
    api.complete(working)
    _made(tmp_path / "gone")
    api.complete(api.create("write", workspace=gone))
    assert home.status()["ready"] is True


def test_directories_that_are_no_agents_end_what_wants_them_and_nothing_else_then_or_later(
    home: StackHome, open_api: OpenApi, tmp_path: Path
) -> None:
    home.environment["STIGMER_SELINUX_LABEL"] = "shared"
    colon, plain = _made(tmp_path / "with:colon", tmp_path / "plain")
    home.start()
    api = open_api(home)

    named = home.stigmer("run", _agent(tmp_path), "Do it.", "--workspace", "/opt")
    body = {"manifest": agent_manifest(), "input": "Do it.", "workspace": "/opt"}
    by_api = api.http.post("/v1/executions", json=body)
    with_colon = api.create("write", workspace=colon)
    (tmp_path / "closed").mkdir(mode=0o700)
    closed = api.create("write", workspace=str(tmp_path / "closed"))

    assert (named.returncode, named.stderr.splitlines()[0].startswith("error: ")) == (2, True)
    assert by_api.status_code == 422
    error = api.wait_for(with_colon, "failed")["error"]
    assert (error["code"], colon in error["message"], "\n" in error["message"]) == (
        "workspace_unavailable",
        True,
        False,
    )
    if os.getuid() == 0:
        error = api.wait_for(closed, "failed")["error"]
        assert error["code"] == "workspace_unavailable"
        assert f"user {CONTAINERS_USER}, as which root's containers run" in error["message"]
        assert f"chown -R {CONTAINERS_USER}:{CONTAINERS_USER} {tmp_path}/closed" in error["hint"]
    else:
        api.complete(closed)
    api.complete(api.create("write", workspace=plain))
    assert home.stigmer("server", "restart", "--now").returncode == 0
    first = api.create("write", workspace=plain)
    api.complete(first)
    ran = home.stigmer("run", _agent(tmp_path), WRITE, "--session", first["session_id"])
    assert ran.returncode == 0, ran.stderr
    assert (Path(plain) / "write.txt").read_text(encoding="utf-8") == "written\n" * 3


def test_a_restart_with_grace_lets_a_placed_execution_finish_its_command(
    home: StackHome, open_api: OpenApi, tmp_path: Path
) -> None:
    (workspace,) = _made(tmp_path / "work")
    home.start()
    api = open_api(home)
    held = api.create("held", workspace=workspace)
    _wait((Path(workspace) / "begun").exists, "it is at work")
    log = home.path / "logs" / "supervisor.log"

    with ThreadPoolExecutor(1) as pool:
        restarting = pool.submit(home.stigmer, "server", "restart", "--grace", "10m")
        _wait(lambda: "handing over" in log.read_text(encoding="utf-8"), "the supervisor drains")
        (Path(workspace) / "go").touch()
        restarted = restarting.result()

    assert restarted.returncode == 0, restarted.stderr
    api.complete(held)
    assert len(api.events(held, "tool.started")) == 1
    assert [event["outcome"] for event in api.events(held, "tool.finished")] == ["succeeded"]
    assert api.events(held, "leg.lost") == []


def test_a_runner_works_in_no_other_directory_than_was_looked_at(
    engine: Engine, runner_image: str, tmp_path: Path
) -> None:
    seen, put_there = _made(tmp_path / "seen", tmp_path / "put there")
    with opened(seen) as directory:
        identity = directory.identity
    told = {"STIGMER_TOKEN": "t", MOUNTS_VARIABLE: json.dumps({"/seen": str(identity)})}
    refusing = engine.create(
        ContainerSpec(
            name=f"stigmer-tests-{secrets.token_hex(4)}",
            image=runner_image,
            environment=told,
            mounts=(BindMount(Path(put_there), "/seen"),),
        )
    )
    try:
        refusing.start()
        _wait(lambda: not refusing.inspect().is_running, "the runner has refused")
        with refusing.logs() as said:
            text = b"".join(piece for _, piece in said.pieces()).decode()
        exit_code = refusing.inspect().exit.exit_code
    finally:
        refusing.remove()
    problem = "another directory was put at '/seen' while its container was started"
    assert (exit_code, text) == (2, f"error: {MOUNTS_VARIABLE}: {problem}\n")


def _git(workspace: str, *arguments: str) -> str:
    """Where root runs the tests, the repository is the containers' user's, which Git is told to be meant."""
    command = ["git", "-c", f"safe.directory={workspace}", "-C", workspace, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout


def test_commands_neither_replace_a_repository_nor_its_hooks_and_work_with_it(
    home: StackHome, open_api: OpenApi, tmp_path: Path
) -> None:
    (workspace,) = _made(tmp_path / "work")
    _git(workspace, "init", "--quiet")
    (Path(workspace) / "file").write_text("text", encoding="utf-8")
    for name, value in (("user.name", "A Person"), ("user.email", "person@example.com")):
        _git(workspace, "config", name, value)
    give_to_containers(Path(workspace))
    before = sorted(path.name for path in (Path(workspace) / ".git" / "hooks").iterdir())
    home.start()
    api = open_api(home)

    api.complete(api.create("git", workspace=workspace))

    assert sorted(path.name for path in (Path(workspace) / ".git" / "hooks").iterdir()) == before
    assert _git(workspace, "log", "--format=%an %s", "other") == "A Person mine\n"
    assert _git(workspace, "remote") == "origin\n"


def test_many_directories_at_once_and_one_after_the_other_end_nothing(
    home: StackHome, open_api: OpenApi, engine: Engine, tmp_path: Path
) -> None:
    home.environment["STIGMER_RUNNER_MAX_CONTAINERS"] = "3"
    home.start()
    api = open_api(home)
    at_once = _made(*(tmp_path / f"at-once-{number}" for number in range(6)))
    with ThreadPoolExecutor(6) as pool:
        begun = [pool.submit(api.create, "write", workspace=workspace) for workspace in at_once]
        made = [one.result() for one in begun]

    for execution in made:
        api.complete(execution)
        assert len(_placed(engine, home)) <= 3
    for workspace in _made(*(tmp_path / f"after-{number}" for number in range(4))):
        api.complete(api.create("write", workspace=workspace))

    written = [(Path(workspace) / "write.txt").read_text(encoding="utf-8") for workspace in at_once]
    assert written == ["written\n"] * 6
    assert {(one["phase"].value, one["restarts"]) for one in home.status()["components"]} == {("ready", 0)}


def test_beyond_the_limit_an_execution_says_for_what_it_waits(
    home: StackHome, open_api: OpenApi, tmp_path: Path
) -> None:
    home.environment["STIGMER_RUNNER_MAX_CONTAINERS"] = "1"
    one, other = _made(tmp_path / "one", tmp_path / "other")
    home.start()
    api = open_api(home)
    held = api.create("held", workspace=one)
    _wait((Path(one) / "begun").exists, "the first is at work")

    waiting = api.create("write", workspace=other)

    reason = "1 containers work side by side already (runner.maxContainers)"
    _wait(lambda: api.get(waiting)["pending_reason"] == reason, "it says for what it waits")
    (Path(one) / "go").touch()
    api.complete(held)
    api.complete(waiting)


def test_a_container_that_dies_is_started_again_and_the_execution_goes_on(
    home: StackHome, open_api: OpenApi, engine: Engine, tmp_path: Path
) -> None:
    (workspace,) = _made(tmp_path / "work")
    home.start()
    api = open_api(home)
    held = api.create("held", workspace=workspace)
    _wait((Path(workspace) / "begun").exists, "it is at work")
    (first,) = _placed(engine, home)

    first.remove()

    _wait(
        lambda: first.container_id not in [each.container_id for each in _placed(engine, home)], "it is gone"
    )
    (Path(workspace) / "go").touch()
    api.complete(held)
    os.kill(home.status()["supervisor_pid"], signal.SIGKILL)
    _wait(lambda: not find_own_containers(engine, str(home.path)), "all containers are removed")


def test_an_engine_that_is_away_is_waited_for_and_everything_comes_back_by_itself(
    home: StackHome, open_api: OpenApi, engine: Engine, tmp_path: Path
) -> None:
    one, other = _made(tmp_path / "one", tmp_path / "other")
    variable = {"docker": "DOCKER_HOST", "podman": "CONTAINER_HOST"}[engine.traits.kind.value]
    with EngineSocket(tmp_path / "engine.sock", engine.api.socket_path) as way:
        home.environment |= {variable: f"unix://{way.path}", "STIGMER_RUNNER_IDLE_AFTER": "10m"}
        home.start()
        api = open_api(home)
        held = api.create("held", workspace=one)
        _wait((Path(one) / "begun").exists, "it is at work")

        way.take_away()
        later = api.create("write", workspace=other)

        def waits() -> bool:
            reason = api.get(later)["pending_reason"] or ""
            return "it is waited for" in reason

        _wait(waits, "the execution says that the engine is away")
        _wait(lambda: "it is waited for" in (home.component("runner")["reason"] or ""), "status says so, too")
        listed = home.stigmer("executions", "list", "--json")
        assert (listed.returncode, later["execution_id"] in listed.stdout) == (0, True)

        way.bring_back()
        (Path(one) / "go").touch()

        api.complete(held)
        api.complete(later)
        _wait(lambda: home.status()["ready"], "all is ready")
        assert home.stigmer("server", "stop").returncode == 0
