"""Attachments: what becomes of files that come with the person's words, with a server in memory."""

from collections.abc import AsyncGenerator, Sequence
from pathlib import Path

import pytest
from pydantic_ai.messages import (
    BinaryContent,
    ModelMessage,
    ModelResponse,
    TextContent,
    TextPart,
    UserPromptPart,
)

from agent_runner.legs import ActivityAttempt
from agent_runner.models import takes_file
from leg_server import SESSION, Server, leg_runner
from stigmer_contract.error_codes import ErrorCode
from stigmer_contract.events import ExecutionCompleted, ExecutionFailed
from stigmer_isolation.launcher import CommandLauncher

TRY = ActivityAttempt("try-1", b"token")
PNG = b"\x89PNG\r\n\x1a\n" + bytes(20)


@pytest.fixture
async def launcher() -> AsyncGenerator[CommandLauncher]:
    async with CommandLauncher() as launcher:
        yield launcher


async def told(
    server: Server, root: Path, launcher: CommandLauncher, reference: str = "openai:gpt-5"
) -> list[object]:
    """What the model is shown of the person's words: texts, and files as they are."""
    seen: list[ModelMessage] = []

    def answer(messages: list[ModelMessage]) -> ModelResponse:
        seen.extend(messages)
        return ModelResponse(parts=[TextPart("Done.")])

    await leg_runner(server, answer, launcher, root, reference).run("exe_1", TRY)
    assert isinstance(server.events[-1], ExecutionCompleted), server.events[-1]
    [prompt, *_] = [part for part in seen[0].parts if isinstance(part, UserPromptPart)]
    content: Sequence[object] = [prompt.content] if isinstance(prompt.content, str) else prompt.content
    return [each.content if isinstance(each, TextContent) else each for each in content]


async def test_pictures_and_short_texts_go_to_a_model_that_takes_them(
    tmp_path: Path, launcher: CommandLauncher
) -> None:
    server = Server()
    server.attach("pixel.bin", PNG)
    server.attach("paper.pdf", b"%PDF-1.7 ...")
    server.attach("notes.txt", "Übung {x}".encode())

    shown = await told(server, tmp_path, launcher)

    assert shown[0] == "Go."
    assert shown[1:6] == [
        "\n\n[attached: pixel.bin]",
        BinaryContent(data=PNG, media_type="image/png"),
        "\n\n[attached: paper.pdf]",
        BinaryContent(data=b"%PDF-1.7 ...", media_type="application/pdf"),
        "\n\n[attached: notes.txt]\nÜbung {x}",
    ]
    assert not (tmp_path / SESSION / "attachments").exists()


async def test_what_a_model_does_not_take_lies_in_the_workspace_and_is_named(
    tmp_path: Path, launcher: CommandLauncher
) -> None:
    server = Server()
    files = {
        "pixel.png": PNG,
        "archive.zip": b"PK\x03\x04\x00",
        "long.txt": b"x" * 40_000,
        "latin.txt": b"caf\xe9",
    }
    attached = [server.attach(name, content) for name, content in files.items()]

    shown = await told(server, tmp_path, launcher, "ollama:qwen3")

    for each, text in zip(attached, shown[1:], strict=False):
        place = f"attachments/{each.sha256[:8]}/{each.name}"
        assert text == (
            f"\n\n[attached: {each.name}, {each.size_bytes} bytes, in the working directory at {place!r}]"
        )
        assert (tmp_path / SESSION / place).read_bytes() == files[each.name]


async def test_what_the_agent_has_changed_since_is_not_laid_down_again(
    tmp_path: Path, launcher: CommandLauncher
) -> None:
    server = Server()
    each = server.attach("data.zip", b"PK\x03\x04\x00")
    file = tmp_path / SESSION / "attachments" / each.sha256[:8] / "data.zip"
    file.parent.mkdir(parents=True)
    file.write_bytes(b"changed by the agent")
    await told(server, tmp_path, launcher)
    assert file.read_bytes() == b"changed by the agent"


async def test_a_link_in_the_workspace_does_not_lead_files_elsewhere(
    tmp_path: Path, launcher: CommandLauncher
) -> None:
    server, outside = Server(), tmp_path / "outside"
    server.attach("data.zip", b"PK\x03\x04\x00")
    outside.mkdir()
    (tmp_path / "root" / SESSION).mkdir(parents=True)
    (tmp_path / "root" / SESSION / "attachments").symlink_to(outside)

    def answer(_messages: list[ModelMessage]) -> ModelResponse:
        raise AssertionError("the model was asked")

    await leg_runner(server, answer, launcher, tmp_path / "root").run("exe_1", TRY)

    failed = server.events[-1]
    assert isinstance(failed, ExecutionFailed)
    assert (failed.code, list(outside.iterdir())) == (ErrorCode.WORKSPACE_UNAVAILABLE, [])
    assert failed.message.startswith("could not lay the attached file 'data.zip' into the workspace: ")


@pytest.mark.parametrize(
    ("reference", "media_type", "takes"),
    [
        ("openai:gpt-5", "image/png", True),
        ("openai:gpt-4", "image/png", False),
        ("openai:gpt-4o", "image/png", True),
        ("openai:gpt-3.5-turbo", "application/pdf", False),
        ("anthropic:claude-sonnet-4-5", "application/pdf", True),
        ("anthropic:claude-2.1", "image/png", False),
        ("vllm:gpt-5", "image/png", False),
        ("replay:x.yaml", "image/png", False),
    ],
)
def test_only_what_a_model_is_known_to_take_goes_to_it(reference: str, media_type: str, takes: bool) -> None:
    assert takes_file(reference, media_type) is takes
