"""Artifacts: what a leg keeps of its workspace as the execution ends, with a server in memory."""

import hashlib
import os
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest
from pydantic import SecretStr
from pydantic_ai.messages import ModelMessage, ModelResponse, TextPart

from agent_runner import artifacts
from agent_runner.legs import ActivityAttempt
from leg_server import SESSION, Answer, Server, leg_runner
from stigmer_contract.artifacts import Artifact
from stigmer_contract.events import ArtifactsCollected, ExecutionCompleted, ExecutionFailed, LegEnded
from stigmer_isolation.launcher import CommandLauncher

TRY = ActivityAttempt("try-1", b"token")


@pytest.fixture
async def launcher() -> AsyncGenerator[CommandLauncher]:
    async with CommandLauncher() as launcher:
        yield launcher


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    """The session's directory, before its first leg."""
    directory = tmp_path / "root" / SESSION
    directory.mkdir(parents=True)
    return directory


def say_done(_messages: list[ModelMessage]) -> ModelResponse:
    return ModelResponse(parts=[TextPart("Done.")])


async def collected_by(
    server: Server, workspace: Path, launcher: CommandLauncher, answer: Answer = say_done
) -> ArtifactsCollected:
    """What one leg that runs to the end collects."""
    await leg_runner(server, answer, launcher, workspace.parent).run("exe_1", TRY)
    [event] = [event for event in server.events if isinstance(event, ArtifactsCollected)]
    return event


def put(path: Path, content: bytes = b"x") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def kept(content: bytes, path: str) -> Artifact:
    return Artifact(path=path, sha256=hashlib.sha256(content).hexdigest(), size_bytes=len(content))


async def test_files_that_match_are_stored_and_named_right_before_the_end(
    workspace: Path, launcher: CommandLauncher
) -> None:
    put(workspace / "report.md", b"# Report\n")
    put(workspace / "out" / "deep" / "a.bin", bytes(range(256)))
    put(workspace / "elsewhere" / "report.md", b"another")
    put(workspace / "notes.txt", b"not asked for")
    server = Server(artifacts=["report.md", "out/**", "missing/*.csv"])

    event = await collected_by(server, workspace, launcher)

    assert event == ArtifactsCollected(
        files=[kept(bytes(range(256)), "out/deep/a.bin"), kept(b"# Report\n", "report.md")],
        unmatched=["missing/*.csv"],
    )
    assert server.blobs == {
        hashlib.sha256(content).hexdigest(): content for content in (b"# Report\n", bytes(range(256)))
    }
    at = server.events.index(event)
    assert [type(each) for each in server.events[-2:]] == [LegEnded, ExecutionCompleted]
    assert at < len(server.events) - 2


@pytest.mark.parametrize("pattern", ["out", "out/", "./out", "ou?", "{out,other}"])
async def test_a_directory_that_matches_is_kept_with_all_that_is_in_it(
    workspace: Path, launcher: CommandLauncher, pattern: str
) -> None:
    put(workspace / "out" / "b" / "c.txt")
    put(workspace / "out.txt")
    event = await collected_by(Server(artifacts=[pattern]), workspace, launcher)
    assert [file.path for file in event.files] == ["out/b/c.txt"]


async def test_links_devices_and_git_are_no_files_to_keep(workspace: Path, launcher: CommandLauncher) -> None:
    secret = workspace.parent / "outside.txt"
    put(secret, b"of the machine")
    (workspace / "link.txt").symlink_to(secret)
    (workspace / "folder").symlink_to(workspace.parent)
    (workspace / "inside.txt").symlink_to("real.txt")
    os.mkfifo(workspace / "pipe.txt")
    put(workspace / ".git" / "config.txt")
    put(workspace / "real.txt", b"real")
    server = Server(artifacts=["**/*.txt", "link.txt", "folder/*.txt", "folder/outside.txt", "pipe.txt"])

    event = await collected_by(server, workspace, launcher)

    assert event.files == [kept(b"real", "real.txt")]
    assert event.unmatched == ["link.txt", "folder/*.txt", "folder/outside.txt"]
    assert [(each.path, each.reason) for each in event.left_out] == [("pipe.txt", "it is no regular file")]
    assert list(server.blobs.values()) == [b"real"]


async def test_odd_names_are_shown_in_one_line(workspace: Path, launcher: CommandLauncher) -> None:
    for name in (b"a\nb", b"\xff\xfe", b"\x1b[31m", "übung".encode()):
        put(workspace / "out" / os.fsdecode(name))
    event = await collected_by(Server(artifacts=["out/*"]), workspace, launcher)
    assert [file.path for file in event.files] == [
        "out/\\x1b[31m",
        "out/\\xff\\xfe",
        "out/a\\x0ab",
        "out/übung",
    ]


async def test_secrets_are_masked_in_contents_and_names(workspace: Path, launcher: CommandLauncher) -> None:
    value = "hunter2-is-the-password"
    # Over the border of two pieces, and beside bytes that are no UTF-8.
    filler = b"\xff" * (artifacts._PIECE_BYTES - 5)  # pyright: ignore[reportPrivateUsage] - the border
    put(workspace / "log.bin", filler + value.encode() + b"\x00\xfe rest")
    put(workspace / f"{value}.txt", b"plain")
    server = Server(artifacts=["*"], tools=["shell"], env={"PASSWORD": {"secret": "PASSWORD"}})
    server.secrets = {"PASSWORD": SecretStr(value)}

    event = await collected_by(server, workspace, launcher)

    by_path = {file.path: file for file in event.files}
    assert {path: file.masked for path, file in by_path.items()} == {
        "[secret PASSWORD].txt": False,
        "log.bin": True,
    }
    assert server.blobs[by_path["log.bin"].sha256] == filler + b"[secret PASSWORD]\x00\xfe rest"
    assert not any(value.encode() in content for content in server.blobs.values())


async def test_what_is_too_large_or_too_much_is_left_out_and_told(
    workspace: Path, launcher: CommandLauncher, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (("MAX_ARTIFACT_BYTES", 1000), ("MAX_ARTIFACTS_BYTES", 1500), ("MAX_ARTIFACTS", 3)):
        monkeypatch.setattr(artifacts, name, value)
    monkeypatch.setattr(artifacts, "MAX_LEFT_OUT", 3)
    with (workspace / "a-sparse").open("wb") as file:
        file.truncate(1 << 40)
    put(workspace / "b", bytes(900))
    put(workspace / "c", bytes(900))
    for name in "defgh":
        put(workspace / name)

    event = await collected_by(Server(artifacts=["*"]), workspace, launcher)

    assert [file.path for file in event.files] == ["b", "d", "e"]
    assert [(each.path, each.reason.split()[-1]) for each in event.left_out] == [
        ("a-sparse", "MiB"),
        ("c", "MiB"),
        ("f", "already"),
    ]
    assert event.further == 2


async def test_an_execution_that_fails_leaves_its_files_too(
    workspace: Path, launcher: CommandLauncher
) -> None:
    put(workspace / "half.md", b"half")

    def fail(_messages: list[ModelMessage]) -> ModelResponse:
        raise ZeroDivisionError

    server = Server(artifacts=["half.md"])
    event = await collected_by(server, workspace, launcher, fail)
    assert event.files == [kept(b"half", "half.md")]
    assert isinstance(server.events[-1], ExecutionFailed)


async def test_a_pattern_that_cannot_be_read_is_told(workspace: Path, launcher: CommandLauncher) -> None:
    put(workspace / "a.md")
    event = await collected_by(Server(artifacts=["[z-a].md", "a.md"]), workspace, launcher)
    assert [file.path for file in event.files] == ["a.md"]
    assert [each.path for each in event.left_out] == ["[z-a].md"]


async def test_without_patterns_nothing_is_looked_for(workspace: Path, launcher: CommandLauncher) -> None:
    server = Server()
    await leg_runner(server, say_done, launcher, workspace.parent).run("exe_1", TRY)
    assert not any(isinstance(event, ArtifactsCollected) for event in server.events)
