"""Reads `AGENTS.md` of a workspace: what whoever keeps the files wants agents to know. It is not trusted.

Opened as every file of the workspace is, so it cannot lead out of it. Read again only when it has changed.
"""

import os
from dataclasses import dataclass
from hashlib import sha256
from typing import Final

from pydantic_ai.workspaces import WorkspaceUnavailableError

from agent_runner.workspace.isolated_files import IsolatedFiles
from agent_runner.workspace.session_workspace import SessionWorkspace

AGENTS_FILE: Final = "AGENTS.md"
MAX_AGENTS_FILE_BYTES: Final = 32 * 1024
"""What is told of one; the same as Codex takes (`project_doc_max_bytes`, 2026-11)."""

_Stamp = tuple[int, ...]


@dataclass(frozen=True)
class AgentsFile:
    """The file as it was found."""

    digest: str
    """Of its state, empty where there is none."""
    text: str = ""
    """Its beginning, at most `MAX_AGENTS_FILE_BYTES`, as far as it is text."""
    size_bytes: int = 0
    problem: str | None = None
    """Why it was not read, in words."""

    @property
    def is_cut(self) -> bool:
        """Whether there is more of it than `text`."""
        return self.size_bytes > MAX_AGENTS_FILE_BYTES


NO_FILE: Final = AgentsFile("")


class AgentsFileReader:
    """The `AGENTS.md` of one workspace."""

    def __init__(self, workspace: SessionWorkspace) -> None:
        self._workspace = workspace
        self._known: tuple[_Stamp, AgentsFile] | None = None

    async def read(self) -> AgentsFile:
        """The file as it is now; where the workspace is gone, as it was last: the tools find that out."""
        try:
            directory = await self._workspace.working_dir()
            return await self._workspace.soon(lambda files: self._read(files, f"{directory}/{AGENTS_FILE}"))
        except WorkspaceUnavailableError:
            return NO_FILE if self._known is None else self._known[1]
        except (FileNotFoundError, NotADirectoryError):
            return NO_FILE
        except OSError as error:
            problem = (error.strerror or str(error)).lower()
            return AgentsFile(_digest(problem.encode()), problem=problem)

    def _read(self, files: IsolatedFiles, path: str) -> AgentsFile:
        with files.opened(path) as file:
            status = os.fstat(file.fileno())
            stamp = (status.st_dev, status.st_ino, status.st_mtime_ns, status.st_ctime_ns, status.st_size)
            if self._known is None or self._known[0] != stamp:
                content = file.read(MAX_AGENTS_FILE_BYTES + 1)
                self._known = (stamp, _described(content, status.st_size))
            return self._known[1]


def _described(content: bytes, size_bytes: int) -> AgentsFile:
    size_bytes = max(size_bytes, len(content))
    # What is not told does not count, or a file that grows at its end would be told again and again.
    content = content[:MAX_AGENTS_FILE_BYTES]
    digest = _digest(content)
    if b"\0" in content:
        return AgentsFile(digest, size_bytes=size_bytes, problem="it is not text")
    text = content.decode("utf-8-sig", errors="replace").strip()
    if size_bytes > MAX_AGENTS_FILE_BYTES:
        text = text.rstrip("\ufffd")  # half a character at the cut
    return AgentsFile(digest, text, size_bytes) if text else NO_FILE


def _digest(content: bytes) -> str:
    return sha256(content).hexdigest()[:16]
