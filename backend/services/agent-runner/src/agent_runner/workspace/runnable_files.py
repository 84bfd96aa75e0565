"""Files of a workspace that other programs execute later, on the person's own machine: which there are.

Git runs hooks and what its configuration names, shells and direnv read start-up files, editors run tasks,
Python runs `.pth`. Looks and compares; what is done about a change is `runnable_watch`'s matter.
"""

# ruff: noqa: PTH118, PTH120 - paths here are text

import hashlib
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from agent_runner.workspace.git_configuration import settings_that_run_programs

MAX_ENTRIES: Final = 200_000
"""Most entries of a tree that are looked at; a look at so many takes 0.25 s (2026-11)."""
MAX_DEPTH: Final = 64
MAX_FILES: Final = 10_000
MAX_KEPT_BYTES: Final = 16 * 1024 * 1024
MAX_CONTENT_BYTES: Final = 256 * 1024
"""Of a larger file its time of change stands for the content."""

_FILES: Final = frozenset((
    ".Rprofile", ".aider.conf.yml", ".autoenv", ".autoenv.zsh", ".bash_aliases", ".bash_login",
    ".bash_logout", ".bash_profile", ".bashrc", ".bazelrc", ".byebugrc", ".cshrc",
    ".devcontainer.json", ".dir-locals.el", ".envrc", ".exrc", ".gdbinit", ".ghci", ".gitconfig",
    ".gvimrc", ".iex.exs", ".irbrc", ".kshrc", ".lefthook.yml", ".lldbinit", ".login", ".mcp.json",
    ".mise.toml", ".npmrc", ".nvim.lua", ".nvimrc", ".ocamlinit", ".pdbrc", ".pnpmfile.cjs",
    ".pre-commit-config.yaml", ".profile", ".pryrc", ".tcshrc", ".vimrc", ".xprofile", ".yarnrc",
    ".yarnrc.yml", ".zlogin", ".zlogout", ".zprofile", ".zshenv", ".zshrc", "hgrc", "lefthook.yml",
    "mise.toml", "sitecustomize.py", "usercustomize.py"
))  # fmt: skip
_SUFFIXES: Final = (".pth", ".code-workspace", ".sublime-project")
_DIRECTORIES: Final = frozenset((
    ".claude", ".codex", ".continue", ".cursor", ".devcontainer", ".fleet", ".gemini", ".helix",
    ".husky", ".idea", ".kiro", ".mvn", ".opencode", ".roo", ".vs", ".vscode", ".windsurf", ".zed"
))  # fmt: skip
"""All that is in them."""
_GIT: Final = ".git"
_GIT_PARTS: Final = (frozenset({"objects", "refs"}), frozenset({"HEAD", "commondir"}))
"""What makes a directory one of Git's, whatever it is called (gitrepository-layout(5))."""
_POINTER: Final = b"gitdir:"
"""How a file `.git` begins, as worktrees and submodules have one."""
_GIT_CONFIGURATIONS: Final = ("config", "config.worktree")
_GIT_ELSEWHERE: Final = "commondir"
"""Where Git looks for hooks and configuration instead; it writes one itself for worktrees only."""
_COMMONDIR_OF_WORKTREE: Final = b"../.."


ASIDE_SUFFIX: Final = ".refused-by-stigmer"
"""Of a file that was moved aside, by which nothing executes it."""


@dataclass(frozen=True, slots=True)
class Content:
    """What a file held."""

    data: bytes
    mode: int


@dataclass(frozen=True, slots=True)
class Look:
    """One look at a workspace."""

    marks: dict[str, str] = field(default_factory=dict[str, str])
    """What each such file is, by its path in the workspace."""
    is_whole: bool = True
    """Whether all of the tree was looked at."""
    contents: dict[str, Content] = field(default_factory=dict[str, Content])
    """Of those files, and of Git's configurations that run nothing; where they were asked for."""


def look(directory: int, path: str, *, keeps_contents: bool = False) -> Look:
    """Look at the tree beneath an open directory, which is at `path`. Follows no link, waits for nothing."""
    looking = _Looking(path, keeps_contents=keeps_contents)
    looking.walk(directory, "", MAX_DEPTH)
    return Look(looking.marks, looking.is_whole, looking.contents)


def changed_between(before: Look, after: Look) -> list[str]:
    """The paths of files that are new or others than before; what is gone is executed by nobody."""
    return sorted(path for path, mark in after.marks.items() if before.marks.get(path) != mark)


class _Looking:
    def __init__(self, root: str, *, keeps_contents: bool) -> None:
        self._root = root
        self.marks: dict[str, str] = {}
        self.contents: dict[str, Content] = {}
        self._content_bytes_left = MAX_KEPT_BYTES if keeps_contents else 0
        self.is_whole = True
        self._entries = 0

    def walk(self, directory: int, path: str, depth: int, *, takes_all: bool = False) -> None:
        """All that is in a directory and below; `takes_all`: each file is one that is executed."""
        entries = list(self._list(directory))
        names = {entry.name for entry in entries}
        if any(names >= parts for parts in _GIT_PARTS) or path.endswith(f"{_GIT}/"):
            self._git(directory, path, depth)
            return
        for entry in entries:
            name, inner = entry.name, f"{path}{entry.name}"
            if entry.is_dir(follow_symlinks=False):
                self._into(directory, name, f"{inner}/", depth, takes_all=takes_all or name in _DIRECTORIES)
            elif (
                takes_all
                or name in _FILES
                or name.endswith(_SUFFIXES)
                or name == _GIT
                or (name in _DIRECTORIES and entry.is_symlink())
            ):
                self._mark(directory, name, inner)

    def _into(self, directory: int, name: str, path: str, depth: int, *, takes_all: bool) -> None:
        if depth == 0:
            self.is_whole = False
            return
        try:
            inner = os.open(
                name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory
            )
        except OSError:
            self.is_whole = False
            return
        try:
            self.walk(inner, path, depth - 1, takes_all=takes_all)
        finally:
            os.close(inner)

    def _git(self, directory: int, path: str, depth: int) -> None:
        """Git's own directory: hooks, configurations, and the directories of submodules and worktrees."""
        for name in _GIT_CONFIGURATIONS:
            self._mark(directory, name, f"{path}{name}", is_configuration=True)
        self._mark(directory, _GIT_ELSEWHERE, f"{path}{_GIT_ELSEWHERE}")
        for name in ("hooks", "modules", "worktrees"):
            inner = _open_directory(directory, name)
            if inner is None:
                self._mark(directory, name, f"{path}{name}")  # a link
                continue
            try:
                if name == "modules":
                    self.walk(inner, f"{path}modules/", depth - 1)
                else:
                    self._git_part(inner, f"{path}{name}/")
            finally:
                os.close(inner)

    def _git_part(self, directory: int, path: str) -> None:
        """The hooks, or the directories of worktrees with a configuration of their own."""
        for entry in self._list(directory):
            if entry.is_dir(follow_symlinks=False):
                worktree = _open_directory(directory, entry.name)
                if worktree is not None:
                    name = _GIT_CONFIGURATIONS[1]
                    self._mark(worktree, name, f"{path}{entry.name}/{name}", is_configuration=True)
                    self._mark(
                        worktree,
                        _GIT_ELSEWHERE,
                        f"{path}{entry.name}/{_GIT_ELSEWHERE}",
                        except_for=_COMMONDIR_OF_WORKTREE,
                    )
                    os.close(worktree)
            elif not entry.name.endswith(".sample"):
                self._mark(directory, entry.name, f"{path}{entry.name}")

    def _list(self, directory: int) -> Iterator["os.DirEntry[str]"]:
        try:
            with os.scandir(directory) as entries:
                for entry in entries:
                    self._entries += 1
                    if self._entries > MAX_ENTRIES:
                        self.is_whole = False
                        return
                    yield entry
        except OSError:
            self.is_whole = False

    def _points_within(self, path: str, data: bytes) -> bool:
        """Whether a file `.git` leads to a directory of the workspace, which is looked at where it is."""
        if not data.startswith(_POINTER):
            return False
        target = os.fsdecode(data.removeprefix(_POINTER).strip())
        whole = os.path.normpath(os.path.join(self._root, os.path.dirname(path), target))
        return whole.startswith(f"{self._root}/")

    def _mark(
        self,
        directory: int,
        name: str,
        path: str,
        *,
        is_configuration: bool = False,
        except_for: bytes | None = None,
    ) -> None:
        if name.endswith(ASIDE_SUFFIX):
            return
        if len(self.marks) >= MAX_FILES:
            self.is_whole = False
            return
        mark, content = _mark_of(directory, name, is_configuration=is_configuration)
        if name == _GIT and content is not None and self._points_within(path, content.data):
            return
        if except_for is not None and content is not None and content.data.strip() == except_for:
            return
        if mark is not None:
            self.marks[path] = mark
        if content is not None and len(content.data) <= self._content_bytes_left:
            self._content_bytes_left -= len(content.data)
            self.contents[path] = content


def _mark_of(directory: int, name: str, *, is_configuration: bool) -> tuple[str | None, Content | None]:
    """What tells a file from another one, and what it holds; None where nothing could be executed."""
    try:
        status = os.stat(name, dir_fd=directory, follow_symlinks=False)
        if stat.S_ISLNK(status.st_mode):
            return f"link {os.readlink(name, dir_fd=directory)}", None
        if not stat.S_ISREG(status.st_mode):
            return None, None
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        descriptor = os.open(name, flags, dir_fd=directory)
    except OSError:
        return None, None
    with os.fdopen(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            return None, None
        data = file.read(MAX_CONTENT_BYTES + 1)
    if len(data) > MAX_CONTENT_BYTES:
        return f"large {status.st_ino} {status.st_size} {status.st_ctime_ns}", None
    content = Content(data, stat.S_IMODE(status.st_mode))
    if is_configuration:
        settings = "\n".join(settings_that_run_programs(data))
        return _digest(settings.encode("utf-8", "surrogateescape")) if settings else None, content
    return f"{_digest(data)} {'x' if status.st_mode & 0o111 else '-'}", content


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _open_directory(directory: int, name: str) -> int | None:
    try:
        return os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)
    except OSError:
        return None
