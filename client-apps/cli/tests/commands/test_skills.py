"""`stigmer skills`, and what `apply` makes of skills in folders and in git repositories."""

import json
import os
import subprocess
from pathlib import Path

import pytest

from cli_harness import Command, Server
from stigmer_contract.packs import read_pack

SKILL = "---\nname: {name}\ndescription: How texts are written.\n---\n\nShort sentences.\n"
MANIFEST = """\
apiVersion: agentic.stigmer.ai/v1
kind: Agent
metadata: {{name: writer}}
spec:
  instructions: Write.
  model: openai:gpt-5
  skills: [{skill}]
"""


def make_skill(folder: Path, name: str = "house-style") -> Path:
    skill = folder / name
    (skill / "scripts").mkdir(parents=True)
    (skill / "SKILL.md").write_text(SKILL.format(name=name), encoding="utf-8")
    (skill / "scripts" / "check.py").write_text("print(1)\n", encoding="utf-8")
    (skill / "scripts" / "check.py").chmod(0o755)
    (skill / ".env").write_text("KEY=x\n", encoding="utf-8")
    return skill


def make_agent(command: Command, skill: str) -> Path:
    file = command.folder / "writer.yaml"
    file.write_text(MANIFEST.format(skill=skill), encoding="utf-8")
    return file


def git(folder: Path, *arguments: str) -> str:
    settings = ["-c", "user.name=t", "-c", "user.email=t@example.com", "-c", "commit.gpgsign=false"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    return subprocess.run(
        ["git", *settings, "-C", str(folder), *arguments],
        env=environment | {"HOME": str(folder)},
        capture_output=True,
        encoding="utf-8",
        check=True,
    ).stdout.strip()


def make_repository(folder: Path) -> str:
    """A repository with a skill, a hook, a filter and a link; gives the first of its two commits."""
    folder.mkdir()
    git(folder, "init", "--quiet")
    skill = make_skill(folder / "skills")
    (skill / "link.py").symlink_to("scripts/check.py")
    (folder / ".gitattributes").write_text("* filter=spoil\n", encoding="utf-8")
    git(folder, "add", ".")
    git(folder, "commit", "--quiet", "-m", "one")
    commit = git(folder, "rev-parse", "HEAD")
    (skill / "SKILL.md").write_text(SKILL.format(name="other"), encoding="utf-8")
    git(folder, "commit", "--quiet", "-am", "two")
    return commit


def test_a_skill_is_checked_and_packed_to_one_name(command: Command) -> None:
    skill = make_skill(command.folder)

    checked = command.run("skills", "validate", "house-style")
    packed = command.run("skills", "pack", "house-style", "-o", "out.tar")
    as_json = json.loads(command.run("skills", "validate", "house-style", "--json").stdout)

    assert checked.stdout == "house-style: skill house-style is valid (2 files)\n"
    assert packed.stdout.strip() == as_json[0]["pack"]
    files = read_pack((command.folder / "out.tar").read_bytes())
    assert {file.path: file.is_executable for file in files} == {"SKILL.md": False, "scripts/check.py": True}
    os.utime(skill / "SKILL.md", (1, 1))
    assert command.run("skills", "pack", "house-style").stdout == packed.stdout


def test_what_is_wrong_with_a_skill_is_told_with_its_place(command: Command) -> None:
    make_skill(command.folder, "a").joinpath("SKILL.md").write_text(
        "---\nname: A b\ndescription: [x]\n---\n", encoding="utf-8"
    )
    make_skill(command.folder, "b").joinpath("SKILL.md").write_text(
        SKILL.format(name="other"), encoding="utf-8"
    )
    (command.folder / "c").mkdir()

    told = command.run("skills", "validate", "a", "b", "c", "nowhere")

    assert told.exit_code == 1
    lines = told.stderr.splitlines()
    assert lines[0] == "a: not a skill:"
    assert lines[1].startswith("a/SKILL.md:2:7: name: 'A b' is no name")
    assert lines[2].startswith("a/SKILL.md:3:14: description: must be text")
    assert lines[3] == "b: not by the standard:"
    assert lines[4].startswith("b/SKILL.md:2:7: name: 'other' must be the name of its folder, 'b'")
    assert lines[5:7] == ["c: there is no SKILL.md in 'c'", "nowhere: there is no SKILL.md in 'nowhere'"]
    assert lines[-1] == "error: 4 folders of 4 cannot be used as a skill"


def test_an_applied_agent_keeps_the_skill_as_it_was(command: Command, server: Server) -> None:
    skill = make_skill(command.folder)
    file = make_agent(command, "./house-style")

    assert command.run("apply", "-f", str(file)).exit_code == 0
    [first] = json.loads(command.run("skills", "list", "writer", "--json").stdout)
    (skill / "SKILL.md").write_text(SKILL.format(name="house-style") + "More.\n", encoding="utf-8")
    [kept] = json.loads(command.run("skills", "list", "writer", "--json").stdout)
    [new] = json.loads(command.run("skills", "list", str(file), "--json").stdout)

    assert first == kept and new["pack"] != first["pack"]
    assert (first["name"], first["description"]) == ("house-style", "How texts are written.")
    assert len(read_pack(server.client.fetch_blob(first["pack"].removeprefix("sha256:")))) == 2
    assert "house-style" in command.run("skills", "list", "writer").stdout


def test_a_skill_of_another_folder_s_name_is_taken_with_a_note(command: Command) -> None:
    make_skill(command.folder, "b").joinpath("SKILL.md").write_text(
        SKILL.format(name="other"), encoding="utf-8"
    )

    applied = command.run("apply", "-f", str(make_agent(command, "./b")))

    assert applied.exit_code == 0
    assert "note: " in applied.stderr and "'other' must be the name of its folder, 'b'" in applied.stderr


def test_a_skill_of_a_git_repository_is_taken_at_its_commit(command: Command) -> None:
    commit = make_repository(command.folder / "repository")
    marker = command.folder / "ran"
    git(command.folder, "config", "--global", "filter.spoil.smudge", f"touch {marker}; cat")
    address = f"file://{command.folder}/repository"
    file = make_agent(command, f"{{git: '{address}', commit: {commit}, folder: skills/house-style}}")

    first = command.run("skills", "list", str(file), "--json")
    (command.folder / "repository").rename(command.folder / "away")
    again = command.run("skills", "list", str(file), "--json")

    assert first.exit_code == 0, first.stderr
    [skill] = json.loads(first.stdout)
    assert (skill["name"], skill["commit"], skill["git"]) == ("house-style", commit, address)
    assert again.stdout == first.stdout
    [kept] = (command.folder / "home" / "skills").iterdir()
    names = {each.path: (each.is_executable, each.content) for each in read_pack(kept.read_bytes())}
    assert names["link.py"] == names["scripts/check.py"] == (True, b"print(1)\n")
    assert sorted(names) == ["SKILL.md", "link.py", "scripts/check.py"]
    assert not marker.exists()


def test_a_commit_or_folder_that_is_not_there_is_told(command: Command) -> None:
    commit = make_repository(command.folder / "repository")
    address = f"file://{command.folder}/repository"

    wrong = [
        command.run("skills", "list", str(make_agent(command, f"{{git: '{address}', {rest}}}"))).stderr
        for rest in (f"commit: '{'0' * 40}'", f"commit: {commit}, folder: nowhere", f"commit: {commit}")
    ]

    assert f"has no commit {'0' * 40}" in wrong[0]
    assert "has no folder 'nowhere'" in wrong[1]
    assert "there is no SKILL.md in file://" in wrong[2]
    assert all("Traceback" not in text and "spec.skills[0]" in text for text in wrong)


@pytest.mark.parametrize(
    ("skill", "problem"),
    [
        ("{git: 'ext::sh -c id', commit: COMMIT}", "is not the address of a repository"),
        ("{git: '--upload-pack=id', commit: COMMIT}", "is not the address of a repository"),
        ("{git: 'https://me:word@example.com/x', commit: COMMIT}", "the address holds a password"),
        ("{git: 'https://example.com/x', commit: main}", "commit"),
        ("{git: 'https://example.com/x'}", "give git and commit together"),
        ("{git: 'https://example.com/x', commit: COMMIT, folder: ../x}", "leads out"),
        ("{}", "name a folder with a SKILL.md"),
    ],
)
def test_a_repository_that_cannot_be_one_is_refused(command: Command, skill: str, problem: str) -> None:
    told = command.run("validate", "-f", str(make_agent(command, skill.replace("COMMIT", f"'{'0' * 40}'"))))

    assert told.exit_code == 1
    assert problem in told.stderr and "Traceback" not in told.stderr
