"""A restart starts as the last start was told, where it is not told otherwise itself."""

from dataclasses import replace
from pathlib import Path

import pytest

from stack_home import StackHome
from stigmer_cli.config import load_configuration
from stigmer_cli.runner.wish import RunnerWish, keep_wish, kept_wish

LOADED = ("acme/runner:1", "sha256:1")
NATIVE, PODMAN, LOCAL = (
    RunnerWish(is_native=True),
    RunnerWish(engine="podman"),
    RunnerWish(use_local_image=True),
)
NAMED = RunnerWish(use_local_image=True, local_reference="a:1")
FROM_ARCHIVE, OFF = RunnerWish(loaded_image=LOADED), RunnerWish(verify="off")
UPDATE = RunnerWish(must_pull=True)
UNCONTAINED = "note: commands of agents run directly on this machine, not in a container"
NO_ENGINE = {
    "PATH": "/nowhere",
    "DOCKER_HOST": "unix:///nowhere/d.sock",
    "CONTAINER_HOST": "unix:///nowhere/p.sock",
}


@pytest.mark.parametrize(
    ("kept", "said", "wished"),
    [
        (RunnerWish(), RunnerWish(), RunnerWish()),
        *((kept, RunnerWish(), kept) for kept in (NATIVE, PODMAN, LOCAL, NAMED, FROM_ARCHIVE, OFF)),
        (NATIVE, PODMAN, PODMAN),
        (NATIVE, LOCAL, LOCAL),
        (NATIVE, OFF, replace(NATIVE, verify="off")),
        (replace(LOCAL, engine="podman", verify="off"), NATIVE, NATIVE),
        (LOCAL, PODMAN, replace(LOCAL, engine="podman")),
        (PODMAN, RunnerWish(engine="docker"), RunnerWish(engine="docker")),
        (replace(FROM_ARCHIVE, engine="podman"), LOCAL, replace(LOCAL, engine="podman")),
        (LOCAL, RunnerWish(image_archive=Path("/a")), RunnerWish(image_archive=Path("/a"))),
        (FROM_ARCHIVE, RunnerWish(image_archive=Path("/a")), RunnerWish(image_archive=Path("/a"))),
        (PODMAN, UPDATE, replace(UPDATE, engine="podman")),
        (LOCAL, UPDATE, replace(UPDATE, use_local_image=True)),
        (NAMED, UPDATE, replace(UPDATE, use_local_image=True, local_reference="a:1")),
        (NAMED, LOCAL, LOCAL),
        (LOCAL, NAMED, NAMED),
        (NAMED, RunnerWish(image_archive=Path("/a")), RunnerWish(image_archive=Path("/a"))),
        (OFF, UPDATE, UPDATE),
        (RunnerWish(verify="require"), UPDATE, replace(UPDATE, verify="require")),
        (OFF, RunnerWish(verify="require"), RunnerWish(verify="require")),
        (PODMAN, RunnerWish(is_quiet=True), replace(PODMAN, is_quiet=True)),
    ],
)
def test_what_is_said_now_comes_before_what_is_kept(
    kept: RunnerWish, said: RunnerWish, wished: RunnerWish
) -> None:
    assert kept.changed_by(said) == wished


@pytest.mark.parametrize("wish", [RunnerWish(), NATIVE, replace(NAMED, engine="podman"), FROM_ARCHIVE, OFF])
def test_a_wish_is_kept_as_it_was(tmp_path: Path, wish: RunnerWish) -> None:
    configuration = load_configuration({"STIGMER_HOME": str(tmp_path)})
    configuration.run_directory.mkdir()

    keep_wish(configuration, replace(wish, is_quiet=True), ("unlike:1", "sha256:2"))

    assert kept_wish(configuration) == wish


def test_of_an_archive_the_image_that_it_held_is_kept(tmp_path: Path) -> None:
    configuration = load_configuration({"STIGMER_HOME": str(tmp_path)})
    configuration.run_directory.mkdir()

    keep_wish(configuration, RunnerWish(image_archive=tmp_path / "image.tar"), LOADED)

    assert kept_wish(configuration) == FROM_ARCHIVE


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"loaded_image": null, "unknown": 1}'])
def test_a_record_that_cannot_be_read_says_nothing(tmp_path: Path, content: str) -> None:
    configuration = load_configuration({"STIGMER_HOME": str(tmp_path)})
    configuration.run_directory.mkdir()
    (configuration.run_directory / "runner-wish.json").write_text(content, encoding="utf-8")

    assert kept_wish(configuration) == RunnerWish()


def test_a_native_runner_stays_native_until_the_next_start(stack_home: StackHome) -> None:
    del stack_home.environment["STIGMER_ENGINE"]
    assert stack_home.stigmer("server", "start", "--native").returncode == 0

    restarted = stack_home.stigmer("server", "restart", variables=NO_ENGINE)
    stack_home.stigmer("server", "stop")
    started = stack_home.stigmer("server", "start", variables=NO_ENGINE)

    assert restarted.returncode == 0, restarted.stderr
    lines = restarted.stderr.splitlines()
    assert lines[0] == "as the stack was started: --native"
    assert UNCONTAINED in lines, "an engine was looked for"
    assert f"{UNCONTAINED}: could not use Docker: there is no /nowhere/d.sock" in started.stderr


def test_a_restart_that_cannot_be_leaves_the_stack_as_it_is(stack_home: StackHome) -> None:
    stack_home.start()
    before = stack_home.status()

    refused = stack_home.stigmer("server", "restart", "--engine", "podman", variables=NO_ENGINE)

    assert (refused.returncode, refused.stderr.splitlines()[0]) == (
        3,
        "error: could not use Podman: there is no /nowhere/p.sock, which CONTAINER_HOST names",
    )
    after = stack_home.status()
    assert (after["running"], after["supervisor_pid"]) == (True, before["supervisor_pid"])
    assert stack_home.stigmer("server", "restart").returncode == 0
