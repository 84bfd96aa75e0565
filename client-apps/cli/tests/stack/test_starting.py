"""`stigmer server start`: what it does where something runs already, or is in the way."""

import os
import pty
import signal
import socket
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from stack_home import COMMAND_SECONDS, StackHome, wait_until
from stigmer_cli.config import load_configuration
from stigmer_cli.errors import ConfigurationError
from stigmer_cli.stack import ensure_running, find_other_build


def _pids(home: StackHome) -> list[int]:
    return sorted(process.pid for process in home.processes())


def test_a_second_start_changes_nothing(stack_home: StackHome) -> None:
    stack_home.start()
    before = _pids(stack_home)
    completed = stack_home.stigmer("server", "start")
    assert (completed.returncode, completed.stdout) == (0, "")
    assert completed.stderr == "the stack is already running; see `stigmer server status`\n"
    assert _pids(stack_home) == before


def test_starting_says_what_happens_and_what_to_do_next(stack_home: StackHome) -> None:
    completed = stack_home.stigmer("server", "start")
    lines = completed.stderr.splitlines()
    assert (completed.returncode, completed.stdout) == (0, "")
    assert lines[:2] == [
        "starting the local stack",
        "note: commands of agents run directly on this machine, not in a container",
    ]
    assert sorted(lines[2:4]) == [
        f"runner is ready at 127.0.0.1:{stack_home.ports['runner']}",
        f"server is ready at 127.0.0.1:{stack_home.ports['server']}",
    ]
    assert lines[4:] == [
        "the stack is ready; run `stigmer run AGENT PROMPT`, or end it with `stigmer server stop`"
    ]


def test_a_quiet_start_says_only_what_a_person_should_know(stack_home: StackHome) -> None:
    first, second = (stack_home.stigmer("server", "start", "--quiet") for _ in range(2))
    assert (first.returncode, second.returncode, second.stderr) == (0, 0, "")
    said = "note: commands of agents run directly on this machine, not in a container\n"
    assert first.stderr == said
    again = stack_home.stigmer("server", "restart", "--quiet", "--native")
    assert (again.returncode, again.stderr) == (0, said)
    kept = stack_home.stigmer("server", "restart", "--quiet")
    assert (kept.returncode, kept.stderr) == (0, said)


def test_a_runner_of_another_build_than_the_server_is_told_of_by_start_and_status(
    stack_home: StackHome,
) -> None:
    stack_home.order("runner-other-build")
    started = stack_home.stigmer("server", "start", "--quiet")
    assert started.stderr.splitlines()[1:] == ["warning: the server is another build"]
    assert list(stack_home.component("runner")["warnings"]) == ["the server is another build"]
    configuration = load_configuration(stack_home.environment)
    assert find_other_build(configuration) == "the server is another build"  # what `run` says each time


def test_starts_at_the_same_time_make_one_stack(stack_home: StackHome) -> None:
    arguments = [sys.executable, "-m", "stigmer_cli", "server", "start"]
    starts = [
        subprocess.Popen(arguments, env=stack_home.environment, stderr=subprocess.PIPE, text=True)
        for _ in range(5)
    ]
    notes = [start.communicate(timeout=COMMAND_SECONDS)[1] for start in starts]
    assert [start.returncode for start in starts] == [0] * 5, notes
    assert sum("starting the local stack" in note for note in notes) == 1
    runners = [line for line in stack_home.command_lines().values() if "agent_runner" in line]
    assert len([arguments for arguments in runners if arguments[-1] != "spare"]) == 1


def test_a_start_during_a_stop_starts_again(stack_home: StackHome) -> None:
    stack_home.order("server-hang")
    stack_home.start()
    first = stack_home.status()["supervisor_pid"]
    arguments = [sys.executable, "-m", "stigmer_cli", "server", "stop"]
    stop = subprocess.Popen(arguments, env=stack_home.environment, stderr=subprocess.DEVNULL)
    wait_until(lambda: stack_home.component("runner")["phase"] == "stopped", "the stop is under way")
    stack_home.start()
    assert stop.wait(COMMAND_SECONDS) == 0
    assert stack_home.status()["supervisor_pid"] != first


def test_without_waiting_the_start_returns_before_all_is_ready(stack_home: StackHome) -> None:
    stack_home.order("server-unready")
    completed = stack_home.stigmer("server", "start", "--no-wait")
    assert (completed.returncode, completed.stdout) == (0, "")
    assert stack_home.component("server")["ready"] is False
    stack_home.withdraw("server-unready")
    wait_until(lambda: stack_home.status()["components"][1]["ready"], "the server is ready")


def test_a_wait_that_is_too_long_says_for_what_and_leaves_nothing(stack_home: StackHome) -> None:
    stack_home.order("server-unready")
    completed = stack_home.stigmer("server", "start", "--timeout", "3")
    assert (completed.returncode, completed.stdout) == (3, "")
    assert completed.stderr.splitlines()[-3:] == [
        "error: could not start the stack within 3 s: still waiting for server: orders: told to be unready",
        "",
        "hint: run `stigmer server logs` to see what they say, or pass a longer `--timeout`",
    ]
    assert stack_home.processes() == []


def test_a_start_says_at_once_why_a_part_is_not_ready_and_waits_on(stack_home: StackHome) -> None:
    stack_home.order("server-unready")
    arguments = [sys.executable, "-m", "stigmer_cli", "server", "start"]
    start = subprocess.Popen(arguments, env=stack_home.environment, stderr=subprocess.PIPE, text=True)
    assert start.stderr is not None
    said = list[str]()
    while "server is not ready yet: orders: told to be unready" not in said:
        line = start.stderr.readline()
        assert line, said  # it has ended
        said.append(line.rstrip("\n"))
    stack_home.withdraw("server-unready")
    rest = start.communicate(timeout=COMMAND_SECONDS)[1]
    assert (start.returncode, rest.count("told to be unready")) == (0, 0)


def test_the_stack_outlives_the_terminal(stack_home: StackHome) -> None:
    controller, terminal = pty.openpty()
    take_terminal = (
        "import fcntl, termios; from stigmer_cli.__main__ import main; "
        "fcntl.ioctl(0, termios.TIOCSCTTY); main()"
    )
    starter = subprocess.Popen(
        [sys.executable, "-c", take_terminal, "server", "start"],
        env=stack_home.environment,
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
        start_new_session=True,
    )
    os.close(terminal)
    wait_until(lambda: stack_home.component("runner")["ready"], "the runner is ready")
    before = stack_home.component("runner")["pid"]
    os.close(controller)  # the kernel sends SIGHUP to whoever belongs to the terminal
    starter.wait(COMMAND_SECONDS)
    assert stack_home.component("runner")["pid"] == before
    assert {process.terminal() for process in stack_home.processes()} == {None}


def test_the_parts_inherit_no_file_of_the_starter(stack_home: StackHome, tmp_path: Path) -> None:
    with (tmp_path / "private").open("w") as private:
        completed = subprocess.run(
            [sys.executable, "-m", "stigmer_cli", "server", "start"],
            env=stack_home.environment,
            pass_fds=[private.fileno()],
            check=False,
            capture_output=True,
            timeout=COMMAND_SECONDS,
        )
    assert completed.returncode == 0
    for process in stack_home.processes():
        assert str(tmp_path / "private") not in [file.path for file in process.open_files()]


def test_a_taken_port_names_who_holds_it(stack_home: StackHome) -> None:
    with socket.create_server(("127.0.0.1", stack_home.ports["server"])):
        completed = stack_home.stigmer("server", "start")
    holder = f"{psutil.Process().name()} (pid {os.getpid()})"
    assert (completed.returncode, completed.stdout) == (3, "")
    assert completed.stderr == (
        f"error: could not start server: port {stack_home.ports['server']} is held by {holder}\n"
        "\n"
        "hint: stop that program, or choose another port with `stigmer config set server.port PORT`\n"
    )
    assert stack_home.processes() == []


def test_a_stale_record_never_ends_a_stranger(stack_home: StackHome) -> None:
    stack_home.start()
    record = stack_home.path / "run" / "supervisor.json"
    text = record.read_text(encoding="utf-8")
    server_pid = stack_home.component("server")["pid"]
    stack_home.stigmer("server", "stop")
    stranger = subprocess.Popen(["sleep", "60"])
    try:
        record.write_text(text.replace(f'"pid": {server_pid},', f'"pid": {stranger.pid},'), encoding="utf-8")
        assert stack_home.component("server")["pid"] is None
        stack_home.start()
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


def test_a_garbled_record_is_no_obstacle(stack_home: StackHome) -> None:
    stack_home.start()
    stack_home.stigmer("server", "stop")
    (stack_home.path / "run" / "supervisor.json").write_text('{"supervisor": 7', encoding="utf-8")
    assert stack_home.status()["running"] is False
    stack_home.start()


def test_a_home_that_cannot_be_made_is_one_line_and_a_hint(stack_home: StackHome, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    completed = stack_home.stigmer(
        "server", "start", variables={"STIGMER_HOME": str(tmp_path / "file" / "home")}
    )
    assert completed.returncode == 3
    assert completed.stderr == (
        f"error: could not use the state folder '{tmp_path}/file/home': Not a directory\n"
        "\n"
        "hint: set STIGMER_HOME to a folder that you alone can write to\n"
    )


@pytest.mark.parametrize(("part", "mode"), [("", 0o777), ("", 0o770), ("data", 0o702), ("run", 0o720)])
def test_a_home_that_others_can_write_to_is_refused(part: str, mode: int, stack_home: StackHome) -> None:
    folder = stack_home.path / part
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(mode)
    completed = stack_home.stigmer("server", "start")
    assert completed.returncode == 3
    assert completed.stderr == (
        f"error: could not use the state folder '{folder}': others can write to it\n"
        "\n"
        f"hint: run `chmod 700 {folder}`\n"
    )
    folder.chmod(0o700)
    stack_home.start()


def test_a_home_that_others_can_exchange_is_refused(stack_home: StackHome, tmp_path: Path) -> None:
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    home = tmp_path / "open" / "home"
    completed = stack_home.stigmer("server", "start", variables={"STIGMER_HOME": str(home)})
    assert completed.returncode == 3
    assert f"others can put another in its place, in '{tmp_path}/open'" in completed.stderr


def test_a_key_goes_to_the_runner_alone(stack_home: StackHome) -> None:
    canary = "sk-canary-0123456789"
    stack_home.start(OPENAI_API_KEY=canary)
    assert stack_home.seen("runner")["environment"]["OPENAI_API_KEY"] == canary
    assert canary not in str(stack_home.seen("server"))
    assert all(canary not in " ".join(line) for line in stack_home.command_lines().values())
    written = [path for path in stack_home.path.rglob("*") if path.is_file() and "seen" not in path.parts]
    assert all(canary.encode() not in path.read_bytes() for path in written)


def test_the_tokens_are_shown_to_nobody(stack_home: StackHome) -> None:
    stack_home.start()
    paths = [stack_home.path / "run" / name for name in ("token", "runner-token")]
    tokens = {path.read_text(encoding="ascii") for path in paths}
    assert len(tokens) == 2
    assert [path.stat().st_mode & 0o777 for path in paths] == [0o600, 0o600]
    assert stack_home.path.stat().st_mode & 0o777 == 0o700
    for token in tokens:
        assert all(token not in " ".join(line) for line in stack_home.command_lines().values())
        assert token not in str(stack_home.seen("runner"))


def test_changed_model_settings_are_noticed(stack_home: StackHome) -> None:
    stack_home.start(OPENAI_API_KEY="sk-one")
    same = stack_home.stigmer("server", "start", variables={"OPENAI_API_KEY": "sk-one"})
    other = stack_home.stigmer("server", "start", variables={"OPENAI_API_KEY": "sk-two"})
    assert same.stderr == "the stack is already running; see `stigmer server status`\n"
    assert other.stderr.splitlines()[0] == (
        "note: the model settings have changed since the stack was started; "
        "run `stigmer server restart` to use them"
    )
    stack_home.stigmer("server", "restart", variables={"OPENAI_API_KEY": "sk-two"})
    assert stack_home.seen("runner")["environment"]["OPENAI_API_KEY"] == "sk-two"


@pytest.mark.parametrize(
    "flags", [["--engine", "docker"], ["--use-local-image"], ["--image-archive", "runner.tar"]]
)
def test_a_plain_process_and_a_container_are_not_both_to_be_had(
    stack_home: StackHome, flags: list[str]
) -> None:
    completed = stack_home.stigmer("server", "start", "--native", *flags)
    assert completed.returncode == 2
    assert completed.stderr == (
        "error: `--native` runs no container, so it cannot go with "
        "`--engine`, `--use-local-image` or `--image-archive`\n"
    )


def test_a_server_elsewhere_needs_its_token(tmp_path: Path) -> None:
    environment = {"STIGMER_HOME": str(tmp_path), "STIGMER_BACKEND_ENDPOINT": "stigmer.example:443"}
    with pytest.raises(ConfigurationError) as raised:
        ensure_running(load_configuration(environment), report=print)
    assert raised.value.where == "server.endpoint"
    connection = ensure_running(load_configuration(environment | {"STIGMER_TOKEN": "t"}), report=print)
    assert (connection.endpoint, connection.token) == ("http://stigmer.example:443", "t")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("command", "what"),
    [
        (["start"], "start"),
        (["restart"], "restart"),
        (["stop"], "stop"),
        (["update"], "update"),
        (["logs"], "show logs of"),
        (["install"], "install"),
    ],
)
def test_what_is_of_this_machine_alone_is_refused_for_a_stack_elsewhere(
    stack_home: StackHome, command: list[str], what: str
) -> None:
    elsewhere = {"STIGMER_BACKEND_ENDPOINT": "stigmer.example:443", "STIGMER_TOKEN": "t"}
    done = stack_home.stigmer("server", *command, variables=elsewhere)
    assert (done.returncode, done.stderr.splitlines()) == (
        2,
        [
            f"error: could not {what} a local stack: the server is http://stigmer.example:443",
            "",
            "hint: unset STIGMER_BACKEND_ENDPOINT, or run `stigmer config unset server.endpoint`",
        ],
    )
    assert not stack_home.path.exists()


def test_a_started_stack_ends_on_request_of_the_system(stack_home: StackHome) -> None:
    stack_home.start()
    os.kill(stack_home.status()["supervisor_pid"], signal.SIGTERM)
    wait_until(lambda: not stack_home.processes(), "everything has ended")
    assert stack_home.stigmer("server", "stop").stderr == "the stack is not running\n"
