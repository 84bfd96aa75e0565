"""Containers from description to end, the same on both engines."""

import os
import secrets
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from stigmer_cli.containers import BindMount, ContainerSpec, Engine, EngineKind, RunningContainer
from stigmer_cli.containers.errors import ContainerNotFound, EngineRefused, MountRefused, NameTaken

RunContainer = Callable[..., RunningContainer]
"""The fixture of that name."""


def _output(container: RunningContainer) -> tuple[bytes, bytes]:
    with container.logs() as logs:
        pieces = list(logs.pieces())
    out, err = (b"".join(piece for number, piece in pieces if number == wanted) for wanted in (1, 2))
    return out, err


def _await_output(container: RunningContainer) -> None:
    with container.logs(follow=True) as logs:
        next(logs.pieces())


def test_a_program_runs_to_its_end_and_its_output_stays(run_container: RunContainer, engine: Engine) -> None:
    container = run_container(command=("sh", "-c", "echo out; echo err >&2; exit 7"))
    ended = container.wait()
    assert (ended.exit_code, ended.was_out_of_memory) == (7, False)
    assert _output(container) == (b"out\n", b"err\n")
    assert container.inspect().is_running is False


def test_output_is_followed_while_it_comes(run_container: RunContainer, tmp_path: Path) -> None:
    go_on = tmp_path / "go-on"
    container = run_container(
        command=("sh", "-c", "echo one; until [ -e /mnt/go-on ]; do sleep 0.02; done; echo two"),
        mounts=(BindMount(tmp_path, "/mnt"),),
    )
    received: list[bytes] = []
    first = threading.Event()

    def take(piece: bytes) -> None:
        received.append(piece)
        first.set()

    with container.logs(follow=True) as logs:
        thread = logs.copy_to(take)
        assert first.wait(60)
        assert b"".join(received) == b"one\n"
        go_on.touch()
        thread.join(60)
    assert b"".join(received) == b"one\ntwo\n"


def test_following_can_be_given_up(run_container: RunContainer) -> None:
    container = run_container(command=("sleep", "60"))
    with container.logs(follow=True) as logs:
        thread = logs.copy_to(lambda piece: None)
        logs.close()
        thread.join(60)
        assert not thread.is_alive()


def test_stopping_gives_a_program_its_grace_and_twice_is_once(run_container: RunContainer) -> None:
    container = run_container(
        command=("sh", "-c", "trap 'echo bye; exit 3' TERM; echo ready; while :; do sleep 0.02; done")
    )
    _await_output(container)
    container.stop(5)
    container.stop(5)
    assert container.wait().exit_code == 3
    assert _output(container)[0] == b"ready\nbye\n"


def test_a_program_that_does_not_end_is_killed(run_container: RunContainer) -> None:
    container = run_container(command=("sh", "-c", "trap '' TERM; echo ready; while :; do sleep 0.02; done"))
    _await_output(container)
    container.stop(1)
    assert container.wait().exit_code == 137


def test_a_removed_container_is_gone_and_removing_it_again_is_no_error(run_container: RunContainer) -> None:
    container = run_container(command=("sleep", "60"))
    container.remove()
    container.remove()
    container.stop(1)
    with pytest.raises(ContainerNotFound):
        container.inspect()
    with pytest.raises(ContainerNotFound), container.logs():
        pass


def test_a_container_has_no_rights_and_cannot_write_its_root(run_container: RunContainer) -> None:
    container = run_container(
        command=(
            "sh",
            "-c",
            "cat /proc/self/status; touch /file || echo refused; touch /tmp/file && echo written",
        ),
        temporary_bytes={"/tmp": 1_000_000},
        user="12345:23456",
    )
    assert container.wait().exit_code == 0
    output = _output(container)[0].decode()
    status = dict(line.split(":\t", 1) for line in output.splitlines() if ":\t" in line)
    assert {name: status[name] for name in ("CapEff", "CapBnd", "NoNewPrivs", "Seccomp")} == {
        "CapEff": "0000000000000000",
        "CapBnd": "0000000000000000",
        "NoNewPrivs": "1",
        "Seccomp": "2",
    }
    assert status["Uid"].split() == ["12345"] * 4
    assert output.splitlines()[-2:] == ["refused", "written"]


def test_what_takes_too_much_memory_is_ended_and_the_reason_is_known(
    run_container: RunContainer, engine: Engine
) -> None:
    if not engine.traits.has_limits:
        pytest.skip("this engine cannot limit memory here")
    swell = "x=xxxxxxxxxxxxxxxx; while :; do x=$x$x; done"
    container = run_container(command=("sh", "-c", swell), memory_bytes=16_000_000)
    ended = container.wait()
    assert ended.exit_code == 137
    assert ended.was_out_of_memory or engine.traits.kind is EngineKind.PODMAN  # 4.3 does not notice


def test_directories_with_blanks_and_letters_of_any_language_are_mounted(
    run_container: RunContainer, tmp_path: Path
) -> None:
    directory = tmp_path / "zwei Wörter: 日本"
    directory.mkdir()
    container = run_container(
        command=("sh", "-c", "echo written > '/mnt/a b/ü'; touch /fixed/file || echo refused"),
        mounts=(BindMount(directory, "/mnt/a b"), BindMount(directory, "/fixed", is_read_only=True)),
        user=f"{os.getuid()}:{os.getgid()}",
    )
    assert container.wait().exit_code == 0
    assert (directory / "ü").read_text() == "written\n"
    assert (directory / "ü").stat().st_uid == os.getuid()
    assert _output(container)[0] == b"refused\n"


def test_a_directory_that_is_not_there_is_refused_and_not_made(
    engine: Engine, small_image: str, tmp_path: Path
) -> None:
    spec = ContainerSpec(name="never", image=small_image, mounts=(BindMount(tmp_path / "no", "/mnt"),))
    with pytest.raises(MountRefused) as raised:
        engine.create(spec)
    assert (raised.value.source, raised.value.reason) == (str(tmp_path / "no"), "No such file or directory")
    assert not (tmp_path / "no").exists()


def test_a_taken_name_is_an_error_of_its_own(
    run_container: RunContainer, engine: Engine, small_image: str
) -> None:
    container = run_container(command=("sleep", "60"))
    with pytest.raises(NameTaken) as raised:
        engine.create(ContainerSpec(name=container.name, image=small_image, command=("true",)))
    assert raised.value.name == container.name


def test_a_program_that_is_not_there_is_refused(run_container: RunContainer) -> None:
    with pytest.raises(EngineRefused):
        run_container(command=("no-such-program",))


def test_containers_are_found_by_their_labels(run_container: RunContainer, engine: Engine) -> None:
    mark = secrets.token_hex(8)
    running = run_container(command=("sleep", "60"), labels={"stigmer-tests": "x", "mark": mark})
    try:
        found = engine.find_containers({"mark": mark})
        assert [(one.container_id, one.name) for one in found] == [(running.container_id, running.name)]
        state = found[0].inspect()
        assert (state.is_running, state.labels["mark"]) == (True, mark)
        assert engine.find_containers({"mark": "other"}) == []
    finally:
        running.remove()


def test_a_program_runs_in_a_running_container(run_container: RunContainer) -> None:
    container = run_container(command=("sleep", "60"))
    assert container.execute(["sh", "-c", "echo here; exit 4"]) == (4, b"here\n")


def test_a_running_container_is_measured(run_container: RunContainer) -> None:
    container = run_container(command=("sh", "-c", "while :; do :; done"))
    usage = container.usage(5)
    assert usage is not None
    assert usage.cpu_seconds > 0
    assert 0 < usage.memory_bytes < 100_000_000


def test_the_host_network_is_this_machines(run_container: RunContainer) -> None:
    container = run_container(command=("cat", "/proc/net/tcp"), network="host")
    container.wait()
    inside = {line.split()[0] for line in _output(container)[0].decode().splitlines()[1:]}
    alone = run_container(command=("cat", "/proc/net/tcp"))
    alone.wait()
    assert len(_output(alone)[0].splitlines()) == 1
    assert inside
