"""Skills: what a model is told of them, what it loads and reads, and where commands find them."""

import hashlib
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest

from agent_runner.errors import ExecutionFailure
from agent_runner.toolsets import DESCRIBED, skills_catalogue
from agent_runner.workspace import PackFolders, SessionWorkspace
from stigmer_contract.errors import ManifestError
from stigmer_contract.manifest import AgentSpec
from stigmer_contract.packs import PackedFile, write_pack
from stigmer_contract.skill_documents import read_skill
from stigmer_isolation.launcher import CommandLauncher
from tool_calls import Result, call_tools, spec_of

SKILL = b"""---
name: house-style
description: How texts of this house are written.
license: MIT
metadata: {author: somebody}
allowed-tools: Bash(git:*) Read
x-other: {of: another program}
---

Write short sentences.
"""
PACK = write_pack(
    [
        PackedFile("SKILL.md", SKILL, False),
        PackedFile("references/words.md", "| Wörter |\n".encode(), False),
        PackedFile("scripts/count.sh", b"#!/bin/sh\nwc -w < \"$1\"\n", True),
        PackedFile("logo.png", b"\x89PNG\xff", False),
    ]
)  # fmt: skip


@pytest.fixture
async def workspace(tmp_path: Path) -> AsyncGenerator[SessionWorkspace]:
    directory = tmp_path / "session"
    directory.mkdir()
    async with CommandLauncher() as launcher:
        yield SessionWorkspace(directory, launcher=launcher)


@pytest.fixture
def spec() -> AgentSpec:
    skill = {
        "name": "house-style",
        "description": "How texts of this house are written.",
        "pack": f"sha256:{hashlib.sha256(PACK).hexdigest()}",
    }
    return spec_of(skills=[skill])


def packs_in(root: Path) -> PackFolders:
    async def load(sha256: str) -> bytes:
        assert sha256 == hashlib.sha256(PACK).hexdigest()
        return PACK

    return PackFolders(root, load)


async def test_a_skill_is_loaded_and_its_files_are_read(
    workspace: SessionWorkspace, spec: AgentSpec, tmp_path: Path
) -> None:
    results = await call_tools(
        workspace,
        ("load_skill", {"skill": "house-style"}),
        ("read_skill_file", {"skill": "house-style", "path": "references/words.md"}),
        ("read_skill_file", {"skill": "house-style", "path": "./references/words.md", "offset": 2}),
        ("read_skill_file", {"skill": "house-style", "path": "../house-style/SKILL.md"}),
        ("read_skill_file", {"skill": "house-style", "path": "logo.png"}),
        ("load_skill", {"skill": "../x"}),
        spec=spec,
        packs=packs_in(tmp_path),
    )

    assert skills_catalogue(spec) is not None
    assert "- house-style: How texts of this house are written." in (skills_catalogue(spec) or "")
    assert results[0].content.startswith("# Skill house-style\n\nWrite short sentences.")
    assert "- logo.png\n- references/words.md\n- scripts/count.sh" in results[0].content
    assert results[1:3] == [Result("success", "| Wörter |\n"), Result("success", "Wörter |\n")]
    assert [result.outcome for result in results[3:5]] == ["failed", "failed"]
    assert "not text; it has 5 bytes" in results[4].content
    assert results[5].outcome == "retried" and "there are house-style" in results[5].content
    assert not DESCRIBED["skills"].facts_of(spec, "load_skill").side_effects


async def test_commands_run_a_skill_s_programs_and_cannot_change_them(
    workspace: SessionWorkspace, spec: AgentSpec, tmp_path: Path
) -> None:
    count = "echo one two three > t; $SKILLS/house-style/scripts/count.sh t"
    spoil = 'cd "$SKILLS/house-style"; echo x >> SKILL.md; rm -r scripts; touch new; chmod 777 SKILL.md; ls'

    counted, spoiled = await call_tools(
        workspace,
        ("run_command", {"command": count}),
        ("run_command", {"command": spoil}),
        spec=spec,
        packs=packs_in(tmp_path),
    )

    assert counted.content.split() == ["[stdout]", "3"]
    assert spoiled.content.partition("[stderr]")[0].split()[1:] == [
        "SKILL.md",
        "logo.png",
        "references",
        "scripts",
    ]
    [kept] = (tmp_path / ".packs").iterdir()
    assert (kept / "content" / "house-style" / "SKILL.md").read_bytes() == SKILL


async def test_a_skill_that_was_not_packed_fails_the_execution(workspace: SessionWorkspace) -> None:
    with pytest.raises(ExecutionFailure, match="was not packed"):
        await call_tools(workspace, spec=spec_of(skills=["./x"]))


@pytest.mark.parametrize(
    ("text", "problems"),
    [
        ("# Hello\n", ["s:1:1: begins with no front matter"]),
        ("---\nname: a\n", ["s:1:1: its front matter has no end"]),
        ("---\nname: a\n---\n", ["s:2:1: description: is missing"]),
        ("---\nname: A--b\ndescription: x\n---\n", ["s:2:7: name: 'A--b' is no name"]),
        ("---\nname: a\ndescription: ''\n---\n", ["s:3:14: description: must not be empty"]),
        ("---\nname: a\ndescription: [x]\n---\n", ["s:3:14: description: must be text"]),
        (f"---\nname: a\ndescription: {'x' * 8193}\n---\n", ["s:3:14: description: has 8193 characters"]),
        ("---\nname: a\ndescription: x: y: z\n---\n", ["s:3:"]),
        ("---\nname: 7\ndescription: [x]\n---\n", ["s:2:7: name: must", "s:3:14: description: must"]),
    ],
)
def test_what_is_wrong_with_a_skill_is_told_with_its_place(text: str, problems: list[str]) -> None:
    with pytest.raises(ManifestError) as raised:
        read_skill(text.encode(), "s", "a")
    found = [str(problem) for problem in raised.value.problems]
    assert len(found) == len(problems), found
    assert all(one.startswith(start) for one, start in zip(found, problems, strict=True)), found


def test_a_skill_of_another_system_is_read() -> None:
    head = b"\xef\xbb\xbf---\r\nname: a\r\ndescription: >\r\n  Two\r\n  lines.\r\n"
    text = head + b"model: opus\r\n---\r\nDo it.\r\n"

    skill = read_skill(text, "s", "a")

    assert (skill.description, skill.body) == ("Two lines.", "Do it.")


def test_what_the_standard_forbids_and_public_skills_do_is_noted() -> None:
    text = f"---\nname: other\ndescription: {'x' * 1025}\ncompatibility: [1]\nmetadata: x\n---\nBody\n"

    skill = read_skill(text.encode(), "s", "a")

    assert [str(note).partition(" ")[0] + f" {note.field_path}" for note in skill.notes] == [
        "s:2:7: name",
        "s:3:14: description",
        "s:4:16: compatibility",
        "s:5:11: metadata",
    ]
    assert skill.name == "other" and len(skill.description) == 1025
