"""Files that other programs execute later: what agents do to them is seen, and ordinary work is not."""

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from agent_runner.workspace import RunnableWatch, SessionWorkspace
from agent_runner.workspace.git_configuration import settings_that_run_programs
from agent_runner.workspace.runnable_files import MAX_DEPTH
from agent_runner.workspace.runnable_watch import Protection
from bubblewrap import working_bubblewrap
from stigmer_isolation.launcher import CommandLauncher

GIT = "git -c user.name=a -c user.email=a@b -c init.defaultBranch=main -c protocol.file.allow=always"


def git(where: Path, *arguments: str) -> str:
    """Git as the person runs it."""
    done = subprocess.run(
        [*GIT.split(), *arguments], cwd=where, check=True, capture_output=True, text=True, timeout=60
    )
    return done.stdout


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A person's repository, with a remote and a branch there."""
    project, remote = tmp_path / "project", tmp_path / "project" / "remote.git"
    project.mkdir()
    git(project, "init", "-q")
    (project / "a.txt").write_text("a\n", encoding="utf-8")
    git(project, "init", "-q", "--bare", str(remote))
    (project / ".gitignore").write_text("remote.git\n", encoding="utf-8")
    git(project, "add", ".")
    git(project, "commit", "-qm", "first")
    git(project, "remote", "add", "origin", str(remote))
    git(project, "push", "-q", "origin", "main", "main:feature")
    return project


@asynccontextmanager
async def watched(
    project: Path, protection: Protection = "warn"
) -> AsyncGenerator[tuple[SessionWorkspace, RunnableWatch]]:
    """A session in the project, watched over."""
    async with CommandLauncher() as launcher:
        workspace = SessionWorkspace(project, launcher=launcher)
        kept = project.parent / "kept" / "exe_1"
        watch = RunnableWatch(project, workspace.open_directory, kept, protection)
        workspace.watch = watch
        watch.begin()
        yield workspace, watch


async def changes(project: Path, script: str) -> list[str]:
    """What is told after an agent ran a script."""
    async with watched(project) as (workspace, watch):
        result = await workspace.run(["sh", "-ec", script])
        assert result.exit_code == 0, result.stderr
        found, is_whole = watch.finish()
        assert is_whole
        return found


ATTACKS = {
    "echo true > .git/hooks/pre-commit; chmod +x .git/hooks/pre-commit": [".git/hooks/pre-commit"],
    "git config core.hooksPath .hooks": [".git/config"],
    "git config core.fsmonitor ./x": [".git/config"],
    "git config core.sshCommand 'sh -c x'": [".git/config"],
    "git config alias.status '!sh x'": [".git/config"],
    "git config filter.x.clean ./x": [".git/config"],
    "git config include.path ../x": [".git/config"],
    "git config includeIf.gitdir:/.path ../x": [".git/config"],
    "git config credential.https://example.org.helper '!x'": [".git/config"],
    "git config diff.pdf.textconv ./x": [".git/config"],
    "git config remote.origin.url 'ext::sh -c x'": [".git/config"],
    "git config submodule.x.update '!sh x'": [".git/config"],
    "printf '[alias]\\n\\tst = \\\\\\n!x\\n' >> .git/config": [".git/config"],
    "printf '[broken' >> .git/config": [".git/config"],
    "mv .git/hooks .git/h; ln -s h .git/hooks": [".git/hooks"],
    "mv .git moved; ln -s moved .git; touch moved/hooks/pre-push": [".git", "moved/hooks/pre-push"],
    "mkdir -p deep/er; cd deep/er; git init -q; echo x > .git/hooks/post-checkout": [
        "deep/er/.git/hooks/post-checkout"
    ],
    "git clone -q remote.git cloned; echo x > cloned/.git/hooks/post-merge": ["cloned/.git/hooks/post-merge"],
    f"{GIT} worktree add -q wt; git config extensions.worktreeConfig true; cd wt; "
    "git config --worktree core.editor x": [".git/worktrees/wt/config.worktree"],
    f"{GIT} submodule --quiet add $PWD/remote.git sub; echo x > .git/modules/sub/hooks/pre-commit": [
        ".git/modules/sub/hooks/pre-commit"
    ],
    "git init -q --bare innocent; echo x > innocent/hooks/pre-receive": ["innocent/hooks/pre-receive"],
    "echo x > .envrc; mkdir s; echo x > s/.envrc": [".envrc", "s/.envrc"],
    "mkdir .vscode .idea .claude; cd .vscode; echo x > tasks.json; cp tasks.json ../.idea/x.xml; "
    "cp tasks.json ../.claude/s.json": [
        ".claude/s.json",
        ".idea/x.xml",
        ".vscode/tasks.json",
    ],
    "echo x > .mcp.json; mkdir -p v/lib; echo import x > v/lib/x.pth": [".mcp.json", "v/lib/x.pth"],
    "echo x > .bashrc; echo x > .zshenv; echo x > .profile": [".bashrc", ".profile", ".zshenv"],
    "mkdir .hg .opencode; for f in .hg/hgrc .opencode/o.json .pdbrc .npmrc .yarnrc.yml .pnpmfile.cjs "
    ".devcontainer.json .Rprofile .dir-locals.el lefthook.yml a.code-workspace; do echo x > $f; done": [
        ".Rprofile",
        ".devcontainer.json",
        ".dir-locals.el",
        ".hg/hgrc",
        ".npmrc",
        ".opencode/o.json",
        ".pdbrc",
        ".pnpmfile.cjs",
        ".yarnrc.yml",
        "a.code-workspace",
        "lefthook.yml",
    ],
    "mkdir .mvn .helix .fleet .roo .vs; for f in .mvn/m .helix/h .fleet/f .roo/r .vs/v .aider.conf.yml "
    ".autoenv .byebugrc .ghci .iex.exs .ocamlinit a.sublime-project; do echo x > $f; done": [
        ".aider.conf.yml",
        ".autoenv",
        ".byebugrc",
        ".fleet/f",
        ".ghci",
        ".helix/h",
        ".iex.exs",
        ".mvn/m",
        ".ocamlinit",
        ".roo/r",
        ".vs/v",
        "a.sublime-project",
    ],
    "mkdir real; ln -s real .vscode": [".vscode"],
    "mkdir d; echo 'gitdir: /somewhere/else' > d/.git": ["d/.git"],
    "mkdir -p d y/objects y/refs y/hooks x; echo 'gitdir: ../x' > d/.git; echo ../y > x/commondir; "
    "touch x/HEAD; echo x > y/hooks/pre-commit": ["x/commondir", "y/hooks/pre-commit"],
    "mkdir -p $HOME/c; cp -r .git/objects .git/refs $HOME/c; echo $HOME/c > .git/commondir": [
        ".git/commondir"
    ],
    f"{GIT} worktree add -q wt; echo /c > .git/worktrees/wt/commondir": [".git/worktrees/wt/commondir"],
}


@pytest.mark.parametrize(("script", "expected"), ATTACKS.items())
async def test_what_other_programs_will_execute_is_named(
    script: str, expected: list[str], project: Path
) -> None:
    assert await changes(project, script) == expected


WORK = (
    "echo b > b.txt; $GIT add .; $GIT commit -qm second",
    "git checkout -q --track origin/feature",
    "$GIT push -q -u origin main:topic",
    "git remote add other ./remote.git; git fetch -q other; git branch -q -u other/main",
    "$GIT worktree add -q wt",
    "mkdir new; cd new; git init -q; echo c > c; $GIT add .; $GIT commit -qm c",
    "git clone -q remote.git cloned; cd cloned; git log --oneline",
    "$GIT stash list; git status; git branch x; git tag t; git gc -q; $GIT merge -q x; $GIT rebase -q x",
    "git config user.name b; git config pull.rebase true; git config core.autocrlf input",
    "$GIT submodule --quiet add $PWD/remote.git sub; $GIT commit -qm sub",
    "rm -rf .git",
    "mkdir -p src/pth lib; echo x > src/pth/profile; echo x > envrc; echo x > tasks.json; echo x > a.pthx",
)


@pytest.mark.parametrize("script", WORK)
@pytest.mark.parametrize("protection", ["warn", "refuse"])
async def test_ordinary_work_with_git_goes_on_and_nothing_is_told(
    script: str, protection: Protection, project: Path
) -> None:
    async with watched(project, protection) as (workspace, watch):
        result = await workspace.run(["sh", "-ec", script.replace("$GIT", GIT)])
        assert result.exit_code == 0, result.stderr
        assert (watch.finish(), watch.moved_aside) == (([], True), [])


async def test_what_was_there_before_is_not_told_again(project: Path) -> None:
    (project / ".git" / "hooks" / "pre-commit").write_text("#!/bin/sh\n", encoding="utf-8")
    (project / ".envrc").write_text("x", encoding="utf-8")
    assert await changes(project, "echo b > b.txt; touch .envrc; cp .envrc c; mv c .envrc") == []
    assert await changes(project, "chmod +x .git/hooks/pre-commit; rm .envrc") == [".git/hooks/pre-commit"]


async def test_what_file_tools_write_is_told_as_well(project: Path) -> None:
    async with watched(project) as (workspace, watch):
        await workspace.write_bytes(f"{project}/.envrc", b"x")
        assert watch.finish() == ([".envrc"], True)


async def test_a_runner_that_dies_hides_nothing(project: Path) -> None:
    async with watched(project) as (workspace, _):
        await workspace.run(["sh", "-c", "echo x > .envrc"])
    # The one that takes over; its predecessor did not come to finish.
    async with watched(project) as (_, watch):
        assert watch.finish() == ([".envrc"], True)
    async with watched(project) as (_, watch):
        assert watch.finish() == ([], True)


# --- a person's repository, where commands have mounts of their own ------------------------------


@asynccontextmanager
async def persons_own(
    project: Path, way: str, protection: Protection = "warn"
) -> AsyncGenerator[tuple[SessionWorkspace, RunnableWatch]]:
    """A session that was given the project, natively or in bubblewrap."""
    home = project.parent / "home"
    home.mkdir()
    async with CommandLauncher() as launcher:
        if way == "in bubblewrap":
            launcher.bubblewrap = working_bubblewrap()
        workspace = SessionWorkspace(project, launcher=launcher, home=home)
        kept = project.parent / "kept" / "exe_1"
        workspace.watch = RunnableWatch(project, workspace.open_directory, kept, protection)
        workspace.watch.begin()
        yield workspace, workspace.watch


WAYS = pytest.mark.parametrize("way", ["natively", "in bubblewrap"])
LINUX = pytest.mark.skipif(sys.platform != "linux", reason="only Linux has mounts of a command's own")
AGAINST_HOOKS = (
    "echo x > .git/hooks/pre-commit",
    "echo x >> .git/hooks/post-merge",
    "chmod +x .git/hooks/post-merge",
    "rm .git/hooks/post-merge",
    "mv .git/hooks .git/h",
    "rmdir .git/hooks",
    "mv .git moved",
    "ln -sfT elsewhere .git",
    "mkdir fake; mv -T fake .git",
    "ln .git/hooks/post-merge mine",
    "cp -a .git copy; mv -T copy .git; moved=$?; rm -r copy; exit $moved",
    "mount --bind .git /mnt",
    "umount .git/hooks",
    "umount -l .git",
)


@LINUX
@WAYS
async def test_hooks_of_a_persons_repository_stay_as_they_are(way: str, project: Path) -> None:
    hook = project / ".git" / "hooks" / "post-merge"
    hook.write_text("#!/bin/sh\n", encoding="utf-8")
    async with persons_own(project, way) as (workspace, watch):
        for script in AGAINST_HOOKS:
            result = await workspace.run(["sh", "-c", script])
            assert result.exit_code != 0, script
        assert watch.finish() == ([], True)
    before = {path.name for path in (project / "remote.git" / "hooks").iterdir()}
    assert {path.name for path in (project / ".git" / "hooks").iterdir()} == {*before, "post-merge"}
    assert (hook.read_text(encoding="utf-8"), hook.stat().st_mode & 0o111) == ("#!/bin/sh\n", 0)
    assert git(project, "status", "--short", "a.txt") == ""


@LINUX
@WAYS
async def test_whatever_is_removed_of_a_persons_repository_its_hooks_are_not(way: str, project: Path) -> None:
    async with persons_own(project, way) as (workspace, watch):
        script = "rm -rf .git; mkdir -p .git/hooks; echo x > .git/hooks/pre-commit"
        assert (await workspace.run(["sh", "-c", script])).exit_code != 0
        assert watch.finish() == ([], True)
    assert not (project / ".git" / "hooks" / "pre-commit").exists()


@LINUX
@WAYS
@pytest.mark.parametrize("script", [each for each in WORK if each != "rm -rf .git"])
async def test_work_with_a_persons_repository_goes_on(script: str, way: str, project: Path) -> None:
    async with persons_own(project, way) as (workspace, watch):
        result = await workspace.run(["sh", "-ec", script.replace("$GIT", GIT)])
        assert result.exit_code == 0, result.stderr
        assert (watch.finish(), watch.moved_aside) == (([], True), [])


@LINUX
async def test_where_nothing_is_watched_hooks_are_the_agents_too(project: Path) -> None:
    async with persons_own(project, "natively", "off") as (workspace, _):
        assert (await workspace.run(["sh", "-c", "echo x > .git/hooks/pre-commit"])).exit_code == 0


@LINUX
@pytest.mark.parametrize(
    "make", ["ln -s /etc .git", "echo gitdir: /x > .git", "mkfifo .git", "mkdir .git", "true"]
)
async def test_what_is_no_repository_is_in_nobodys_way(make: str, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    await asyncio.to_thread(subprocess.run, ["sh", "-c", make], cwd=folder, check=True, timeout=60)
    async with persons_own(folder, "natively") as (workspace, _):
        assert (await workspace.run(["sh", "-c", "echo on > file"])).exit_code == 0


# --- STIGMER_PROTECT_GIT=refuse ------------------------------------------------------------------


async def test_refused_files_are_moved_aside_and_what_was_there_comes_back(project: Path) -> None:
    hook, old = project / ".git" / "hooks" / "pre-commit", "#!/bin/sh\necho mine\n"
    hook.write_text(old, encoding="utf-8")
    hook.chmod(0o755)
    configuration = (project / ".git" / "config").read_text(encoding="utf-8")
    script = (
        "echo evil > .git/hooks/pre-commit; git config alias.st '!evil'; echo evil > .envrc; mkdir .vscode; "
    )
    script += "echo evil > .vscode/tasks.json"
    async with watched(project, "refuse") as (workspace, watch):
        for _ in range(2):
            assert (await workspace.run(["sh", "-ec", script.replace("mkdir", "mkdir -p")])).exit_code == 0
            assert hook.read_text(encoding="utf-8") == old
            assert hook.stat().st_mode & 0o777 == 0o755
            assert (project / ".git" / "config").read_text(encoding="utf-8") == configuration
            assert not (project / ".envrc").exists()
        assert watch.finish() == ([], True)
        expected = {".envrc", ".git/config", ".git/hooks/pre-commit", ".vscode/tasks.json"}
        assert set(watch.moved_aside) == expected
    aside = sorted(name for _, _, names in os.walk(project) for name in names if "refused" in name)
    assert aside == sorted(
        f"{name}{number}.refused-by-stigmer"
        for name in (".envrc", "config", "pre-commit", "tasks.json")
        for number in ("", ".1")
    )
    assert git(project, "status", "--short", "a.txt") == ""


async def test_what_changed_outside_a_command_is_left_alone(project: Path) -> None:
    hook = project / ".git" / "hooks" / "pre-commit"
    async with watched(project, "refuse") as (workspace, watch):
        await workspace.run(["true"])
        hook.write_text("the person's own", encoding="utf-8")
        await workspace.run(["sh", "-c", "echo x > b.txt"])
        assert hook.read_text(encoding="utf-8") == "the person's own"
        assert watch.moved_aside == []


async def test_turned_off_nothing_is_looked_at(project: Path) -> None:
    async with watched(project, "off") as (workspace, watch):
        await workspace.run(["sh", "-c", "echo x > .envrc"])
        assert (watch.finish(), watch.moved_aside) == (([], True), [])
    assert not (project.parent / "kept").exists()


# --- hostile trees ------------------------------------------------------------------------------


async def test_nothing_is_waited_for_and_no_link_is_followed(project: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    (outside / ".vscode").mkdir(parents=True)
    (outside / ".vscode" / "tasks.json").write_text("x", encoding="utf-8")
    async with watched(project) as (workspace, watch):
        script = (
            f"ln -s {outside} elsewhere; ln -s . loop; mkfifo .envrc x.pth; mkdir .bashrc; mkfifo .bashrc/x"
        )
        await workspace.run(["sh", "-ec", script])
        assert watch.finish() == ([], True)


async def test_of_a_tree_too_deep_it_is_said_that_not_all_was_seen(project: Path) -> None:
    async with watched(project) as (workspace, watch):
        await workspace.run(["mkdir", "-p", "/".join("d" * (MAX_DEPTH + 2))])
        assert watch.finish() == ([], False)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", []),
        ("[user]\n name = a ; comment\n[core]\n\teditor\n", ["core.editor=true"]),
        ('[Alias "x"]\n y = z', ["Alias.x.y=z"]),
        ('[filter "a.b"] clean = x', ["filter.a.b.clean=x"]),
        ("[core]\n hooks\\\nPath = x", ["core.hooksPath=x"]),
        ('[url "ext::x"]\n insteadOf = https:', ["url.ext::x.insteadOf=https:"]),
        ("\ufeff[core]\nfsmonitor=x\r\n", ["core.fsmonitor=x"]),
        ("no section = x", ["no section = x"]),
    ],
)
def test_a_configuration_is_read_as_git_reads_it(text: str, found: list[str]) -> None:
    assert settings_that_run_programs(text.encode()) == found
